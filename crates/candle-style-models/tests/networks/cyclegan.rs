//! [`ResnetGenerator`] against PyTorch, with small random weights and with a published network.

use std::collections::HashMap;
use std::path::Path;

use crate::common;
use crate::common::pictures::{check_bytes, from_tensor, published, to_tensor};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder};
use candle_style_models::weights::Weights;
use candle_style_models::{NormStats, ResnetGenerator, reflection_pad2d};
use image::RgbImage;

const PUBLISHED: &str = "cyclegan-horse2zebra";

/// Outputs lie in [-1, 1] after 11 (17) convolutions and 9 (13) norms in f32, summed in another
/// order than PyTorch does: about 1e-6 apart in practice. A wrong padding or weight is 1e-1 off.
const GOLDEN_TOLERANCE: f32 = 1e-4;

fn load(device: &Device) -> Result<HashMap<String, Tensor>> {
    let file = common::golden("resnet_generator.safetensors");
    Ok(candle_core::safetensors::load(file, device)?)
}

fn generator(tensors: HashMap<String, Tensor>, device: &Device) -> Result<ResnetGenerator> {
    let vb = VarBuilder::from_tensors(tensors, DType::F32, device);
    Ok(ResnetGenerator::new(vb)?)
}

/// The state dict of one of the golden generators.
fn state_dict(form: &str, device: &Device) -> Result<HashMap<String, Tensor>> {
    let prefix = format!("{form}.");
    let strip =
        |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor));
    Ok(load(device)?.into_iter().filter_map(strip).collect())
}

fn golden(device: &Device) -> Result<()> {
    let golden = load(device)?;
    for form in ["full", "separable"] {
        let generator = generator(state_dict(form, device)?, device)?;
        assert_eq!(generator.num_blocks(), 2);
        let y = generator.forward(&golden["input"])?;
        let expected = &golden[&format!("{form}.output")];
        assert_eq!(y.dims(), expected.dims());
        let off: f32 = (y - expected)?.abs()?.max_all()?.to_scalar()?;
        assert!(off <= GOLDEN_TOLERANCE, "{form} is {off:e} off");
    }
    Ok(())
}

test_device!(golden);

fn translate(folder: &Path, image: &RgbImage, device: &Device) -> Result<RgbImage> {
    let weights = Weights::open(folder.join("latest_net_G.pth"))?;
    let generator = weights.build(DType::F32, device, ResnetGenerator::new)?;
    let x = to_tensor(image, |byte| (f32::from(byte) / 255. - 0.5) / 0.5)?;
    let y = generator.forward(&x.to_device(device)?)?;
    from_tensor(&y, |value| ((value + 1.) / 2. * 255.) as u8)
}

fn read(path: &Path) -> Result<RgbImage> {
    Ok(image::open(path)?.into_rgb8())
}

mod published_network {
    use super::*;

    #[test]
    fn cpu() -> Result<()> {
        let Some(folder) = published(PUBLISHED) else {
            return Ok(());
        };
        let input = read(&folder.join("input.png"))?;
        let expected = read(&folder.join("expected.png"))?;
        check_bytes(&translate(&folder, &input, &Device::Cpu)?, &expected, 1)
    }

    /// A crop of the picture gives the result of the CPU. A crop, because this runs on an emulated GPU
    /// as well.
    #[cfg(feature = "cuda")]
    #[test]
    fn cuda() -> Result<()> {
        const SIDE: u32 = 64;
        let Some(folder) = published(PUBLISHED) else {
            return Ok(());
        };
        let input = read(&folder.join("input.png"))?;
        let (left, top) = ((input.width() - SIDE) / 2, (input.height() - SIDE) / 2);
        let crop = image::imageops::crop_imm(&input, left, top, SIDE, SIDE).to_image();
        let on_cuda = translate(&folder, &crop, common::cuda())?;
        check_bytes(&on_cuda, &translate(&folder, &crop, &Device::Cpu)?, 1)
    }
}

/// With the same statistics, a tile that is read with the network's reach equals the whole picture
/// inside; a tile that is read with less does not.
#[test]
fn tiles_have_what_the_whole_picture_has() -> Result<()> {
    let device = &Device::Cpu;
    for form in ["full", "separable"] {
        let generator = generator(state_dict(form, device)?, device)?;
        let reach = generator.reach();
        assert_eq!(reach, 32);
        let x = Tensor::rand(-1f32, 1., (1, 3, 20, 160), device)?;
        let mut stats = NormStats::record();
        generator.forward_with(
            &Tensor::rand(-1f32, 1., (1, 3, 20, 20), device)?,
            &mut stats,
        )?;
        let whole = generator.forward_with(&x, &mut stats.replay())?;
        let off = |reach: usize| -> Result<f32> {
            let (start, end) = (64 - reach, 80 + reach);
            let tile = x.narrow(3, start, end - start)?;
            let tile = generator.forward_with(&tile, &mut stats.replay())?;
            let off = (tile.narrow(3, reach, 16)? - whole.narrow(3, 64, 16)?)?;
            Ok(off.abs()?.max_all()?.to_scalar()?)
        };
        assert!(off(reach)? < 1e-5, "{form}: {:e}", off(reach)?);
        assert!(off(reach - 8)? > 1e-5, "{form}: {:e}", off(reach - 8)?);
    }
    Ok(())
}

/// With its own statistics replayed, a network does what it does anyway; with those of another input
/// it does not, and a second forward pass finds none.
#[test]
fn replayed_statistics_are_those_that_were_recorded() -> Result<()> {
    let device = &Device::Cpu;
    let generator = generator(state_dict("full", device)?, device)?;
    let x = load(device)?["input"].narrow(0, 0, 1)?;
    let mut stats = NormStats::record();
    let y = generator.forward_with(&x, &mut stats)?;
    let same = generator.forward_with(&x, &mut stats.replay())?;
    let off: f32 = (&y - same)?.abs()?.max_all()?.to_scalar()?;
    assert!(off < GOLDEN_TOLERANCE, "{off:e}");
    let other = generator.forward_with(&(&x * 0.5)?, &mut stats.replay())?;
    let off: f32 = (&y - other)?.abs()?.max_all()?.to_scalar()?;
    assert!(off > 1e-2, "{off:e}");

    let mut used_up = stats.replay();
    generator.forward_with(&x, &mut used_up)?;
    let error = generator.forward_with(&x, &mut used_up).err();
    let error = error.context("ran twice")?.to_string();
    assert!(
        error.contains("the statistics of 9 norms were recorded"),
        "{error}"
    );
    Ok(())
}

/// The error of a full golden generator whose state dict `change` has spoiled.
fn load_error(change: impl FnOnce(&mut HashMap<String, Tensor>) -> Result<()>) -> Result<String> {
    let mut tensors = state_dict("full", &Device::Cpu)?;
    change(&mut tensors)?;
    let error = generator(tensors, &Device::Cpu).err();
    Ok(error.context("loaded")?.to_string())
}

#[test]
fn load_errors_name_the_tensor() -> Result<()> {
    for name in [
        "model.1.weight",
        "model.4.bias",
        "model.11.conv_block.5.bias",
        "model.19.weight",
    ] {
        let error = load_error(|tensors| {
            tensors.remove(name).context("no such tensor")?;
            Ok(())
        })?;
        assert!(error.contains(name), "{error}");
    }

    let error = load_error(|tensors| {
        tensors.retain(|name, _| !name.contains("conv_block"));
        Ok(())
    })?;
    assert!(error.contains("model.10.conv_block.1.weight"), "{error}");

    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    for (name, shape, expected) in [
        ("model.4.weight", vec![8, 5, 3, 3], "[_, 4, 3, 3]"),
        ("model.7.weight", vec![16, 8, 9], "[_, 8, 3, 3]"),
        ("model.12.weight", vec![9, 8, 3, 3], "[16, _, 3, 3]"),
        ("model.1.weight", vec![0, 3, 7, 7], "[_, _, 7, 7]"),
    ] {
        let error = load_error(|tensors| {
            tensors.insert(name.into(), zeros(&shape)?);
            Ok(())
        })?;
        let expected = format!("{name} must have shape {expected}, got {shape:?}");
        assert!(error.contains(&expected), "{error}");
    }

    let error = load_error(|tensors| {
        tensors.insert(
            "model.10.conv_block.5.weight".into(),
            zeros(&[8, 16, 3, 3])?,
        );
        tensors.insert("model.10.conv_block.5.bias".into(), zeros(&[8])?);
        Ok(())
    })?;
    let expected = "conv_block.5.weight must have shape [16, 16, 3, 3], got [8, 16, 3, 3]";
    assert!(error.contains(expected), "{error}");
    Ok(())
}

#[test]
fn forward_errors_name_the_shape() -> Result<()> {
    let generator = generator(state_dict("separable", &Device::Cpu)?, &Device::Cpu)?;
    let run = |shape: &[usize]| -> Result<Tensor> {
        Ok(generator.forward(&Tensor::zeros(shape, DType::F32, &Device::Cpu)?)?)
    };
    for (shape, expected) in [
        (&[3, 16, 16][..], "(N, 3, H, W), got [3, 16, 16]"),
        (&[1, 4, 16, 16], "(N, 3, H, W), got [1, 4, 16, 16]"),
        (&[1, 3, 4, 16], "at least 5x5, got 4x16"),
        (&[1, 3, 16, 0], "at least 5x5, got 16x0"),
    ] {
        let error = run(shape).err().context("ran")?.to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(run(&[1, 3, 5, 6])?.dims(), [1, 3, 8, 8]);
    Ok(())
}

#[test]
fn reflection_pad2d_errors_name_the_sides() -> Result<()> {
    let x = Tensor::zeros((1, 2, 3, 5), DType::F32, &Device::Cpu)?;
    assert_eq!(reflection_pad2d(&x, 2)?.dims(), [1, 2, 7, 9]);
    let error = reflection_pad2d(&x, 3).err().context("padded")?;
    assert!(error.to_string().contains("got 3 for 3x5"), "{error}");
    let error = reflection_pad2d(&x.squeeze(0)?, 1)
        .err()
        .context("padded")?;
    assert!(error.to_string().contains("got [2, 3, 5]"), "{error}");
    Ok(())
}
