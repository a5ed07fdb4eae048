//! The CUDA tests: which there are, and running one of them in a process of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Clone)]
pub struct Test {
    pub binary: PathBuf,
    pub name: String,
}

pub enum End {
    Passed,
    Failed,
    TimedOut,
}

impl Test {
    /// `golden: forward_cuda`
    pub fn label(&self) -> String {
        let binary = self.binary.file_stem().unwrap_or_default().to_string_lossy();
        let stem = binary.rsplit_once('-').map_or(&*binary, |(stem, _)| stem);
        format!("{stem}: {}", self.name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--exact", &self.name, "--test-threads=1"]);
        // The same random cases each time.
        command.env("PROPTEST_RNG_SEED", "1").stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs it; kills it after `limit`.
    pub fn run(&self, command: &mut Command, limit: Duration) -> Result<(End, Duration), String> {
        let began = Instant::now();
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.label()))?;
        loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok((End::Passed, began.elapsed())),
                Some(_) => return Ok((End::Failed, began.elapsed())),
                None if began.elapsed() > limit => {
                    child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
                    return Ok((End::TimedOut, began.elapsed()));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// The tests with `cuda` in their names, of all test binaries or of those named.
pub fn tests(emulator: &str, binaries: &[&str]) -> Result<Vec<Test>, String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--features", "cuda", "--no-run", "--message-format=json"]);
    match binaries {
        [] => command.arg("--tests"),
        _ => command.args(binaries.iter().flat_map(|binary| ["--test", *binary])),
    };
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot run cargo: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let executables = text.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    let mut tests = Vec::new();
    for binary in executables.map(PathBuf::from) {
        let list = Command::new(&binary).args(["--list", "cuda"]).env("LD_LIBRARY_PATH", emulator).output();
        let list = list.map_err(|e| format!("{}: {e}", binary.display()))?;
        for name in String::from_utf8_lossy(&list.stdout).lines().filter_map(|l| l.strip_suffix(": test")) {
            tests.push(Test { binary: binary.clone(), name: name.to_string() });
        }
    }
    if tests.is_empty() {
        return Err("found no CUDA tests".to_string());
    }
    Ok(tests)
}

/// The values of a repeated option, `--test golden --test layouts`.
pub fn values<'a>(arguments: &[&'a str], name: &str) -> Vec<&'a str> {
    arguments.windows(2).filter(|w| w[0] == name).map(|w| w[1]).collect()
}
