//! One picture after the other.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use candle_core::DType;
use candle_style_models::weights::Weights;
use image::imageops::{resize, FilterType};
use image::{ImageFormat, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arch::{self, Example, Needs, Network, Setup, Style};
use crate::labels::Labels;
use crate::options::Options;
use crate::picture::{format_of, Picture};
use crate::tiles::Runner;
use crate::{builtin, colour, error_line};

/// The bar counts thousandths of a picture.
const STEPS: u64 = 1000;

/// A picture to make.
struct Task {
    input: PathBuf,
    output: PathBuf,
    format: ImageFormat,
}

/// Where the time went.
#[derive(Default)]
struct Times {
    read: Duration,
    network: Duration,
    write: Duration,
}

/// Makes all pictures. One that cannot be made does not keep the others from it.
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
        match make(options, &studio, task, &mut times, &step) {
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

/// A line on stdout. That nobody reads on (`| head`) is no reason to stop.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Where the demonstration goes.
const DEMO: &str = "stylize-demo.png";

/// Restyles the picture that is built in.
pub fn demo(options: &Options) -> Result<()> {
    let start = Instant::now();
    let mut studio = Studio::open(options)?;
    studio.take_styles(options)?;
    let mut picture = Picture {
        rgb: builtin::picture(),
        alpha: None,
    };
    if let Some(side) = options.max_size {
        picture = picture.at_most(side);
    }
    picture.rgb = studio.restyle(options, &picture.rgb, options.alpha(), &|_, _| ())?;
    picture.write(Path::new(DEMO), ImageFormat::Png)?;
    let folder = std::env::current_dir().context("cannot name the current directory")?;
    say(format_args!(
        "{}: a painting, in {:.2} s",
        folder.join(DEMO).display(),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A network, and how to run it.
pub struct Studio {
    network: Box<dyn Network>,
    runner: Runner,
    /// Of a network that takes maps.
    labels: Option<Labels>,
}

/// A picture in a style.
pub struct Sample<'a> {
    pub rgb: &'a RgbImage,
    /// Its part of the whole.
    pub share: f64,
    /// The place of its `--style`.
    pub index: usize,
}

impl Studio {
    /// Loads the network that the options name, or the one that is built in.
    pub fn open(options: &Options) -> Result<Self> {
        let setup = Setup {
            dtype: options.dtype.into(),
            device: options.device.open()?,
            upsampling: options.upsampling,
        };
        let weights = match &options.weights {
            Some(path) => Weights::open(path)?,
            None => builtin::weights()?,
        };
        let network = arch::load(&weights, options.arch.as_deref(), &setup)?;
        options.suit(network.needs())?;
        let labels = match network.needs() {
            Needs::Labels(channels) => Some(Labels::new(channels, options.labels)?),
            _ => None,
        };
        let runner = Runner {
            device: setup.device,
            dtype: setup.dtype,
            tile: options.tile,
        };
        Ok(Self {
            network,
            runner,
            labels,
        })
    }

    /// Mixes the styles of the options.
    fn take_styles(&mut self, options: &Options) -> Result<()> {
        let all: f64 = options.style_weight.iter().sum();
        let styles = options.style.iter().map(|path| picture(path, options));
        let styles = styles.collect::<Result<Vec<_>>>()?;
        let share = |index: usize| match options.style_weight.get(index) {
            Some(weight) => weight / all,
            None => 1. / options.style.len() as f64,
        };
        let samples = styles.iter().enumerate().map(|(index, style)| Sample {
            rgb: &style.rgb,
            share: share(index),
            index,
        });
        let samples: Vec<_> = samples.collect();
        self.set_style(options, &samples, options.alpha())
    }

    /// Takes the style of pictures, as much of it as `alpha` says.
    pub fn set_style(&mut self, options: &Options, samples: &[Sample], alpha: f64) -> Result<()> {
        let example = |sample: &Sample| {
            let x = match self.network.needs() {
                Needs::Domain { side, .. } => {
                    let rgb = resize(sample.rgb, side, side, FilterType::Triangle);
                    self.network.pixels().to_tensor(&rgb, 0..side, 0..side)?
                }
                _ => {
                    let (width, height) = sample.rgb.dimensions();
                    self.network
                        .pixels()
                        .to_tensor(sample.rgb, 0..width, 0..height)?
                }
            };
            let x = x.to_device(&self.runner.device)?;
            anyhow::Ok(Example {
                x: x.to_dtype(self.runner.dtype)?,
                share: sample.share,
                domain: options.domain(sample.index),
            })
        };
        let examples = samples.iter().map(example).collect::<Result<Vec<_>>>()?;
        self.network.set_style(&Style {
            examples: &examples,
            alpha,
            domain: options.domain(0),
            seed: options.seed,
        })
    }

    /// Reads an input: a picture, or a map for a network that takes those.
    fn read(&self, path: &Path, options: &Options) -> Result<Picture> {
        let Some(labels) = self.labels else {
            return picture(path, options);
        };
        let instances = options
            .instances
            .as_ref()
            .map(|things| match path.file_name() {
                Some(name) if things.is_dir() => things.join(name),
                _ => things.clone(),
            });
        Ok(Picture {
            rgb: labels.read(path, instances.as_deref(), options.max_size)?,
            alpha: None,
        })
    }

    /// The picture in its new style. Of a network that can only apply all of it, the result is
    /// mixed with the picture.
    pub fn restyle(
        &self,
        options: &Options,
        original: &RgbImage,
        alpha: f64,
        step: &dyn Fn(usize, usize),
    ) -> Result<RgbImage> {
        let mut styled = self.runner.run(&*self.network, original, step)?;
        if alpha < 1. && self.network.needs() != Needs::Styles {
            colour::blend(&mut styled, original, alpha);
        }
        if options.preserve_color {
            colour::preserve(&mut styled, original);
        }
        Ok(styled)
    }
}

/// Makes a picture; the line that says so.
fn make(
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

/// Reads a picture, reduced as the options say.
fn picture(path: &Path, options: &Options) -> Result<Picture> {
    let picture = Picture::read(path)?;
    Ok(match options.max_size {
        Some(side) => picture.at_most(side),
        None => picture,
    })
}

/// What to read and where to write it: a file for a file, and a folder, made where there is none,
/// for several or for a folder.
fn tasks(inputs: &[PathBuf], output: &Path) -> Result<Vec<Task>> {
    let pictures = pictures(inputs)?;
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

/// The inputs, with the pictures that are in them in the place of folders.
pub fn pictures(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            pictures.push(input.clone());
            continue;
        }
        let shown = input.display();
        let files = input
            .read_dir()
            .with_context(|| format!("cannot read {shown}"))?;
        let mut files = files
            .map(|file| Ok(file.with_context(|| format!("cannot read {shown}"))?.path()))
            .collect::<Result<Vec<_>>>()?;
        files.retain(|file| file.is_file() && format_of(file).is_ok());
        ensure!(!files.is_empty(), "{shown} holds no .png, .jpg or .webp");
        files.sort();
        pictures.extend(files);
    }
    Ok(pictures)
}
