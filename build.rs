//! Compiles `kernels/*.cu` to PTX with nvcc where the `cuda` feature is on; does nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "src/tuning.rs"]
mod tuning;

/// The baseline, which a T4 runs, and Hopper. The driver compiles either for newer devices.
const ARCHS: [u32; 2] = [75, 90];
const KERNELS: [&str; 2] = ["in_fwd", "in_bwd"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/tuning.rs");
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "PATH", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Err(message) = compile() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn compile() -> Result<(), String> {
    let nvcc = find_nvcc()?;
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?);
    let baseline = baseline()?;
    for kernel in KERNELS {
        for (name, arch) in [("baseline", baseline), ("hopper", ARCHS[1].max(baseline))] {
            let target = out.join(format!("{kernel}.{name}.ptx"));
            run_nvcc(
                &nvcc,
                Path::new(&format!("kernels/{kernel}.cu")),
                &target,
                arch,
            )?;
        }
    }
    Ok(())
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

fn run_nvcc(nvcc: &Path, source: &Path, target: &Path, arch: u32) -> Result<(), String> {
    let mut command = Command::new(nvcc);
    command.args([
        "-ptx",
        "-std=c++17",
        "-O3",
        "-lineinfo",
        "--Werror",
        "all-warnings",
    ]);
    command.arg(format!("-arch=compute_{arch}"));
    command.args(tuning::ALL.map(|(name, value)| format!("-D{name}={value}")));
    let output = command
        .arg(source)
        .arg("-o")
        .arg(target)
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
            "nvcc failed on {} for compute_{arch}: {first}",
            source.display()
        ));
    }
    Ok(())
}
