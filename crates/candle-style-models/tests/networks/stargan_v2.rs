//! StarGAN v2's networks against PyTorch.

use crate::common::network::{Golden, check_gradients, max_off, tiled};
use crate::common::stargan_v2_checkpoint;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_style_models::weights::Weights;
use candle_style_models::{
    NormStats, StarGanV2, StarGanV2Config, StarGanV2Generator, StarGanV2Mapping,
    StarGanV2StyleEncoder,
};

/// The largest error, as a share of the largest output, after 20 convolutions in f32.
const TOLERANCE: f64 = 1e-5;

const DOMAINS: [usize; 2] = [2, 0];

fn load(device: &Device) -> Result<Golden> {
    Golden::load("stargan_v2.safetensors", device)
}

/// The weights of one of the networks.
fn network(golden: &Golden, name: &str) -> Weights {
    let weights = golden.weights(|tensor| tensor.starts_with(name));
    weights.select(|tensor| Some(tensor.strip_prefix(name)?.to_string()))
}

fn generator(golden: &Golden, shortcuts: bool, dtype: DType) -> Result<StarGanV2Generator> {
    let config = StarGanV2Config { shortcuts };
    let device = golden["x"].device();
    let build = |vb| StarGanV2Generator::new(config, vb);
    Ok(network(golden, "generator.").build(dtype, device, build)?)
}

fn golden(device: &Device) -> Result<()> {
    let golden = load(device)?;
    for (name, shortcuts) in [("output.animals", true), ("output.faces", false)] {
        let generator = generator(&golden, shortcuts, DType::F32)?;
        let y = generator.forward(&golden["x"], &golden["s"])?;
        let off = max_off(&y, &golden[name])?;
        assert!(off < TOLERANCE, "{name} is {off:e} off");
    }
    let weights = network(&golden, "mapping_network.");
    let mapping = weights.build(DType::F32, device, StarGanV2Mapping::new)?;
    let style = mapping.forward(&golden["z"], &DOMAINS)?;
    assert!(max_off(&style, &golden["output.mapping"])? < TOLERANCE);
    let weights = network(&golden, "style_encoder.");
    let encoder = weights.build(DType::F32, device, StarGanV2StyleEncoder::new)?;
    let style = encoder.forward(&golden["x"], &DOMAINS)?;
    assert!(max_off(&style, &golden["output.style"])? < TOLERANCE);
    Ok(())
}

test_device!(golden);

/// The generator halves twice: once more than for the animals of 32x32 pixels, and as often as for
/// those of 64x64.
#[test]
fn a_checkpoint_tells_faces_from_animals() -> Result<()> {
    let device = &Device::Cpu;
    let golden = load(device)?;
    for (more, output) in [(1, "output.faces"), (2, "output.animals")] {
        let mut tensors = stargan_v2_checkpoint(&golden.0, more);
        for useless in ["fan.conv1.weight", "generator.hpf.filter"] {
            tensors.insert(useless.into(), Tensor::zeros(3, DType::F32, device)?);
        }
        let weights = Weights::from_tensors(tensors, "the golden");
        let weights = weights.select(StarGanV2::original_name);
        let networks = weights.build(DType::F32, device, StarGanV2::new)?;
        let y = networks.generator.forward(&golden["x"], &golden["s"])?;
        assert!(max_off(&y, &golden[output])? < TOLERANCE, "{output}");
        assert_eq!(networks.style_encoder.side(), 16 << more);
        let (mapping, encoder) = (&networks.mapping, &networks.style_encoder);
        assert_eq!((mapping.domains(), encoder.domains()), (3, 3));
        assert_eq!(mapping.latent(), 3);
    }
    Ok(())
}

#[test]
fn tiles_fit() -> Result<()> {
    let golden = load(&Device::Cpu)?;
    let generator = generator(&golden, true, DType::F32)?;
    let style = golden["s"].narrow(0, 0, 1)?;
    let run = |x: &Tensor, stats: &mut NormStats| generator.forward_with(x, &style, stats);
    let (reach, multiple) = (generator.reach(), generator.multiple());
    assert_eq!(multiple, 4);
    assert!(tiled(&run, (reach, multiple))? < TOLERANCE);
    assert!(tiled(&run, (reach - 12, multiple))? > TOLERANCE);
    Ok(())
}

#[test]
fn gradients_reach_the_picture_and_the_style() -> Result<()> {
    let golden = load(&Device::Cpu)?;
    let generator = generator(&golden, true, DType::F64)?;
    let var =
        |name: &str| -> Result<Var> { Ok(Var::from_tensor(&golden[name].to_dtype(DType::F64)?)?) };
    check_gradients(&[var("x")?, var("s")?], &|vars| {
        generator.forward(&vars[0], &vars[1])
    })
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let golden = load(&Device::Cpu)?;
    let generator = generator(&golden, true, DType::F32)?;
    let x = golden["x"].narrow(2, 0, 14)?;
    let error = generator
        .forward(&x, &golden["s"])
        .err()
        .context("ran")?
        .to_string();
    assert!(
        error.contains("multiples of 4, got [2, 3, 14, 16]"),
        "{error}"
    );
    let weights = network(&golden, "mapping_network.");
    let mapping = weights.build(DType::F32, &Device::Cpu, StarGanV2Mapping::new)?;
    for domains in [&[0][..], &[0, 3]] {
        let error = mapping
            .forward(&golden["z"], domains)
            .err()
            .context("ran")?
            .to_string();
        assert!(error.contains("2 domains below 3, got"), "{error}");
    }
    let tensors = stargan_v2_checkpoint(&golden.0, 1).into_iter();
    let two_domains = tensors.filter(|(name, _)| !name.starts_with("style_encoder.unshared.2."));
    let error = Weights::from_tensors(two_domains, "the golden")
        .build(DType::F32, &Device::Cpu, StarGanV2::new)
        .err()
        .context("built")?
        .to_string();
    assert!(error.contains("got 3 and 2"), "{error}");
    let weights = network(&golden, "style_encoder.");
    let encoder = weights.build(DType::F32, &Device::Cpu, StarGanV2StyleEncoder::new)?;
    let error = encoder
        .forward(&x, &DOMAINS)
        .err()
        .context("ran")?
        .to_string();
    assert!(
        error.contains("(N, 3, 16, 16), got [2, 3, 14, 16]"),
        "{error}"
    );
    Ok(())
}
