//! `stylize train` from the outside: its files, which an interruption does not change.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::workshop::{Workshop, check_success};
use anyhow::{Result, ensure};
use candle_core::{DType, Device};
use candle_style_models::weights::Weights;
use candle_style_models::{TransformerNet, TransformerNetConfig};
use image::{Rgb, RgbImage};

/// The size of the network in the goldens, on pictures of 64x64.
const TINY: [&str; 10] = [
    "--width",
    "4",
    "--blocks",
    "2",
    "--batch",
    "1",
    "--side",
    "64",
    "--style-size",
    "128",
];

fn command(shop: &Workshop, output: &str, steps: usize, rest: &[&str]) -> Command {
    let steps = steps.to_string();
    let mut command = shop.command(&["train"]);
    command.args(TINY);
    command.args(["--output", output, "--steps", &steps]);
    command.args(rest);
    command
}

fn train(shop: &Workshop, output: &str, steps: usize, rest: &[&str]) -> Result<String> {
    check_success(&command(shop, output, steps, rest).output()?)
}

fn read(shop: &Workshop, name: &str) -> Result<Vec<u8>> {
    Ok(fs::read(shop.0.join(name))?)
}

#[test]
fn same_seed_same_bits_also_when_interrupted() -> Result<()> {
    let shop = Workshop::new("train-resume")?;
    let line = train(&shop, "whole.safetensors", 8, &[])?;
    assert!(line.contains("after 8 steps in"), "{line}");
    let whole = read(&shop, "whole.safetensors")?;

    train(&shop, "again.safetensors", 8, &[])?;
    ensure!(whole == read(&shop, "again.safetensors")?, "not repeatable");

    let half = train(&shop, "halves.safetensors", 8, &["--stop-at", "4"])?;
    assert!(half.contains("stopped after step 4"), "{half}");
    assert!(!shop.0.join("halves.safetensors").exists());
    let rest = train(&shop, "halves.safetensors", 8, &[])?;
    assert!(rest.contains("resuming after step 4"), "{rest}");
    ensure!(
        whole == read(&shop, "halves.safetensors")?,
        "4 + 4 is not 8"
    );
    let plots = ["whole-loss.png", "halves-loss.png"].map(|name| read(&shop, name).ok());
    assert!(plots[0].is_some() && plots[0] == plots[1]);

    // Killed, wherever it is.
    let mut killed = command(&shop, "killed.safetensors", 8, &["--save-every", "1"]);
    let mut killed = killed.spawn()?;
    let state = shop.0.join("killed-state.safetensors");
    while !state.exists() && killed.try_wait()?.is_none() {
        sleep(Duration::from_millis(5));
    }
    killed.kill()?;
    killed.wait()?;
    ensure!(state.exists(), "it was over before it could be killed");
    train(&shop, "killed.safetensors", 8, &["--save-every", "1"])?;
    ensure!(
        whole == read(&shop, "killed.safetensors")?,
        "what was killed is not what was not"
    );

    train(&shop, "other.safetensors", 8, &["--seed", "2"])?;
    ensure!(
        whole != read(&shop, "other.safetensors")?,
        "the seed is not used"
    );
    Ok(())
}

#[test]
fn other_settings_do_not_go_on() -> Result<()> {
    let shop = Workshop::new("train-settings")?;
    train(&shop, "net.safetensors", 8, &["--stop-at", "1"])?;
    let output = command(&shop, "net.safetensors", 9, &[]).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for part in ["net-state.safetensors", "steps: 8", "steps: 9"] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    Ok(())
}

/// The loss falls where every step has the same picture, with brush strokes and with a style from
/// a file.
#[test]
fn the_loss_falls() -> Result<()> {
    let shop = Workshop::new("train-falls")?;
    fs::create_dir(shop.0.join("content"))?;
    let disc = RgbImage::from_fn(64, 64, |x, y| {
        let inside = x.abs_diff(30).pow(2) + y.abs_diff(34).pow(2) < 300;
        let ground = Rgb([40 + 2 * x as u8, 90 + y as u8, 220 - y as u8]);
        [ground, Rgb([200, 60, 40])][usize::from(inside)]
    });
    disc.save(shop.0.join("content/disc.png"))?;
    let stripes = RgbImage::from_fn(140, 140, |x, y| {
        let wave = (100. + 90. * (0.5 * x as f32 + 0.2 * y as f32).sin()) as u8;
        Rgb([wave, 200 - wave, 60])
    });
    stripes.save(shop.0.join("stripes.png"))?;
    for style in [&[][..], &["--style", "stripes.png"]] {
        let stop = ["--content", "content", "--stop-at", "24"];
        train(&shop, "net.safetensors", 25, &[&stop, style].concat())?;
        let state = shop.0.join("net-state.safetensors");
        let losses = candle_core::safetensors::load(&state, &Device::Cpu)?["losses"].clone();
        assert_eq!(losses.dims(), [24, 2]);
        // The default weights.
        let loss = |from: usize| -> Result<f32> {
            let mean = losses.narrow(0, from, 4)?.mean(0)?.to_vec1::<f32>()?;
            Ok(60. * mean[0] + mean[1])
        };
        let (first, last) = (loss(0)?, loss(20)?);
        assert!(last < 0.7 * first, "{style:?}: from {first} to {last}");
        fs::remove_file(state)?;
    }
    let small = command(&shop, "net.safetensors", 1, &["--style", "in.png"]).output()?;
    let error = String::from_utf8_lossy(&small.stderr);
    assert_eq!(small.status.code(), Some(1));
    assert!(
        error.contains("at least 128") && error.contains("23x18"),
        "{error}"
    );
    Ok(())
}

/// The result is a network as pytorch/examples saves them, and `stylize` runs it.
#[test]
fn networks_can_be_used() -> Result<()> {
    let shop = Workshop::new("train-use")?;
    train(&shop, "net.safetensors", 2, &[])?;
    let path = shop.0.join("net.safetensors");
    let network = Weights::open(&path)?.build(DType::F32, &Device::Cpu, TransformerNet::new)?;
    let config = TransformerNetConfig {
        width: 4,
        num_blocks: 2,
    };
    assert_eq!(network.config(), config);
    // The names and shapes of upstream's state dict, no more and no less.
    let upstream = Weights::open(testing::golden("transformer_net.safetensors"))?;
    let upstream = upstream.select(|name| Some(name.strip_prefix("net.")?.to_string()));
    let own = Weights::open(&path)?;
    let shapes = |weights: &Weights| -> Vec<_> {
        let named = |name: &str| (name.to_string(), weights.shape(name).cloned());
        weights.names().map(named).collect()
    };
    assert_eq!(shapes(&own), shapes(&upstream));

    check_success(&shop.stylize("net.safetensors", "in.png", "out.png", &[])?)?;
    for name in ["net-style.png", "net-loss.png"] {
        assert!(image::open(shop.0.join(name))?.width() >= 64);
    }
    let left: Vec<_> = shop
        .files()?
        .into_iter()
        .filter(|name| name.contains("state"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
