//! Planted defects are reported, in every schedule, with the line they stand on; the same kernels
//! without them run without a report and compute what they should.

use cudasim::{Fault, Launch, Options, Order, Report, Simulator};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const N: usize = 512;
const THREADS: u32 = 128;

/// The committed PTX, and what the nvcc of this machine makes of the source, if there is one.
fn modules() -> &'static [String] {
    static MODULES: OnceLock<Vec<String>> = OnceLock::new();
    MODULES.get_or_init(compile)
}

fn compile() -> Vec<String> {
    let mut modules = vec![include_str!("defects.ptx").to_string()];
    let nvcc = std::env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    match nvcc.filter(|nvcc| nvcc.is_file()) {
        Some(nvcc) => {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("defects-{}.ptx", std::process::id()));
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/defects.cu");
            let mut command = Command::new(nvcc);
            command.args(["-ptx", "-std=c++17", "-O3", "-lineinfo", "-arch=compute_90"]);
            let done = command.arg(source).arg("-o").arg(&target).status().expect("run nvcc");
            assert!(done.success(), "nvcc fails on defects.cu");
            modules.push(std::fs::read_to_string(&target).expect("read the PTX"));
            std::fs::remove_file(target).expect("remove the PTX");
        }
        None => eprintln!("no CUDA_HOME: only the committed PTX is run"),
    }
    modules
}

struct Run {
    y: Vec<f32>,
    /// Races and uninitialised reads, and what ended the launch.
    reports: Vec<Report>,
    /// The writer of the first unexpected value.
    culprit: Option<Report>,
}

fn x(i: usize) -> f32 {
    (i * 7 % 31) as f32
}

fn run(ptx: &str, name: &str, order: Order, expected: &dyn Fn(usize) -> f32) -> Run {
    let mut simulator = Simulator::default();
    let module = simulator.load(ptx).expect("load");
    let kernel = simulator.kernel(module, name).expect("decode");
    let memory = &mut simulator.memory;
    let (input, output) = (memory.allocate(4 * N), memory.allocate(4 * N));
    let bytes: Vec<u8> = (0..N).flat_map(|i| x(i).to_le_bytes()).collect();
    memory.write(input, &bytes).expect("write x");
    if name.starts_with("lost_update") {
        memory.write(output, &[0; 4 * N]).expect("write y");
    }
    let mut launch = Launch::new([N as u32 / THREADS + name.starts_with("out") as u32, 1, 1], [THREADS, 1, 1]);
    if name.starts_with("block_barrier") || name.starts_with("relaxed_arrival") {
        launch.cluster = [2, 1, 1];
    }
    launch.cooperative = name.starts_with("grid_barrier");
    let options = Options { order, seed: 5, ..Options::default() };
    let arguments = [&input.to_le_bytes()[..], &output.to_le_bytes(), &(N as i32).to_le_bytes()].concat();
    let outcome = simulator.launch(module, &kernel, &launch, &options, arguments);
    let reports = outcome.map_or_else(|fatal| vec![fatal], |outcome| outcome.reports);
    let mut bytes = vec![0; 4 * N];
    simulator.memory.read(output, &mut bytes).expect("read y");
    let y: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let wrong = (0..N).find(|i| y[*i] != expected(*i));
    let culprit = wrong.and_then(|i| simulator.writer(&kernel, &launch, output + 4 * i as u64));
    Run { y, reports, culprit }
}

/// The lines of the source that are marked with a defect's name.
fn marked(name: &str) -> Vec<u32> {
    let source = include_str!("defects.cu").lines().zip(1..);
    source.filter(|(line, _)| line.trim_end().ends_with(&format!("// {name}"))).map(|(_, number)| number).collect()
}

fn check(name: &str, fault: Fault, expected: impl Fn(usize) -> f32) {
    let lines = marked(name);
    assert!(!lines.is_empty(), "no line of defects.cu is marked {name}");
    for ptx in modules() {
        for order in Order::ALL {
            let broken = run(ptx, name, order, &expected);
            let mut reports = broken.reports;
            reports.extend(broken.culprit.filter(|_| fault == Fault::Value));
            let found =
                reports.iter().find(|r| r.fault == fault).unwrap_or_else(|| panic!("{name}, {order:?}: {reports:?}"));
            assert_eq!(found.kernel, name);
            let (file, line) = found.source.clone().expect("a source line");
            assert!(file.ends_with("defects.cu") && lines.contains(&line), "{name}, {order:?}: {found}");
            assert!(found.thread[0] < THREADS && found.block[0] < 5, "{found}");

            let fixed = run(ptx, &format!("{name}_fixed"), order, &expected);
            assert_eq!(fixed.reports, [], "{name}_fixed, {order:?}");
            assert_eq!(fixed.y, (0..N).map(&expected).collect::<Vec<_>>(), "{name}_fixed, {order:?}");
        }
    }
}

const BLOCK: usize = THREADS as usize;

#[test]
fn missing_barrier() {
    check("missing_barrier", Fault::Race, |i| x(i / BLOCK * BLOCK + BLOCK - 1 - i % BLOCK));
}

#[test]
fn missing_shuffle_step() {
    check("missing_shuffle_step", Fault::Value, |i| (0..32).map(|lane| x(i / 32 * 32 + lane)).sum());
}

#[test]
fn wrong_mask() {
    check("wrong_mask", Fault::Synchronization, |i| if i % 32 == 31 { x(i) } else { x(i + 1) });
}

#[test]
fn out_of_bounds_by_one() {
    check("out_of_bounds", Fault::OutOfBounds, |i| 2. * x(i));
}

#[test]
fn divergent_barrier() {
    check("divergent_barrier", Fault::Synchronization, |i| if i % BLOCK == 0 { x(i) } else { x(i - 1) });
}

#[test]
fn shared_memory_overrun() {
    check("shared_overrun", Fault::OutOfBounds, |i| if i % BLOCK == BLOCK - 1 { x(i) } else { x(i + 1) });
}

#[test]
fn block_barrier_instead_of_cluster_barrier() {
    check("block_barrier", Fault::Race, |i| x(((i / BLOCK) ^ 1) * BLOCK + i % BLOCK));
}

#[test]
fn arrival_at_a_cluster_barrier_that_releases_nothing() {
    check("relaxed_arrival", Fault::Race, |i| x(((i / BLOCK) ^ 1) * BLOCK + i % BLOCK));
}

#[test]
fn misaligned_vector() {
    check("misaligned", Fault::Misaligned, x);
}

#[test]
fn missing_syncwarp() {
    check("missing_syncwarp", Fault::Race, |i| x(i ^ 1));
}

#[test]
fn update_that_is_not_atomic() {
    check("lost_update", Fault::Race, |i| if i == 0 { (N / BLOCK) as f32 } else { 0. });
}

#[test]
fn read_only_load_of_what_the_launch_writes() {
    check("stale_read", Fault::Race, |i| 2. * x(i));
}

#[test]
fn block_barrier_instead_of_grid_barrier() {
    check("grid_barrier", Fault::Race, |i| x((i + BLOCK) % N));
}
