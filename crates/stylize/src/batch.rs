//! Pictures from files to files, one after the other.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use candle_core::DType;
use image::ImageFormat;
use indicatif::{ProgressBar, ProgressStyle};

use crate::error_line;
use crate::options::Options;
use crate::picture::{format_of, list};
use crate::studio::Studio;

/// The steps of the progress bar for a picture.
const STEPS: u64 = 1000;

/// An input to read and an output to write.
struct Task {
    input: PathBuf,
    output: PathBuf,
    format: ImageFormat,
}

/// The time that all pictures took, by its use.
#[derive(Default)]
struct Times {
    read: Duration,
    network: Duration,
    write: Duration,
}

/// Restyles all inputs. One that fails does not stop the others.
pub fn run(options: &Options, output: &Path) -> Result<()> {
    let tasks = tasks(&options.input, output)?;
    let start = Instant::now();
    let mut studio = Studio::open(options)?;
    studio.take_styles(options)?;
    let loading = start.elapsed();

    let bar = ProgressBar::new(STEPS * tasks.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {wide_bar} {percent}% {eta}",
    )?);
    let mut times = Times::default();
    let mut failed = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        bar.set_message(task.input.display().to_string());
        let step = |done: usize, all: usize| {
            bar.set_position(STEPS * index as u64 + STEPS * done as u64 / all as u64)
        };
        match restyle(options, &studio, task, &mut times, &step) {
            Ok(line) => bar.suspend(|| say(line)),
            Err(error) => failed.push(error),
        }
        step(1, 1);
    }
    bar.finish_and_clear();

    say(format_args!(
        "{:.2} s for the weights, {:.2} s to read, {:.2} s in the network, {:.2} s to write",
        loading.as_secs_f64(),
        times.read.as_secs_f64(),
        times.network.as_secs_f64(),
        times.write.as_secs_f64(),
    ));
    match (failed.len(), tasks.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(failed.remove(0)),
        (count, all) => {
            for error in failed {
                eprintln!("{}", error_line(&error));
            }
            bail!("{count} of {all} pictures were not made")
        }
    }
}

/// Prints a line. A reader that has seen enough (`| head`) is no reason to stop.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Restyles an input, and returns the line to print.
fn restyle(
    options: &Options,
    studio: &Studio,
    task: &Task,
    times: &mut Times,
    step: &dyn Fn(usize, usize),
) -> Result<String> {
    let start = Instant::now();
    let mut picture = studio.read(&task.input, options)?;
    let read = start.elapsed();

    let styled = studio.restyle(options, &picture.rgb, options.alpha(), step);
    picture.rgb = styled.with_context(|| format!("cannot restyle {}", task.input.display()))?;
    let network = start.elapsed() - read;

    picture.write(&task.output, task.format)?;
    times.read += read;
    times.network += network;
    times.write += start.elapsed() - read - network;
    let (width, height) = picture.rgb.dimensions();
    Ok(format!(
        "{}: {width}x{height} in {:.2} s ({}, {})",
        task.output.display(),
        network.as_secs_f64(),
        options.device.name(),
        DType::from(options.dtype).as_str(),
    ))
}

/// The inputs and their outputs: for one file a file, else files in a folder, which is made if there
/// is none.
fn tasks(inputs: &[PathBuf], output: &Path) -> Result<Vec<Task>> {
    let pictures = list(inputs)?;
    let one = matches!(inputs, [input] if !input.is_dir());
    let into_folder = !one || output.is_dir();
    let task = |input: PathBuf| {
        let output = match input.file_name() {
            Some(name) if into_folder => output.join(name),
            _ => output.to_path_buf(),
        };
        let format = format_of(&output)?;
        let same = input.canonicalize().ok().zip(output.canonicalize().ok());
        ensure!(
            same.is_none_or(|(input, output)| input != output),
            "{} would be written over itself",
            input.display()
        );
        Ok(Task {
            input,
            output,
            format,
        })
    };
    let tasks = pictures.into_iter().map(task).collect::<Result<Vec<_>>>()?;
    let mut outputs = BTreeSet::new();
    if let Some(twice) = tasks.iter().find(|task| !outputs.insert(&task.output)) {
        bail!(
            "two pictures would be written to {}",
            twice.output.display()
        );
    }
    if into_folder {
        fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    }
    Ok(tasks)
}
