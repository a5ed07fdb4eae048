//! The stand-in for a Metal device on Linux: the kernels compiled with g++ and run by a process of
//! their own, thread by thread. tests/metal/README.md says how.

use super::super::module::element;
use crate::gpu::Gpu;
use crate::gpu::bytes::arguments;
use crate::gpu::launch::{Launch, Slot};
use crate::plan::Caps;
use candle_core::{CpuStorage, DType, Error, Result};
use half::{bf16, f16};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The bytes of a number of the workspace.
const NUMBER: usize = size_of::<f32>();

/// The sanitizer that watches the kernels while they run.
#[derive(Debug, Clone, Copy, Hash)]
pub enum Sanitizer {
    /// Nothing: wrong results alone tell.
    None,
    /// Accesses outside of buffers, and 16-byte accesses that are not aligned.
    Address,
    /// Accesses that no barrier orders.
    Thread,
}

impl Sanitizer {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::None => &["-O0"],
            Self::Address => &[
                "-O1",
                "-fsanitize=address,alignment",
                "-fno-sanitize-recover=alignment",
            ],
            Self::Thread => &["-O1", "-fsanitize=thread"],
        }
    }
}

/// Elements of one dtype, as bytes.
#[derive(Debug)]
pub struct Memory {
    dtype: DType,
    bytes: RefCell<Vec<u8>>,
}

impl Memory {
    pub fn new(dtype: DType, values: impl IntoIterator<Item = f64>) -> Self {
        let put = |v: f64| match dtype {
            DType::F32 => (v as f32).to_ne_bytes().to_vec(),
            DType::F16 => f16::from_f64(v).to_ne_bytes().to_vec(),
            DType::BF16 => bf16::from_f64(v).to_ne_bytes().to_vec(),
            other => panic!("{other:?}"),
        };
        Self {
            dtype,
            bytes: RefCell::new(values.into_iter().flat_map(put).collect()),
        }
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn to_f64(&self) -> Vec<f64> {
        let get = |b: &[u8]| match self.dtype {
            DType::F32 => f32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as f64,
            DType::F16 => f16::from_ne_bytes([b[0], b[1]]).to_f64(),
            DType::BF16 => bf16::from_ne_bytes([b[0], b[1]]).to_f64(),
            other => panic!("{other:?}"),
        };
        let bytes = self.bytes.borrow();
        bytes.chunks(self.dtype.size_in_bytes()).map(get).collect()
    }

    /// The numbers for the CPU backend, which then computes in f64.
    pub fn wide(&self) -> CpuStorage {
        CpuStorage::F64(self.to_f64())
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self {
            dtype: self.dtype,
            bytes: self.bytes.clone(),
        }
    }
}

/// A device with the kernels of one dtype.
pub struct Shim {
    runner: Runner,
    cores: Cell<usize>,
    launches: Cell<u64>,
    /// The kernels that there are.
    pub entries: BTreeSet<String>,
    /// The kernels that were launched.
    pub seen: RefCell<BTreeSet<String>>,
}

impl Shim {
    pub fn new(source: &str, sanitizer: Sanitizer) -> Result<Self> {
        let program = build(source, sanitizer)?;
        Ok(Self {
            entries: entries(&program)?,
            runner: Runner::start(&program)?,
            cores: Cell::new(8),
            launches: Cell::new(0),
            seen: RefCell::default(),
        })
    }

    /// Sets the size of the device that launches are planned for.
    pub fn with_cores(&self, cores: usize) -> &Self {
        self.cores.set(cores);
        self
    }
}

impl Gpu for Shim {
    type Storage = Memory;
    type Real = f32;

    const SUMS_PER_LAUNCH: usize = 1;

    fn check(dtype: DType) -> Result<()> {
        element(dtype).map(|_| ())
    }

    fn dtype(storage: &Memory) -> DType {
        storage.dtype
    }

    fn caps(&self) -> Caps {
        Caps::metal(self.cores.get())
    }

    /// NaN, in every dtype: what a launch leaves out shows.
    fn alloc(&self, dtype: DType, len: usize) -> Result<Memory> {
        let bytes = RefCell::new(vec![0xff; len * dtype.size_in_bytes()]);
        Ok(Memory { dtype, bytes })
    }

    fn zeros(&self, dtype: DType, len: usize) -> Result<Memory> {
        let bytes = RefCell::new(vec![0; len * dtype.size_in_bytes()]);
        Ok(Memory { dtype, bytes })
    }

    unsafe fn launch(&self, launch: Launch<Self>) -> Result<()> {
        let entry = launch.kernel.entry();
        // A memory of its own for each slot of the workspace, so that whatever is written beyond it is noticed.
        let (mut pieces, mut bound) = (vec![], vec![]);
        for slot in Slot::BUFFERS {
            let Some(at) = launch.buffers.iter().position(|b| b.has(slot)) else {
                continue;
            };
            let range = match launch.workspace.range(slot) {
                Some(numbers) => numbers.start * NUMBER..numbers.end * NUMBER,
                None => 0..launch.buffers[at].storage().bytes.borrow().len(),
            };
            let piece = (at, range);
            let known = pieces.iter().position(|p| *p == piece);
            bound.push([slot as usize, known.unwrap_or(pieces.len())]);
            if known.is_none() {
                pieces.push(piece);
            }
        }
        let memory_of = |at: usize| launch.buffers[at].storage().bytes.borrow_mut();
        let before = pieces
            .iter()
            .map(|(at, range)| memory_of(*at)[range.clone()].to_vec());
        let before: Vec<Vec<u8>> = before.collect();
        let mut message = Message::default();
        message.blob(entry.as_bytes());
        let order = self.launches.replace(self.launches.get() + 1);
        for n in [
            launch.size.grid as u64,
            launch.size.threads as u64,
            order % 4,
        ] {
            message.number(n);
        }
        for bytes in arguments(&launch) {
            message.blob(bytes);
        }
        message.number(before.len() as u64);
        before.iter().for_each(|bytes| message.blob(bytes));
        message.number(bound.len() as u64);
        bound
            .iter()
            .flatten()
            .for_each(|&n| message.number(n as u64));

        let mut answers = before.clone();
        if self.runner.exchange(&message.0, &mut answers).is_err() {
            let why = self.runner.last_words();
            return Err(Error::Msg(format!("{entry}: {why}")));
        }
        for (((at, range), before), answer) in pieces.into_iter().zip(before).zip(answers) {
            if !launch.buffers[at].is_written() && before != answer {
                let message = format!("{entry}: writes a buffer that the launch only reads");
                return Err(Error::Msg(message));
            }
            memory_of(at)[range].copy_from_slice(&answer);
        }
        self.seen.borrow_mut().insert(entry);
        Ok(())
    }
}

/// The message that the runner reads.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, n: u64) {
        self.0.extend(n.to_ne_bytes());
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

/// The process that runs launches.
struct Runner(RefCell<Child>);

impl Runner {
    fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(Self(RefCell::new(command.spawn()?)))
    }

    /// Sends a launch and reads as many bytes as there are in `answers`.
    fn exchange(&self, message: &[u8], answers: &mut [Vec<u8>]) -> io::Result<()> {
        let mut child = self.0.borrow_mut();
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let to = child.stdin.as_mut().ok_or_else(closed)?;
        to.write_all(message)?;
        to.flush()?;
        let from = child.stdout.as_mut().ok_or_else(closed)?;
        answers.iter_mut().try_for_each(|a| from.read_exact(a))
    }

    /// Why it ended.
    fn last_words(&self) -> String {
        let mut child = self.0.borrow_mut();
        drop(child.stdin.take());
        let mut words = String::new();
        if let Some(mut from) = child.stderr.take() {
            let _ = from.read_to_string(&mut words);
        }
        match child.wait() {
            Ok(status) => format!("the runner ended with {status}\n{words}"),
            Err(e) => e.to_string(),
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let mut child = self.0.borrow_mut();
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

/// The source as g++ takes it: what the shim's metal_stdlib cannot do with macros.
fn translated(source: &str) -> String {
    let attribute = "[[max_total_threads_per_threadgroup(THREADS)]] kernel";
    assert_eq!(source.matches(attribute).count(), 1, "{attribute}");
    let line =
        |line: &str| match line.trim_start().starts_with("threadgroup ") && line.contains(';') {
            true => line.replacen("threadgroup", "THREADGROUP_MEMORY", 1),
            false => line.to_string(),
        };
    let lines: Vec<String> = source
        .replace(attribute, "kernel")
        .lines()
        .map(line)
        .collect();
    lines.join("\n")
}

/// Compiles the kernels with what runs them, unless that was done before.
fn build(source: &str, sanitizer: Sanitizer) -> Result<PathBuf> {
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metal");
    let source = translated(source);
    let mut hasher = DefaultHasher::new();
    (&source, sanitizer).hash(&mut hasher);
    for file in [
        "include/metal_stdlib",
        "threadgroup.h",
        "threadgroup.cpp",
        "runner.cpp",
    ] {
        std::fs::read(shim.join(file))?.hash(&mut hasher);
    }
    let name = format!("{:016x}", hasher.finish());
    let exe = std::env::current_exe()?;
    let all = exe.parent().unwrap_or(Path::new(".")).join("metal-kernels");
    let program = all.join(&name);
    if program.exists() {
        return Ok(program);
    }
    let mine = all.join(format!("{name}.{}", std::process::id()));
    std::fs::create_dir_all(&mine)?;
    std::fs::write(mine.join("kernels.cpp"), source)?;
    let compile = |file: &Path, object: &str, flags: &[&str]| {
        let include = [shim.join("include"), shim.clone()];
        let mut command = Command::new("g++");
        // Attributes and pragmas are Metal's.
        command
            .args(["-std=c++17", "-g1", "-ffp-contract=off"])
            .args(["-Wall", "-Wextra", "-Werror"])
            .args([
                "-Wno-attributes",
                "-Wno-unknown-pragmas",
                "-Wno-unused-parameter",
            ])
            .args(flags)
            .args(include.iter().map(|dir| format!("-I{}", dir.display())))
            .arg("-c")
            .arg(file)
            .arg("-o")
            .arg(mine.join(object));
        output(&mut command)
    };
    let watched = sanitizer.flags();
    compile(&mine.join("kernels.cpp"), "kernels.o", watched)?;
    compile(&shim.join("runner.cpp"), "runner.o", watched)?;
    let of_threads: &[&str] = match sanitizer {
        Sanitizer::Thread => &["-O1", "-DUNDER_TSAN"],
        _ => &["-O1"],
    };
    compile(&shim.join("threadgroup.cpp"), "threadgroup.o", of_threads)?;
    let objects = ["kernels.o", "runner.o", "threadgroup.o"].map(|o| mine.join(o));
    let linked = mine.join("linked");
    let mut link = Command::new("g++");
    link.arg("-rdynamic").args(watched).args(objects);
    output(link.arg("-o").arg(&linked).arg("-ldl"))?;
    std::fs::rename(&linked, &program)?;
    std::fs::remove_dir_all(&mine)?;
    Ok(program)
}

/// The kernels in a program.
fn entries(program: &Path) -> Result<BTreeSet<String>> {
    let mut nm = Command::new("nm");
    let symbols = output(nm.args(["--dynamic", "--defined-only"]).arg(program))?;
    let names = symbols
        .lines()
        .filter_map(|line| line.split(' ').next_back());
    Ok(names
        .filter(|name| name.starts_with("in_"))
        .map(str::to_string)
        .collect())
}

/// The standard output of a command.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|e| {
        let program = command.get_program().to_string_lossy().into_owned();
        Error::Msg(format!(
            "the Metal kernels are tested as C++, with g++ and nm: {program}: {e}"
        ))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Msg(format!("{command:?}\n{said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
