//! Every network in the half types, against itself in f32.

use crate::common::network::{Golden, max_off};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_style_models::weights::Weights;
use candle_style_models::{
    AdaInStyle, MicroAst, NormStats, ResnetGenerator, SpadeGenerator, SpadeGeneratorConfig,
    StarGanV2Config, StarGanV2Generator, StarGanV2Mapping, StarGanV2StyleEncoder, TransformerNet,
};

const CPU: &Device = &Device::Cpu;

/// The largest error, as a share of the largest output: bf16 rounds every layer to 2^-9 and f16 to
/// 2^-12, and instance norms of few pixels enlarge that.
const TOLERANCES: [(DType, f64); 2] = [(DType::F16, 0.02), (DType::BF16, 0.15)];

/// Runs a network in all three dtypes. Tensors other than weights come in f32, and `run` converts them.
fn check(name: &str, run: impl Fn(DType) -> candle_core::Result<Tensor>) -> Result<()> {
    let expected = run(DType::F32)?;
    for (dtype, tolerance) in TOLERANCES {
        let y = run(dtype)?;
        assert_eq!(y.dtype(), dtype, "{name}");
        let off = max_off(&y, &expected)?;
        assert!(off < tolerance, "{name} in {dtype:?} is {off:e} off");
    }
    Ok(())
}

/// The weights below a prefix.
fn below(golden: &Golden, prefix: &str) -> Weights {
    let weights = golden.weights(|name| name.starts_with(prefix));
    weights.select(|name| Some(name.strip_prefix(prefix)?.to_string()))
}

#[test]
fn transformer_net() -> Result<()> {
    let golden = Golden::load("transformer_net.safetensors", CPU)?;
    let weights = below(&golden, "net.");
    check("TransformerNet", |dtype| {
        let network = weights.build(dtype, CPU, TransformerNet::new)?;
        network.forward_with(&golden["input"].to_dtype(dtype)?, &mut NormStats::own())
    })
}

#[test]
fn resnet_generator() -> Result<()> {
    let golden = Golden::load("resnet_generator.safetensors", CPU)?;
    for form in ["full", "separable"] {
        let weights = below(&golden, &format!("{form}."));
        let weights = weights.select(|name| (name != "output").then(|| name.to_string()));
        check(form, |dtype| {
            let network = weights.build(dtype, CPU, ResnetGenerator::new)?;
            network.forward_with(&golden["input"].to_dtype(dtype)?, &mut NormStats::own())
        })?;
    }
    Ok(())
}

#[test]
fn adain_style() -> Result<()> {
    let golden = Golden::load("adain_style.safetensors", CPU)?;
    let weights = golden.weights(|name| name.starts_with("vgg") || name.starts_with("decoder"));
    check("AdaInStyle", |dtype| {
        let network = weights.build(dtype, CPU, AdaInStyle::new)?;
        let style = network.style(&golden["style"].to_dtype(dtype)?)?;
        network.forward(&golden["content"].to_dtype(dtype)?, &style, 0.7)
    })
}

#[test]
fn microast() -> Result<()> {
    let golden = Golden::load("microast.safetensors", CPU)?;
    let weights = golden.weights(|name| name.contains("coder.") || name.starts_with("modulator."));
    check("MicroAst", |dtype| {
        let network = weights.build(dtype, CPU, MicroAst::new)?;
        let style = network.style(&golden["style"].to_dtype(dtype)?)?;
        network.forward(&golden["content"].to_dtype(dtype)?, &style, 0.7)
    })
}

#[test]
fn stargan_v2() -> Result<()> {
    let golden = Golden::load("stargan_v2.safetensors", CPU)?;
    let weights = below(&golden, "generator.");
    let config = StarGanV2Config { shortcuts: true };
    check("StarGanV2Generator", |dtype| {
        let network = weights.build(dtype, CPU, |vb| StarGanV2Generator::new(config, vb))?;
        network.forward(&golden["x"].to_dtype(dtype)?, &golden["s"].to_dtype(dtype)?)
    })?;
    let weights = below(&golden, "style_encoder.");
    check("StarGanV2StyleEncoder", |dtype| {
        let network = weights.build(dtype, CPU, StarGanV2StyleEncoder::new)?;
        network.forward(&golden["x"].to_dtype(dtype)?, &[2, 0])
    })?;
    let weights = below(&golden, "mapping_network.");
    check("StarGanV2Mapping", |dtype| {
        let network = weights.build(dtype, CPU, StarGanV2Mapping::new)?;
        network.forward(&golden["z"].to_dtype(dtype)?, &[2, 0])
    })
}

/// With instance norms alone: the running statistics of the golden's batch norms are not those of its
/// layers, whose outputs grow beyond f16.
#[test]
fn spade_generator() -> Result<()> {
    let golden = Golden::load("spade_generator.safetensors", CPU)?;
    let weights = below(&golden, "instance.net.");
    let labels = &golden["instance.labels"];
    let of = |label: u8| labels.eq(label)?.to_dtype(DType::F32);
    let map = Tensor::cat(&[of(0)?, of(1)?, of(2)?], 1)?.narrow(0, 0, 1)?;
    check("SpadeGenerator", |dtype| {
        let build = |vb: VarBuilder| SpadeGenerator::new(SpadeGeneratorConfig::infer(&vb), vb);
        weights
            .build(dtype, CPU, build)?
            .forward(&map.to_dtype(dtype)?)
    })
}
