//! [`SpadeGenerator`] against PyTorch.

use crate::common::network::{Golden, check_gradients, max_off, tiled};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::nn::ParamFreeNorm;
use candle_style_models::{NormStats, SpadeGenerator, SpadeGeneratorConfig};

/// The largest error, as a share of the largest output, 1, after 40 convolutions in f32.
const TOLERANCE: f64 = 2e-5;

const INSTANCE: SpadeGeneratorConfig = SpadeGeneratorConfig {
    norm: ParamFreeNorm::Instance,
    doublings: 5,
};

const BATCH: SpadeGeneratorConfig = SpadeGeneratorConfig {
    norm: ParamFreeNorm::Batch,
    doublings: 7,
};

fn load(device: &Device) -> Result<Golden> {
    Golden::load("spade_generator.safetensors", device)
}

fn build(
    golden: &Golden,
    name: &str,
    config: SpadeGeneratorConfig,
    dtype: DType,
) -> candle_core::Result<SpadeGenerator> {
    let prefix = format!("{name}.net.");
    let weights = golden.weights(|tensor| tensor.starts_with(&prefix));
    let weights = weights.select(|tensor| Some(tensor.strip_prefix(&prefix)?.to_string()));
    let device = golden["batch.labels"].device();
    weights.build(dtype, device, |vb| {
        // The names tell the two apart.
        let told = SpadeGeneratorConfig::infer(&vb);
        assert_eq!(told, if name == "batch" { BATCH } else { INSTANCE });
        SpadeGenerator::new(config, vb)
    })
}

/// One-hot.
fn map(golden: &Golden, name: &str) -> Result<Tensor> {
    let labels = &golden[&*format!("{name}.labels")];
    let of = |label: u8| labels.eq(label)?.to_dtype(DType::F32);
    Ok(Tensor::cat(&[of(0)?, of(1)?, of(2)?], 1)?)
}

fn golden(device: &Device) -> Result<()> {
    let golden = load(device)?;
    // On a GPU, most of the time goes to candle's convolutions: one picture is enough for the norms.
    let (networks, n) = if device.is_cpu() {
        (&[("instance", INSTANCE), ("batch", BATCH)][..], 2)
    } else {
        (&[("instance", INSTANCE)][..], 1)
    };
    for &(name, config) in networks {
        let generator = build(&golden, name, config, DType::F32)?;
        assert_eq!(generator.labels(), 3);
        let y = generator.forward(&map(&golden, name)?.narrow(0, 0, n)?)?;
        let y = y.narrow(2, 20, 32)?.narrow(3, 30, 34)?;
        let expected = golden[&*format!("{name}.output")].narrow(0, 0, n)?;
        let off = max_off(&y, &expected)?;
        assert!(off < TOLERANCE, "{name} is {off:e} off");
    }
    Ok(())
}

test_device!(golden);

#[test]
fn tiles_fit() -> Result<()> {
    let golden = load(&Device::Cpu)?;
    for (name, config) in [("instance", INSTANCE), ("batch", BATCH)] {
        let generator = build(&golden, name, config, DType::F32)?;
        let run = |x: &Tensor, stats: &mut NormStats| generator.forward_with(x, stats);
        let (reach, multiple) = (generator.reach(), generator.multiple());
        assert_eq!(multiple, 1 << config.doublings);
        let off = tiled(&run, (reach, multiple))?;
        assert!(off < TOLERANCE, "{name} is {off:e} off");
        // Distant pixels count for little here, so no reach between is tested.
        assert!(tiled(&run, (0, multiple))? > TOLERANCE, "{name}");
    }
    Ok(())
}

#[test]
fn gradients_reach_the_map() -> Result<()> {
    let golden = load(&Device::Cpu)?;
    let generator = build(&golden, "instance", INSTANCE, DType::F64)?;
    let map = map(&golden, "instance")?
        .narrow(0, 0, 1)?
        .to_dtype(DType::F64)?;
    check_gradients(&[Var::from_tensor(&map)?], &|vars| {
        generator.forward(&vars[0])
    })
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let golden = load(&Device::Cpu)?;
    let generator = build(&golden, "instance", INSTANCE, DType::F32)?;
    let x = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
    let error = generator.forward(&x).err().context("ran")?.to_string();
    assert!(
        error.contains("(N, 3, H, W), H and W multiples of 32, got [1, 3, 32, 48]"),
        "{error}"
    );

    // A wrong choice that the names do not tell is an error.
    let doublings = SpadeGeneratorConfig {
        doublings: 4,
        ..INSTANCE
    };
    let batch = SpadeGeneratorConfig {
        norm: ParamFreeNorm::Batch,
        ..INSTANCE
    };
    let most = SpadeGeneratorConfig {
        doublings: 7,
        ..INSTANCE
    };
    for (config, expected) in [
        (doublings, "expected 5 to 7 doublings, got 4"),
        (
            batch,
            "missing G_middle_0.norm_0.param_free_norm.running_mean",
        ),
        (most, "missing up_4.conv_0.bias"),
    ] {
        let error = build(&golden, "instance", config, DType::F32);
        let error = error.err().context("built")?.to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}
