//! [`AdaInStyle`] against PyTorch.

use crate::common::network::{Golden, check_gradients, max_off, tiled};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_style_models::{AdaInStyle, AdaInStyleStats, NormStats};

/// The largest error, as a share of the largest output, after 19 convolutions in f32.
const TOLERANCE: f64 = 1e-5;

fn load(device: &Device, dtype: DType) -> Result<(Golden, AdaInStyle)> {
    let golden = Golden::load("adain_style.safetensors", device)?;
    let weights = golden.weights(|name| name.starts_with("vgg") || name.starts_with("decoder"));
    let network = weights.build(dtype, device, AdaInStyle::new)?;
    Ok((golden, network))
}

fn golden(device: &Device) -> Result<()> {
    let (golden, network) = load(device, DType::F32)?;
    let style = network.style(&golden["style"])?;
    for (name, alpha) in [("whole", 1.), ("part", 0.4)] {
        let y = network.forward(&golden["content"], &style, alpha)?;
        let off = max_off(&y, &golden[&*format!("output.{name}")])?;
        assert!(off < TOLERANCE, "{name} is {off:e} off");
    }
    Ok(())
}

test_device!(golden);

#[test]
fn a_mixture_is_the_sum_of_its_shares() -> Result<()> {
    let (golden, network) = load(&Device::Cpu, DType::F32)?;
    let style = network.style(&golden["style"])?;
    let other = network.style(&golden["content"].narrow(0, 0, 1)?)?;
    let run = |style: &AdaInStyleStats| network.forward(&golden["content"], style, 1.);
    let same = [
        (style.clone(), 0.25),
        (other.clone(), 0.),
        (style.clone(), 0.75),
    ];
    let same = AdaInStyleStats::mix(&same)?;
    assert!(max_off(&run(&same)?, &run(&style)?)? < TOLERANCE);
    let half = AdaInStyleStats::mix(&[(style.clone(), 0.5), (other, 0.5)])?;
    assert!(max_off(&run(&half)?, &run(&style)?)? > 1e-2);
    let error = AdaInStyleStats::mix(&[])
        .err()
        .context("mixed")?
        .to_string();
    assert!(error.contains("no style"), "{error}");
    Ok(())
}

#[test]
fn tiles_have_what_the_whole_picture_has() -> Result<()> {
    let (golden, network) = load(&Device::Cpu, DType::F32)?;
    let style = network.style(&golden["style"])?;
    let run = |x: &Tensor, stats: &mut NormStats| network.forward_with(x, &style, 0.7, stats);
    assert!(tiled(&run, (network.reach(), 8))? < TOLERANCE);
    assert!(tiled(&run, (network.reach() - 32, 8))? > TOLERANCE);
    Ok(())
}

#[test]
fn gradients_reach_both_pictures() -> Result<()> {
    let (golden, network) = load(&Device::Cpu, DType::F64)?;
    let picture = |name: &str| -> Result<Var> {
        let picture = golden[name].narrow(0, 0, 1)?.narrow(3, 0, 16)?;
        Ok(Var::from_tensor(
            &picture.narrow(2, 0, 24)?.to_dtype(DType::F64)?,
        )?)
    };
    let vars = [picture("content")?, picture("style")?];
    check_gradients(&vars, &|vars| {
        let style = network.style(&vars[1])?;
        network.forward(&vars[0], &style, 1.)
    })
}

/// The files hold the whole VGG.
#[test]
fn names_beyond_relu4_1_are_left_out() {
    for (name, kept) in [
        ("vgg_normalised.29.bias", true),
        ("vgg_normalised.32.weight", false),
        ("decoder.28.weight", true),
        ("decoder.99.weight", true),
    ] {
        assert_eq!(AdaInStyle::original_name(name).is_some(), kept, "{name}");
    }
}

#[test]
fn errors_name_the_shape() -> Result<()> {
    let (golden, network) = load(&Device::Cpu, DType::F32)?;
    let style = network.style(&golden["style"])?;
    for shape in [&[3, 16, 16][..], &[1, 4, 16, 16], &[1, 3, 8, 16]] {
        let x = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        let expected = format!("at least 9x9, got {shape:?}");
        for error in [
            network.style(&x).err(),
            network.forward(&x, &style, 1.).err(),
        ] {
            let error = error.context("ran")?.to_string();
            assert!(error.contains(&expected), "{error}");
        }
    }
    Ok(())
}
