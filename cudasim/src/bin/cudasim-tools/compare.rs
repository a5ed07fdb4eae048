//! Every test twice, on the emulator and on another device (or schedule), and the bytes that it
//! copied to and from the device side by side.

use crate::suite::{End, Test, tests, values};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A copy: `>` to the device or `<` from it.
type Copy = (u8, Vec<u8>);

fn copies(file: &Path) -> Result<Vec<Copy>, String> {
    let data = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let (mut rest, mut copies) = (&data[..], Vec::new());
    while let [direction, after @ ..] = rest {
        let (length, after) = after.split_first_chunk().ok_or("a record that does not end")?;
        let (bytes, after) =
            after.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or("a record that does not end")?;
        copies.push((*direction, bytes.to_vec()));
        rest = after;
    }
    Ok(copies)
}

pub fn run(emulator: &str, other: &str, arguments: &[&str]) -> Result<bool, String> {
    let (mut equal, mut bytes, mut different) = (0, 0, Vec::new());
    let tests = tests(emulator, &values(arguments, "--test"))?;
    for test in &tests {
        let here = record(test, emulator, "emulator")?;
        let there = record(test, emulator, other)?;
        match difference(&here, &there) {
            None => {
                equal += 1;
                bytes += here.iter().filter(|c| c.0 == b'<').map(|c| c.1.len()).sum::<usize>();
            }
            Some(what) => different.push(format!("{}: {what}", test.name)),
        }
    }
    println!(
        "{equal} of {} tests copy the same bytes from the emulator and from {other}, {bytes} bytes in all",
        tests.len()
    );
    different.iter().for_each(|line| println!("  {line}"));
    Ok(different.is_empty())
}

/// The copies of a test on a device: the emulator, in one of its schedules, or the GPU.
fn record(test: &Test, emulator: &str, device: &str) -> Result<Vec<Copy>, String> {
    let file = PathBuf::from(emulator).join(format!("{}.record", std::process::id()));
    let mut command = test.command();
    command.env("LD_PRELOAD", format!("{emulator}/record.so")).env("RECORD", &file);
    match device.strip_prefix("schedule-") {
        Some(order) => drop(command.env("LD_LIBRARY_PATH", emulator).env("CUDASIM_ORDER", order)),
        None if device == "gpu" => {}
        None => drop(command.env("LD_LIBRARY_PATH", emulator).env_remove("CUDASIM_ORDER")),
    }
    let (end, _) = test.run(&mut command, Duration::from_secs(1800))?;
    if !matches!(end, End::Passed) {
        return Err(format!("{} fails on {device}", test.name));
    }
    let copies = match file.exists() {
        true => copies(&file)?,
        false => Vec::new(), // a test of the errors that come before any copy
    };
    let _ = std::fs::remove_file(&file);
    Ok(copies)
}

/// Results are compared in their order; inputs in any, since a file's tensors come in any.
fn difference(here: &[Copy], there: &[Copy]) -> Option<String> {
    let of = |copies: &[Copy], direction| -> Vec<Vec<u8>> {
        copies.iter().filter(|c| c.0 == direction).map(|c| c.1.clone()).collect()
    };
    let inputs = |copies| {
        let mut inputs = of(copies, b'>');
        inputs.sort_unstable();
        inputs
    };
    if inputs(here) != inputs(there) {
        return Some("the inputs differ, not only the results".to_string());
    }
    let (here, there) = (of(here, b'<'), of(there, b'<'));
    if here.len() != there.len() {
        return Some(format!("{} results, and {}", here.len(), there.len()));
    }
    let (i, (a, b)) = here.iter().zip(&there).enumerate().find(|(_, (a, b))| a != b)?;
    let differ = || a.iter().zip(b).enumerate().filter(|(_, (x, y))| x != y).map(|(at, _)| at);
    let at = differ().next()? / 4 * 4;
    let word = |c: &[u8]| format!("{:02x?}", &c[at..c.len().min(at + 4)]);
    Some(format!("result {i}: {} of {} bytes differ, at {at} {} and {}", differ().count(), a.len(), word(a), word(b)))
}
