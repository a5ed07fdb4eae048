//! Tests in processes of their own, for environment variables that are read only once.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs the test of this name, in the file that `module_path!()` names, with these variables set, and
/// returns its stderr.
pub fn run(module: &str, test: &str, variables: &[(&str, &str)]) -> Result<String> {
    let (_, file) = module.split_once("::").context("no module")?;
    let name = format!("{file}::{test}");
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", &name, "--nocapture"])
        .envs(variables.iter().copied())
        .output()?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    // With a wrong name, no test would run and none would fail.
    let passed = output.status.success() && stdout.contains("1 passed");
    ensure!(passed, "{name}: {stdout}{stderr}");
    Ok(stderr.into_owned())
}
