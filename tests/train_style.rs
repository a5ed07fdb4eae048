//! The `train_style` example from the outside: what it writes, and that an interruption leaves no
//! trace in it.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Result};
use candle_core::{DType, Device};
use candle_instance_norm::models::{TransformerNet, TransformerNetConfig};
use candle_instance_norm::weights::Weights;
use common::workshop::{check_success, Workshop};

/// A network of 4 channels and a block, on pictures of 64x64.
const TINY: [&str; 10] = [
    "--width",
    "4",
    "--blocks",
    "1",
    "--batch",
    "1",
    "--side",
    "64",
    "--style-size",
    "64",
];

fn command(shop: &Workshop, output: &str, steps: usize, rest: &[&str]) -> Result<Command> {
    let steps = steps.to_string();
    let mut command = shop.command("train_style", &TINY)?;
    command.args(["--output", output, "--steps", &steps]);
    command.args(rest);
    Ok(command)
}

fn train(shop: &Workshop, output: &str, steps: usize, rest: &[&str]) -> Result<String> {
    check_success(&command(shop, output, steps, rest)?.output()?)
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
    assert!(rest.contains("going on after step 4"), "{rest}");
    ensure!(
        whole == read(&shop, "halves.safetensors")?,
        "4 + 4 is not 8"
    );
    let plots = ["whole-loss.png", "halves-loss.png"].map(|name| read(&shop, name).ok());
    assert!(plots[0].is_some() && plots[0] == plots[1]);

    // Killed, wherever it is.
    let mut killed = command(&shop, "killed.safetensors", 8, &["--save-every", "1"])?;
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
    let output = command(&shop, "net.safetensors", 9, &[])?.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for part in ["net-state.safetensors", "steps: 8", "steps: 9"] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    Ok(())
}

/// Both losses fall, with brush strokes and with a picture, on drawn content and on files.
#[test]
fn losses_fall() -> Result<()> {
    let shop = Workshop::new("train-falls")?;
    fs::create_dir(shop.0.join("content"))?;
    fs::copy(shop.0.join("in.png"), shop.0.join("content/a.png"))?;
    for rest in [
        &["--rate", "0.01"][..],
        &[
            "--rate",
            "0.01",
            "--style",
            "in.png",
            "--content",
            "content",
        ],
    ] {
        let stop = [rest, &["--stop-at", "30"]].concat();
        train(&shop, "net.safetensors", 31, &stop)?;
        let state = shop.0.join("net-state.safetensors");
        let state = candle_core::safetensors::load(state, &Device::Cpu)?;
        let losses = state["losses"].to_vec2::<f32>()?;
        assert_eq!(losses.len(), 30);
        let mean = |steps: &[Vec<f32>]| {
            let all = steps.iter().map(|loss| 20. * loss[0] + loss[1]);
            all.sum::<f32>() / steps.len() as f32
        };
        let (first, last) = (mean(&losses[..5]), mean(&losses[25..]));
        assert!(last < 0.7 * first, "{rest:?}: from {first} to {last}");
        fs::remove_file(shop.0.join("net-state.safetensors"))?;
    }
    Ok(())
}

/// What is written is a network as pytorch/examples saves them, and goes into `stylize`.
#[test]
fn networks_can_be_used() -> Result<()> {
    let shop = Workshop::new("train-use")?;
    train(&shop, "net.safetensors", 2, &[])?;
    let path = shop.0.join("net.safetensors");
    let network = Weights::open(&path)?.build(DType::F32, &Device::Cpu, TransformerNet::new)?;
    let config = TransformerNetConfig {
        width: 4,
        num_blocks: 1,
    };
    assert_eq!(network.config(), config);
    // The names and shapes of upstream's state dict, no more and no less.
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformer_net.safetensors");
    let golden = candle_core::safetensors::load(golden, &Device::Cpu)?;
    let mut upstream: Vec<_> = golden
        .keys()
        .filter_map(|name| name.strip_prefix("net."))
        .collect();
    upstream.sort_unstable();
    let own = Weights::open(&path)?;
    assert_eq!(own.names().collect::<Vec<_>>(), upstream);

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
