//! [`TransformerNet`] against PyTorch, with small random weights and with a published network.

use std::collections::HashMap;

use crate::common::pictures::{check_bytes, from_tensor, published, to_tensor};
use crate::common::{Tolerance, assert_close, golden, max_abs};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use candle_style_models::weights::Weights;
use candle_style_models::{TransformerNet, TransformerNetConfig};
use image::RgbImage;

/// Outputs and gradients come through 10 convolutions and 9 norms in f32, summed in another order
/// than PyTorch does. A wrong padding or weight is off by a tenth of the largest value or more.
const GOLDEN_TOLERANCE: Tolerance = Tolerance {
    atol: 1e-4,
    rtol: 1e-4,
};

type Tensors = HashMap<String, Tensor>;

fn below(tensors: &Tensors, prefix: &str) -> Tensors {
    let strip = |(name, tensor): (&String, &Tensor)| {
        Some((name.strip_prefix(prefix)?.to_string(), tensor.clone()))
    };
    tensors.iter().filter_map(strip).collect()
}

fn load(device: &Device) -> Result<(Tensors, Tensors)> {
    let golden = candle_core::safetensors::load(golden("transformer_net.safetensors"), device)?;
    let net = below(&golden, "net.");
    Ok((golden, net))
}

fn network(tensors: Tensors) -> Result<TransformerNet> {
    let device = tensors.values().next().context("no tensors")?.device();
    let vb = VarBuilder::from_tensors(tensors.clone(), DType::F32, device);
    Ok(TransformerNet::new(vb)?)
}

fn forward(device: &Device) -> Result<()> {
    let (golden, mut net) = load(device)?;
    let expected = &golden["output"];
    let run =
        |net: &Tensors| Ok::<_, anyhow::Error>(network(net.clone())?.forward(&golden["input"])?);
    assert_close("output", &run(&net)?, expected, GOLDEN_TOLERANCE);

    // Running statistics in a file change nothing.
    for name in ["in1", "res1.in2"] {
        let stray = golden["net.in1.weight"].clone();
        net.insert(format!("{name}.running_mean"), stray.clone());
        net.insert(format!("{name}.running_var"), stray);
    }
    assert_close("with statistics", &run(&net)?, expected, GOLDEN_TOLERANCE);

    // The names of the first files. A network that mixed up weight and bias would be off by far more.
    let early = |name: &String| {
        if name.contains("in") {
            name.replace(".weight", ".scale").replace(".bias", ".shift")
        } else {
            name.clone()
        }
    };
    let net = net.iter().map(|(name, value)| (early(name), value.clone()));
    // The eps of the first files was 1e-9.
    let tolerance = GOLDEN_TOLERANCE.scaled(10.);
    assert_close("scale", &run(&net.collect())?, expected, tolerance);
    Ok(())
}

test_device!(forward);

fn gradients(device: &Device) -> Result<()> {
    let (golden, net) = load(device)?;
    let mut vars = HashMap::new();
    for (name, value) in &net {
        vars.insert(name, Var::from_tensor(value)?);
    }
    let tensors = vars
        .iter()
        .map(|(&name, var)| (name.clone(), var.as_tensor().clone()));
    let y = network(tensors.collect())?.forward(&golden["square"])?;
    let grads = (y * &golden["dy"])?.sum_all()?.backward()?;
    for (name, var) in vars {
        let expected = &golden[&format!("grad.{name}")];
        let got = grads
            .get(&var)
            .with_context(|| format!("no gradient of {name}"))?;
        // Sums over the picture cancel: their error is that of their terms.
        let scale = max_abs(&golden["square"]);
        assert_close(name, got, expected, GOLDEN_TOLERANCE.scaled(scale));
    }
    Ok(())
}

test_device!(gradients);

fn stylize(net: &TransformerNet, image: &RgbImage, device: &Device) -> Result<RgbImage> {
    let x = to_tensor(image, f32::from)?.to_device(device)?;
    // `as u8` truncates and clamps, as the authors' script does.
    from_tensor(&net.forward(&x)?, |value| value as u8)
}

#[test]
fn published_network() -> Result<()> {
    let Some(folder) = published("transformer-net-candy") else {
        return Ok(());
    };
    let open = |name| Ok::<_, anyhow::Error>(image::open(folder.join(name))?.into_rgb8());
    let weights = Weights::open(folder.join("candy_nc16.pth"))?;
    let net = weights.build(DType::F32, &Device::Cpu, TransformerNet::new)?;
    let config = TransformerNetConfig {
        width: 16,
        num_blocks: 5,
    };
    assert_eq!(net.config(), config);

    let got = stylize(&net, &open("input.png")?, &Device::Cpu)?;
    check_bytes(&got, &open("expected.png")?, 1)
}

/// The network that `stylize` has built in, on a small picture.
fn picture(device: &Device) -> Result<()> {
    let built_in = include_bytes!("../../../stylize/default.safetensors");
    let net = candle_core::safetensors::load_buffer(built_in, device)?;
    let golden = candle_core::safetensors::load(golden("picture.safetensors"), &Device::Cpu)?;
    let image = |name: &str| {
        let (height, width, _) = golden[name].dims3()?;
        let bytes = golden[name].flatten_all()?.to_vec1::<u8>()?;
        RgbImage::from_raw(width as u32, height as u32, bytes).context("no picture")
    };
    let got = stylize(&network(net)?, &image("input")?, device)?;
    check_bytes(&got, &image("expected")?, 1)
}

test_device!(picture);

#[test]
fn a_new_network_has_the_names_of_a_checkpoint() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let config = TransformerNetConfig {
        width: 4,
        num_blocks: 2,
    };
    TransformerNet::with_config(config, vb)?;
    let vars = vars.data().lock().expect("not poisoned");
    let (_, net) = load(&Device::Cpu)?;
    assert_eq!(vars.len(), net.len());
    for (name, value) in net {
        assert_eq!(vars[&name].dims(), value.dims(), "{name}");
    }
    Ok(())
}

/// The error of a golden network whose state dict `change` has spoiled.
fn load_error(change: impl FnOnce(&mut Tensors) -> Result<()>) -> Result<String> {
    let (_, mut net) = load(&Device::Cpu)?;
    change(&mut net)?;
    Ok(network(net).err().context("loaded")?.to_string())
}

#[test]
fn load_errors_name_the_tensor() -> Result<()> {
    for name in [
        "conv1.conv2d.weight",
        "conv3.conv2d.bias",
        "in2.weight",
        "res2.in1.bias",
        "deconv3.conv2d.weight",
    ] {
        let error = load_error(|net| {
            net.remove(name).context("no such tensor")?;
            Ok(())
        })?;
        assert!(error.contains(name), "{error}");
    }
    for (name, shape, expected) in [
        (
            "conv1.conv2d.weight",
            vec![4, 3, 7, 7],
            "[_, 3, 9, 9], got [4, 3, 7, 7]",
        ),
        ("conv1.conv2d.weight", vec![0, 3, 9, 9], "at least 1, got 0"),
        ("in3.weight", vec![5], "in3.weight"),
        (
            "res1.conv1.conv2d.weight",
            vec![16, 8, 3, 3],
            "res1.conv1.conv2d.weight",
        ),
    ] {
        let error = load_error(|net| {
            net.insert(name.into(), Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
            Ok(())
        })?;
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn forward_errors_name_the_shape() -> Result<()> {
    let net = network(load(&Device::Cpu)?.1)?;
    let run = |shape: &[usize]| -> Result<Tensor> {
        Ok(net.forward(&Tensor::zeros(shape, DType::F32, &Device::Cpu)?)?)
    };
    for (shape, expected) in [
        (&[3, 16, 16][..], "(N, 3, H, W), got [3, 16, 16]"),
        (&[1, 4, 16, 16], "(N, 3, H, W), got [1, 4, 16, 16]"),
        (&[1, 3, 4, 16], "at least 5x5, got 4x16"),
    ] {
        let error = run(shape).err().context("ran")?.to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(run(&[1, 3, 5, 6])?.dims(), [1, 3, 8, 8]);
    Ok(())
}
