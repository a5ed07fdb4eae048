//! [`MicroAst`] against PyTorch, with small random weights and with the published network.

use crate::common::network::{Golden, check_gradients, max_off, tiled};
use crate::common::pictures::{check_bytes, from_tensor, published, to_tensor};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_style_models::weights::Weights;
use candle_style_models::{MicroAst, MicroAstStyle, NormStats};
use image::RgbImage;

/// The largest error, as a share of the largest output, after 30 convolutions in f32.
const TOLERANCE: f64 = 1e-5;

fn load(device: &Device) -> Result<(Golden, MicroAst)> {
    let golden = Golden::load("microast.safetensors", device)?;
    let weights = golden.weights(|name| name.contains("coder.") || name.starts_with("modulator."));
    let network = weights.build(DType::F32, device, MicroAst::new)?;
    Ok((golden, network))
}

fn golden(device: &Device) -> Result<()> {
    let (golden, network) = load(device)?;
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
    let (golden, network) = load(&Device::Cpu)?;
    let style = network.style(&golden["style"])?;
    let other = network.style(&golden["content"].narrow(0, 0, 1)?)?;
    let run = |style: &MicroAstStyle| network.forward(&golden["content"], style, 1.);
    let whole = MicroAstStyle::mix(&[(style.clone(), 1.), (other.clone(), 0.)])?;
    assert!(max_off(&run(&whole)?, &run(&style)?)? < TOLERANCE);
    let same = MicroAstStyle::mix(&[(style.clone(), 0.25), (style.clone(), 0.75)])?;
    assert!(max_off(&run(&same)?, &run(&style)?)? < TOLERANCE);
    let half = MicroAstStyle::mix(&[(style.clone(), 0.5), (other, 0.5)])?;
    assert!(max_off(&run(&half)?, &run(&style)?)? > 1e-2);
    let error = MicroAstStyle::mix(&[]).err().context("mixed")?.to_string();
    assert!(error.contains("no style"), "{error}");
    Ok(())
}

#[test]
fn tiles_have_what_the_whole_picture_has() -> Result<()> {
    let (golden, network) = load(&Device::Cpu)?;
    let style = network.style(&golden["style"])?;
    let run = |x: &Tensor, stats: &mut NormStats| network.forward_with(x, &style, 0.7, stats);
    assert!(tiled(&run, (network.reach(), 4))? < TOLERANCE);
    assert!(tiled(&run, (network.reach() - 12, 4))? > TOLERANCE);
    Ok(())
}

/// The gradients of both pictures are those of finite differences.
#[test]
fn gradients_reach_both_pictures() -> Result<()> {
    let device = &Device::Cpu;
    let golden = Golden::load("microast.safetensors", device)?;
    let weights = golden.weights(|name| name.contains("coder.") || name.starts_with("modulator."));
    let network = weights.build(DType::F64, device, MicroAst::new)?;
    let picture = |name: &str| golden[name].narrow(0, 0, 1)?.to_dtype(DType::F64);
    let pictures = [
        picture("content")?.narrow(3, 0, 20)?,
        picture("style")?.narrow(2, 0, 16)?,
    ];
    let vars = [
        Var::from_tensor(&pictures[0])?,
        Var::from_tensor(&pictures[1])?,
    ];
    check_gradients(&vars, &|vars| {
        let style = network.style(&vars[1])?;
        network.forward(&vars[0], &style, 1.)
    })
}

#[test]
fn published_network() -> Result<()> {
    let Some(folder) = published("microast") else {
        return Ok(());
    };
    let device = &Device::Cpu;
    let network = Weights::open(&folder)?.build(DType::F32, device, MicroAst::new)?;
    let read = |name: &str| -> Result<(RgbImage, Tensor)> {
        let image = image::open(folder.join(name))?.into_rgb8();
        let x = to_tensor(&image, |byte| f32::from(byte) / 255.)?;
        Ok((image, x))
    };
    let content = read("content.png")?.1;
    let style = network.style(&read("style.png")?.1)?;
    let y = network.forward(&content, &style, 1.)?;
    let image = from_tensor(&y, |value| (value * 255.) as u8)?;
    check_bytes(&image, &read("expected.png")?.0, 2)
}

#[test]
fn errors_name_the_shape() -> Result<()> {
    let (golden, network) = load(&Device::Cpu)?;
    let style = network.style(&golden["style"])?;
    for shape in [&[3, 16, 16][..], &[1, 4, 16, 16], &[1, 3, 4, 16]] {
        let x = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        let expected = format!("at least 5x5, got {shape:?}");
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
