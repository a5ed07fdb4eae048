//! Compiles `kernels/cuda/*.cu` to PTX with nvcc where the `cuda` feature is on; does nothing else.
//!
//! What it writes is compressed to an eighth, and listed in `ptx.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

#[path = "src/tuning.rs"]
mod tuning;

/// The baseline, which a T4 runs, and Hopper. The driver compiles either for newer devices.
const ARCHS: [u32; 2] = [75, 90];
const BASELINE: &str = "baseline";
const HOPPER: &str = "hopper";
/// What is compiled for calls with nothing beside the normalization, and all but AdaIN for others.
const OF_ELEMENTS: [&str; 8] = [
    "in_fwd",
    "in_bwd",
    "in_groups_fwd",
    "in_groups_bwd",
    "split",
    "channels_last",
    "strip",
    ADAIN,
];
const ADAIN: &str = "in_adain";
const VARIANTS: [(&str, &str); 2] = [("plain", "-DPLAIN=true"), ("full", "-DPLAIN=false")];
const DTYPES: [(&str, &str); 4] = [
    ("f32", "float"),
    ("f16", "__half"),
    ("bf16", "__nv_bfloat16"),
    ("f64", "double"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Without it no crate is compiled again because PATH has changed.
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src/tuning.rs");
    println!("cargo::rerun-if-changed=kernels/cuda");
    println!("cargo::rerun-if-changed=kernels/shared");
    for name in ["NVCC", "CUDA_HOME", "PATH", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(message) = compile() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

/// A run of nvcc: source, target and the macros between them.
struct Unit {
    source: String,
    target: PathBuf,
    arch: u32,
    macros: Vec<String>,
}

fn compile() -> Result<(), String> {
    let nvcc = find_nvcc()?;
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?);
    let baseline = baseline()?;
    let mut sources = vec![("finish", String::from("finish"), None)];
    for source in OF_ELEMENTS {
        let variants = if source == ADAIN { 1 } else { 2 };
        for (variant, define) in &VARIANTS[..variants] {
            sources.push((source, format!("{source}.{variant}"), Some(*define)));
        }
    }
    let mut units = vec![];
    for (source, name, define) in &sources {
        for (dtype, element) in DTYPES {
            for (device, arch) in [(BASELINE, baseline), (HOPPER, ARCHS[1].max(baseline))] {
                let of_type = format!("-DELEMENT={element}");
                units.push(Unit {
                    source: format!("kernels/cuda/{source}.cu"),
                    target: out.join(format!("{name}.{dtype}.{device}.ptx")),
                    arch,
                    macros: define
                        .iter()
                        .map(|d| d.to_string())
                        .chain([of_type])
                        .collect(),
                });
            }
        }
    }
    in_parallel(&units, |unit| {
        run_nvcc(&nvcc, unit)?;
        pack(&unit.target)
    })?;
    let rows = sources
        .iter()
        .flat_map(|(_, name, _)| DTYPES.map(|(dtype, _)| format!("{name}.{dtype}")));
    let table = table(rows.collect(), &out);
    fs::write(out.join("ptx.rs"), table).map_err(|e| format!("ptx.rs: {e}"))
}

/// Compresses a PTX file, unless that is done.
fn pack(file: &Path) -> Result<(), String> {
    let failed = |e| format!("{}: {e}", file.display());
    let packed = file.with_extension("ptx.z");
    let modified = |file: &Path| file.metadata().and_then(|m| m.modified());
    if packed.exists() && modified(&packed).ok() >= modified(file).ok() {
        return Ok(());
    }
    let ptx = fs::read(file).map_err(failed)?;
    fs::write(&packed, miniz_oxide::deflate::compress_to_vec(&ptx, 6)).map_err(failed)
}

/// `PTX` for module.rs.
fn table(mut names: Vec<String>, out: &Path) -> String {
    names.sort();
    let mut rows = String::new();
    for name in &names {
        let of = |device| out.join(format!("{name}.{device}.ptx.z"));
        let (baseline, hopper) = (of(BASELINE), of(HOPPER));
        rows +=
            &format!("({name:?}, [include_bytes!({baseline:?}), include_bytes!({hopper:?})]),\n");
    }
    format!(
        "static PTX: [(&str, [&[u8]; 2]); {}] = [\n{rows}];\n",
        names.len()
    )
}

/// Runs `f` for all units on as many threads as cargo gives.
fn in_parallel(
    units: &[Unit],
    f: impl Fn(&Unit) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            f(unit)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.unwrap_or(1)).map(|_| scope.spawn(work)).collect();
        let mut results = threads.into_iter().map(|t| t.join());
        let panicked = |_| Err("a thread that ran nvcc panicked".into());
        results.try_for_each(|result| result.unwrap_or_else(panicked))
    })
}

/// compute_75, or what `CUDA_COMPUTE_CAP` asks for where that is older.
fn baseline() -> Result<u32, String> {
    let Ok(cap) = env::var("CUDA_COMPUTE_CAP") else {
        return Ok(ARCHS[0]);
    };
    let cap: u32 = cap.trim().replace('.', "").parse().map_err(|_| {
        format!("CUDA_COMPUTE_CAP: expected a number such as 75 or 9.0, got {cap:?}")
    })?;
    Ok(cap.min(ARCHS[0]))
}

fn find_nvcc() -> Result<PathBuf, String> {
    if let Some(nvcc) = env::var_os("NVCC") {
        return Ok(nvcc.into());
    }
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    home.into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(&name))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            "the `cuda` feature needs nvcc, which is neither in $CUDA_HOME/bin nor on PATH: \
             install the CUDA toolkit, or set NVCC to the compiler or CUDA_HOME to the toolkit"
                .to_string()
        })
}

/// The text of a source with that of what it includes of ours.
fn with_includes(source: &Path) -> Result<String, String> {
    let mut text = fs::read_to_string(source).map_err(|e| format!("{}: {e}", source.display()))?;
    let names: Vec<_> = text
        .lines()
        .filter_map(|l| l.strip_prefix("#include \""))
        .collect();
    let names: Vec<_> = names
        .iter()
        .map(|l| l.trim_end_matches('"').to_string())
        .collect();
    for name in names {
        text += &with_includes(&source.with_file_name(name))?;
    }
    Ok(text)
}

/// Runs nvcc unless its output is there: a change of one kernel compiles that one.
fn run_nvcc(nvcc: &Path, unit: &Unit) -> Result<(), String> {
    let Unit {
        source,
        target,
        arch,
        macros,
    } = unit;
    let mut command = Command::new(nvcc);
    command.args(["-ptx", "-std=c++17", "-O3", "--Werror", "all-warnings"]);
    // Half the size of the PTX, and what tells a profiler or a checker the line.
    if env::var("DEBUG").is_ok_and(|debug| debug != "false") {
        command.arg("-lineinfo");
    }
    command.arg(format!("-arch=compute_{arch}"));
    command.args(macros);
    command.args(tuning::ALL.map(|(name, value)| format!("-D{name}={value}")));
    command.arg(source).arg("-o").arg(target);
    let key = format!("{command:?}\n{}", with_includes(Path::new(source))?);
    let made_of = target.with_extension("made-of");
    if target.exists() && fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == key) {
        return Ok(());
    }
    let output = command
        .output()
        .map_err(|e| format!("cannot run nvcc at {}: {e}", nvcc.display()))?;
    if !output.status.success() || !fs::exists(target).unwrap_or(false) {
        // One line for cargo, the whole of it where a person looks next.
        let log = String::from_utf8_lossy(&output.stderr);
        eprintln!("{log}");
        let first = log
            .lines()
            .find(|l| l.contains("error"))
            .unwrap_or("no message");
        return Err(format!(
            "nvcc failed on {source} {} for compute_{arch}: {first}",
            macros.join(" ")
        ));
    }
    fs::write(&made_of, key).map_err(|e| format!("{}: {e}", made_of.display()))
}
