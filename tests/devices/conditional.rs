//! Norms with a style: tables and vectors of parameters, and calls that are refused.

use crate::common::reference::Random;
use crate::common::{Tolerance, assert_close, says, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use candle_instance_norm::nn::{self, ParamFreeNorm, SpadeConfig, StyleTables};
use candle_instance_norm::{
    Activation, AdaptiveConfig, Normalization, PlaneStats, StyleSlices, adaptive_instance_norm,
    batch_instance_norm, conditional_instance_norm, conditional_instance_norm_mix, instance_stats,
};
use candle_nn::{VarBuilder, VarMap};

const EPS: f64 = 1e-5;

/// Ids are looked at before any row is read, in either dtype and in any layout.
fn ids(device: &Device) -> Result<()> {
    let mut random = Random::new(71, device);
    let x = random.tensor((3, 4, 5), DType::F32, 0., 1.)?;
    let gamma = random.tensor((6, 4), DType::F32, 1., 1.)?;
    let beta = random.tensor((6, 4), DType::F32, 0., 1.)?;
    let norm = |ids: &Tensor| conditional_instance_norm(&x, &gamma, &beta, ids, EPS);
    let new = |ids: &[i64]| Tensor::new(ids, device);

    let want = to_f64(&norm(&new(&[5, 0, 5])?)?);
    let strided = new(&[5, 1, 0, 1, 5, 1])?
        .reshape((3, 2))?
        .narrow(1, 0, 1)?
        .squeeze(1)?;
    assert_eq!(to_f64(&norm(&strided)?), want);
    assert_eq!(to_f64(&norm(&strided.to_dtype(DType::U32)?)?), want);
    // Tables may be views too, and in a half type beside an x of another.
    let wide = Tensor::cat(&[&beta, &gamma, &beta], 1)?;
    let got = conditional_instance_norm(&x, &wide.narrow(1, 4, 4)?, &beta, &strided, EPS)?;
    assert_eq!(to_f64(&got), want);

    for (ids, wrong) in [
        ([0, 6, 1], "6 for sample 1"),
        ([0, 1, -1], "-1 for sample 2"),
    ] {
        let message = format!("norm: expected ids below the 6 styles, got {wrong}");
        says("i64", norm(&new(&ids)?), &message);
    }
    // candle takes the largest number for a row of zeros.
    let largest = Tensor::new(&[0u32, 0, u32::MAX], device)?;
    says("u32", norm(&largest), "got 4294967295 for sample 2");
    let largest = new(&[0, i64::MAX, 0])?;
    says(
        "i64",
        norm(&largest),
        "got 9223372036854775807 for sample 1",
    );
    let message = "norm: expected ids of shape [3] and dtype U32 or I64, got";
    says("short", norm(&new(&[0, 1])?), message);
    says("one", norm(&new(&[0])?), message);
    says("matrix", norm(&new(&[0, 1, 2])?.unsqueeze(1)?), message);
    says(
        "float",
        norm(&new(&[0, 1, 2])?.to_dtype(DType::F32)?),
        message,
    );
    says("u8", norm(&new(&[0, 1, 2])?.to_dtype(DType::U8)?), message);

    let message = "norm: expected x of shape (N, C, *) and tables of shape (K, C), got";
    for (gamma, beta) in [
        (&gamma.narrow(1, 0, 3)?, &beta),
        (&gamma, &beta.narrow(0, 0, 5)?),
        (&gamma.narrow(0, 0, 1)?.squeeze(0)?, &beta),
    ] {
        let ids = new(&[0, 0, 0])?;
        says(
            "tables",
            conditional_instance_norm(&x, gamma, beta, &ids, EPS),
            message,
        );
    }
    let mix = |weights: &Tensor| conditional_instance_norm_mix(&x, &gamma, &beta, weights, EPS);
    let weights = random.tensor((3, 5), DType::F32, 0., 1.)?;
    says(
        "weights",
        mix(&weights),
        "weights of shape [3, 6] for 3 samples and 6 styles, got [3, 5]",
    );
    let doubles = gamma.to_dtype(DType::F64)?;
    let ids = new(&[0, 0, 0])?;
    let got = conditional_instance_norm(&x, &doubles, &beta, &ids, EPS);
    says("dtype", got, "norm: expected weight of dtype F32, got F64");
    Ok(())
}

test_device!(ids);

/// One-hot weights are ids, and weights are not normalised.
fn mixtures(device: &Device) -> Result<()> {
    let mut random = Random::new(72, device);
    let x = random.tensor((2, 4, 5, 3), DType::F32, 0., 1.)?;
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device);
    let norm = nn::conditional_instance_norm(3, 4, EPS, StyleTables::ModuleList, vb)?;
    for var in vars.all_vars() {
        var.set(&random.tensor(var.shape(), DType::F32, 0.5, 1.)?)?;
    }
    let one_hot = Tensor::new(&[[0f32, 0., 1.], [0., 1., 0.]], device)?;
    let ids = Tensor::new(&[2u32, 1], device)?;
    let (by_ids, by_weights) = (norm.forward(&x, &ids)?, norm.forward_mix(&x, &one_hot)?);
    assert_close("one-hot", &by_weights, &by_ids, Tolerance::of(DType::F32));
    let doubled = norm.forward_mix(&x, &(one_hot * 2.)?)?;
    assert_close(
        "doubled",
        &doubled,
        &(&by_ids * 2.)?,
        Tolerance::of(DType::F32).scaled(10.),
    );
    let relu = norm
        .clone()
        .with_activation(Activation::Relu)
        .forward(&x, &ids)?;
    assert_eq!(to_f64(&relu), to_f64(&by_ids.relu()?));
    Ok(())
}

test_device!(mixtures);

/// New layers have PyTorch's names, and begin as the norm alone.
fn new_layers(device: &Device) -> Result<()> {
    let x = Random::new(73, device).tensor((2, 4, 5, 3), DType::F32, 0., 1.)?;
    let plain = candle_instance_norm::instance_norm(&x, None, None, EPS)?;
    for (tables, names) in [
        (StyleTables::GammaBeta, &["beta", "gamma"][..]),
        (StyleTables::Embedding, &["embed.weight"]),
        (
            StyleTables::ModuleList,
            &[
                "inns.0.bias",
                "inns.0.weight",
                "inns.1.bias",
                "inns.1.weight",
            ],
        ),
    ] {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, device);
        let norm = nn::conditional_instance_norm(2, 4, EPS, tables, vb)?;
        assert_eq!(keys(&vars), names);
        let y = norm.forward(&x, &Tensor::new(&[1u32, 0], device)?)?;
        assert_close(names[0], &y, &plain, Tolerance::of(DType::F32));
    }
    let vars = VarMap::new();
    let vb = || VarBuilder::from_varmap(&vars, DType::F32, device);
    nn::batch_instance_norm(4, 1e-5, vb().pp("bin"))?;
    nn::adaptive_instance_norm(3, 4, AdaptiveConfig::stargan_v2(), vb().pp("adain"))?;
    nn::spade(
        4,
        3,
        SpadeConfig::new(ParamFreeNorm::Batch),
        vb().pp("spade"),
    )?;
    nn::group_norm(2, 4, EPS, vb().pp("gn"))?;
    let names = [
        "adain.fc.bias",
        "adain.fc.weight",
        "bin.bias",
        "bin.gate",
        "bin.running_mean",
        "bin.running_var",
        "bin.weight",
        "gn.bias",
        "gn.weight",
        "spade.mlp_beta.bias",
        "spade.mlp_beta.weight",
        "spade.mlp_gamma.bias",
        "spade.mlp_gamma.weight",
        "spade.mlp_shared.0.bias",
        "spade.mlp_shared.0.weight",
        "spade.param_free_norm.running_mean",
        "spade.param_free_norm.running_var",
    ];
    assert_eq!(keys(&vars), names);
    Ok(())
}

test_device!(new_layers);

fn keys(vars: &VarMap) -> Vec<String> {
    let data = vars.data().lock().expect("the variables");
    let mut keys: Vec<String> = data.keys().cloned().collect();
    keys.sort();
    keys
}

/// Slices of one vector for several layers, and one style for all samples.
fn styles(device: &Device) -> Result<()> {
    let mut random = Random::new(74, device);
    let x = random.tensor((3, 4, 5), DType::F32, 0., 1.)?;
    let packed = random.tensor((3, 8 + 4 + 8), DType::F32, 0., 1.)?;
    let config = AdaptiveConfig::munit();
    let mut slices = StyleSlices::new(&packed)?;
    for (channels, at) in [(4, 0), (2, 8), (4, 12)] {
        let style = slices.take(channels)?;
        assert_eq!(to_f64(&style), to_f64(&packed.narrow(1, at, 2 * channels)?));
    }
    says(
        "empty",
        slices.take(1),
        "norm: expected 2 numbers for a layer's style, got the last 0",
    );
    slices.finish()?;
    let mut slices = StyleSlices::new(&packed)?;
    slices.take(4)?;
    says(
        "left",
        slices.finish(),
        "layers that take all 20 numbers of the styles, got 8",
    );
    says(
        "rank",
        StyleSlices::new(&x),
        "norm: expected styles of shape (N, numbers), got",
    );

    let one = packed.narrow(0, 1, 1)?.narrow(1, 0, 8)?;
    let all = one.broadcast_as((3, 8))?;
    let y = adaptive_instance_norm(&x, &one, &config)?;
    assert_eq!(
        to_f64(&y),
        to_f64(&adaptive_instance_norm(&x, &all, &config)?)
    );
    for shape in [&[3, 6][..], &[2, 8], &[3, 8, 1], &[8]] {
        let style = random.tensor(shape, DType::F32, 0., 1.)?;
        let message =
            "norm: expected a style of shape [3, 8] or [1, 8] for x of shape [3, 4, 5], got";
        says(
            "style",
            adaptive_instance_norm(&x, &style, &config),
            message,
        );
    }
    Ok(())
}

test_device!(styles);

/// The gate takes what the optimizer gives it, and is brought back when asked to be.
fn gate(device: &Device) -> Result<()> {
    let mut random = Random::new(75, device);
    let x = random.tensor((2, 3, 4, 4), DType::F32, 0., 1.)?;
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device);
    let norm = nn::batch_instance_norm(3, 1e-5, vb)?;
    let beyond = Tensor::new(&[-0.5f32, 0.25, 1.5], device)?;
    Var::from_tensor(norm.gate())?.set(&beyond)?;
    let y = norm.forward_t(&x, true)?;
    let want = batch_instance_norm(&x, None, None, &beyond, None, EPS)?;
    assert_close("no clamp on the way", &y, &want, Tolerance::of(DType::F32));
    norm.clamp_gate()?;
    assert_eq!(to_f64(norm.gate()), [0., 0.25, 1.]);

    let frozen = nn::batch_instance_norm(3, 1e-5, VarBuilder::zeros(DType::F32, device))?;
    says(
        "frozen",
        frozen.clamp_gate(),
        "norm: expected a gate that is a variable",
    );
    let point = x.narrow(2, 0, 1)?.narrow(3, 0, 1)?;
    says(
        "a point",
        norm.forward_t(&point, true),
        "norm: expected more than 1 spatial element",
    );
    says(
        "rank",
        norm.forward_t(
            &x.narrow(2, 0, 1)?.squeeze(2)?.narrow(2, 0, 1)?.squeeze(2)?,
            true,
        ),
        "norm: expected x of rank 3 or more",
    );
    let wrong = Tensor::new(&[1f32], device)?;
    let got = batch_instance_norm(&x, None, None, &wrong, None, EPS);
    says(
        "gate",
        got,
        "norm: expected a gate of shape [3] and dtype F32",
    );
    let empty = norm.forward_t(&x.narrow(0, 0, 0)?, true)?;
    assert_eq!(empty.dims(), [0, 3, 4, 4]);
    assert!(to_f64(norm.running_mean()).iter().all(|v| v.is_finite()));
    Ok(())
}

test_device!(gate);

/// In evaluation the layer gives the op its running statistics, as a caller would.
fn batch_of_running_statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(78, device);
    let x = random.tensor((2, 3, 4, 4), DType::F32, 1., 2.)?;
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device);
    let norm = nn::batch_instance_norm(3, EPS, vb)?;
    Var::from_tensor(norm.gate())?.set(&Tensor::new(&[0.25f32, 0.5, 0.75], device)?)?;
    norm.forward_t(&x, true)?;
    let batch = PlaneStats::from_var(norm.running_mean(), norm.running_var(), EPS)?;
    let (weight, bias) = (
        Tensor::new(&[1f32; 3], device)?,
        Tensor::new(&[0f32; 3], device)?,
    );
    let of_op =
        |batch| batch_instance_norm(&x, Some(&weight), Some(&bias), norm.gate(), batch, EPS);
    assert_eq!(
        to_f64(&norm.forward_t(&x, false)?),
        to_f64(&of_op(Some(&batch))?)
    );

    // Those of x itself are the default.
    let flat = x.transpose(0, 1)?.contiguous()?.reshape((1, 3, 32))?;
    let PlaneStats { mean, rstd } = instance_stats(&flat, EPS)?;
    let (mean, rstd) = (mean.squeeze(0)?, rstd.squeeze(0)?);
    let own = PlaneStats { mean, rstd };
    let (got, want) = (of_op(Some(&own))?, of_op(None)?);
    assert_close("own batch", &got, &want, Tolerance::of(DType::F32));

    let (mean, rstd) = (batch.mean.clone(), batch.rstd.narrow(0, 0, 2)?);
    let message = "norm: expected a batch rstd of shape [3] and dtype F32";
    says("rstd", of_op(Some(&PlaneStats { mean, rstd })), message);
    let message = "norm: expected a finite eps of 0 or more, got -1";
    says("eps", PlaneStats::from_var(&weight, &bias, -1.), message);
    Ok(())
}

test_device!(batch_of_running_statistics);

/// candle's own group norm, within rounding, through the same calls.
fn in_place_of_candles_group_norm(device: &Device) -> Result<()> {
    let mut random = Random::new(76, device);
    let state: std::collections::HashMap<String, Tensor> = [("weight", 1.), ("bias", 0.)]
        .into_iter()
        .map(|(k, mean)| Ok((k.to_string(), random.tensor(8, DType::F32, mean, 1.)?)))
        .collect::<Result<_>>()?;
    let vb = || VarBuilder::from_tensors(state.clone(), DType::F32, device);
    let ours = nn::group_norm(4, 8, 1e-6, vb())?;
    let theirs = candle_nn::group_norm(4, 8, 1e-6, vb())?;
    let x = random.tensor((2, 8, 5, 7), DType::F32, 1., 2.)?;
    let (y, want) = (ours.forward(&x)?, theirs.forward(&x)?);
    assert_close("group norm", &y, &want, Tolerance::of(DType::F32));
    says(
        "channels",
        ours.forward(&x.narrow(1, 0, 4)?),
        "norm: expected 8 channels, got 4",
    );
    says(
        "groups",
        nn::group_norm(3, 8, 1e-6, vb()),
        "divides the 8 channels, got 3",
    );
    says(
        "no groups",
        nn::group_norm(0, 8, 1e-6, vb()),
        "divides the 8 channels, got 0",
    );
    let channels = x.flatten_all()?.narrow(0, 0, 8)?;
    says(
        "rank",
        Normalization::group(2, 1e-6).forward(&channels),
        "rank 2 or more",
    );
    Ok(())
}

test_device!(in_place_of_candles_group_norm);

/// Maps that do not fit, and a gradient that reaches the labels where candle's own resizing has
/// none: 13 to 6 elements and 3 to 5.
fn spade(device: &Device) -> Result<()> {
    let vb = || VarBuilder::from_varmap(&VarMap::new(), DType::F32, device);
    let config = SpadeConfig {
        hidden: 4,
        ..SpadeConfig::new(ParamFreeNorm::Instance)
    };
    let even = SpadeConfig {
        kernel_size: 4,
        ..config
    };
    says(
        "kernel",
        nn::spade(2, 3, even, vb()),
        "norm: expected an odd kernel size, got 4",
    );
    let layer = nn::spade(2, 3, config, vb())?;
    let mut random = Random::new(77, device);
    let x = random.tensor((2, 2, 6, 5), DType::F32, 0., 1.)?;
    let labels = Var::from_tensor(&random.tensor((2, 3, 13, 3), DType::F32, 0., 1.)?)?;
    let y = layer.forward(&x, &labels)?;
    let grads = y.sqr()?.sum_all()?.backward()?;
    let of_labels = to_f64(grads.get(&labels).expect("a gradient"));
    // Rows 0 2 4 6 8 10 of 13 are read, all columns.
    for (i, g) in of_labels.iter().enumerate() {
        let row = i / 3 % 13;
        assert_eq!(*g != 0., row % 2 == 0 && row < 12, "row {row}");
    }
    let message =
        "norm: expected labels of shape (2, channels, h, w) for x of shape [2, 2, 6, 5], got";
    says(
        "batch",
        layer.forward(&x, &labels.narrow(0, 0, 1)?),
        message,
    );
    says(
        "rank",
        layer.forward(&x, &labels.narrow(3, 0, 1)?.squeeze(3)?),
        message,
    );
    says(
        "empty",
        layer.forward(&x, &labels.narrow(3, 0, 0)?),
        message,
    );
    Ok(())
}

test_device!(spade);
