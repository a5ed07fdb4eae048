//! The CUDA tests: which there are, and running one of them in a process of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Clone)]
pub struct Test {
    pub binary: PathBuf,
    /// `golden::functional::cuda`
    pub name: String,
}

pub enum End {
    Passed,
    Failed,
    TimedOut,
}

impl Test {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--exact", &self.name, "--test-threads=1"]);
        // proptest draws the same random cases each time.
        command.env("PROPTEST_RNG_SEED", "1").stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs it; kills it after `limit`.
    pub fn run(&self, command: &mut Command, limit: Duration) -> Result<(End, Duration), String> {
        let began = Instant::now();
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.name))?;
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

/// The CUDA tests of the ops and of the networks, all or those of the modules named: `golden`, or
/// `golden::functional`.
pub fn tests(emulator: &str, modules: &[&str]) -> Result<Vec<Test>, String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--features", "cuda", "--test", "devices", "--test", "networks"]);
    command.args(["--no-run", "--message-format=json"]);
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot run cargo: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let executables = text.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    let mut tests = Vec::new();
    for binary in executables.map(PathBuf::from) {
        let list = Command::new(&binary).arg("--list").env("LD_LIBRARY_PATH", emulator).output();
        let list = list.map_err(|e| format!("{}: {e}", binary.display()))?;
        let list = String::from_utf8_lossy(&list.stdout);
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let on_cuda = names.filter(|name| name.ends_with("::cuda"));
        tests.extend(on_cuda.map(|name| Test { binary: binary.clone(), name: name.to_string() }));
    }
    let is_in = |test: &Test, module: &str| test.name.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"));
    if let Some(module) = modules.iter().find(|module| !tests.iter().any(|test| is_in(test, module))) {
        return Err(format!("found no CUDA tests in {module}"));
    }
    tests.retain(|test| modules.is_empty() || modules.iter().any(|module| is_in(test, module)));
    if tests.is_empty() {
        return Err("found no CUDA tests".to_string());
    }
    Ok(tests)
}

/// The values of a repeated option, `--test golden --test layouts`.
pub fn values<'a>(arguments: &[&'a str], name: &str) -> Vec<&'a str> {
    arguments.windows(2).filter(|w| w[0] == name).map(|w| w[1]).collect()
}
