//! Trains a small network of fast neural style for the style of a picture, on the CPU and with
//! nothing downloaded: fixed random filters measure the style.

mod adam;
mod checkpoint;
mod content;
mod filter_bank;
mod loss;
mod options;
mod painting;
mod plot;
mod trainer;

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use image::{ImageFormat, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};

use crate::atomic_write;
use crate::picture::Picture;
use crate::pixels::Pixels;
use content::Content;
use options::MIN_STYLE;
pub use options::Options;
use trainer::{Stream, Trainer, rng};

/// Trains the network of the options, from its last checkpoint if there is one.
pub fn run(options: &Options) -> Result<()> {
    let settings = options.settings();
    let style = style(options)?;
    write_png(options, "-style.png", style.clone())?;
    let (width, height) = style.dimensions();
    let style = Pixels::Unit.to_tensor(&style, 0..width, 0..height)?;
    let content = Content::open(options.content.as_deref())?;
    let mut trainer = Trainer::new(settings.clone(), &style, content)?;

    let state = options.beside("-state.safetensors");
    let mut before = 0.;
    if state.exists() {
        before = checkpoint::load(&state, &mut trainer, &settings)?;
        println!("resuming after step {}", trainer.done());
    }
    let start = Instant::now();
    let seconds = || before + start.elapsed().as_secs_f64();

    let bar = ProgressBar::new(settings.steps as u64).with_position(trainer.done() as u64);
    bar.set_style(ProgressStyle::with_template(
        "step {pos} of {len} {wide_bar} {msg} {eta}",
    )?);
    let stop = options
        .stop_at
        .unwrap_or(settings.steps)
        .min(settings.steps);
    while trainer.done() < stop {
        trainer.step()?;
        let done = trainer.done();
        if let Some([texture, content]) = trainer.losses.last() {
            bar.set_message(format!("texture {texture:.4}, content {content:.4}"));
        }
        bar.inc(1);
        if done.is_multiple_of(options.save_every as usize) || done == stop {
            checkpoint::save(&state, &trainer, &settings, seconds())?;
        }
    }
    bar.finish_and_clear();

    if trainer.done() < settings.steps {
        println!("stopped after step {}", trainer.done());
        return Ok(());
    }
    atomic_write::write(&options.output, |path| {
        candle_core::safetensors::save(&trainer.weights()?, path)?;
        anyhow::Ok(())
    })?;
    write_png(options, "-loss.png", plot::draw(&trainer.losses))?;
    println!(
        "{}: {} bytes, after {} steps in {:.0} s",
        options.output.display(),
        fs::metadata(&options.output)?.len(),
        trainer.done(),
        seconds()
    );
    fs::remove_file(&state).with_context(|| format!("cannot remove {}", state.display()))
}

/// The picture of the style.
fn style(options: &Options) -> Result<RgbImage> {
    let Some(path) = &options.style else {
        let mut numbers = rng(options.seed, Stream::Style);
        return Ok(painting::paint(options.style_size, &mut numbers));
    };
    let style = Picture::read(path)?.at_most(options.style_size).rgb;
    let (width, height) = style.dimensions();
    ensure!(
        width.min(height) >= MIN_STYLE,
        "a style must be at least {MIN_STYLE} pixels wide and high, {} comes to {width}x{height}",
        path.display()
    );
    Ok(style)
}

fn write_png(options: &Options, ending: &str, rgb: RgbImage) -> Result<()> {
    Picture { rgb, alpha: None }.write(&options.beside(ending), ImageFormat::Png)
}
