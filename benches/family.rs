//! Times the ops beside instance norm: each against the same composed of other ops, and a copy.
//!
//! ```text
//! cargo bench --bench family -- --device cpu
//! cargo bench --bench family --features cuda -- --device cuda --json family.json
//! ```
//!
//! - group_norm: `candle_nn::GroupNorm`, with 32 groups; `_silu` followed by candle's `silu`.
//! - relu_residual: instance norm, residual and ReLU in one pass, against the three apart: our
//!   `instance_norm`, then candle's `+` and `relu`.
//! - adain: `adain`, against the same in candle's ops.
//! - conditional, spade: parameters per sample and per element in the pass, against `instance_norm`
//!   and candle's `*` and `+`.
//! - stats, with_stats: the statistics alone, and norms with given ones, against candle's ops.
//! - in_place: instance norm over x itself, against a copy within memory that is there already
//!   (of candle's, into one half of a tensor from the other).
//! - channels_last: instance norm of a channels-last x, against that of a planar copy of it.
//!
//! GB/s counts the bytes that a perfect kernel moves: each input read once, y written once.

mod timing;

use anyhow::Context;
use candle_core::{DType, Device, Result, Tensor};
use candle_instance_norm::{
    adain, instance_norm, instance_norm_with_stats, instance_stats, Activation, AdaInConfig,
    Normalization,
};
use candle_nn::{GroupNorm, Module};
use clap::Parser;
use serde_json::json;
use std::fs::File;
use std::path::PathBuf;
use timing::{device, take_turns, Contender};

const EPS: f64 = 1e-5;

/// Median times of the ops of the family, of the same composed, and of a copy.
#[derive(Parser)]
struct Args {
    /// cpu, cuda or metal.
    #[arg(long, value_parser = device, default_value = "cpu")]
    device: Device,
    /// Write the rows here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "f32")]
    dtypes: Vec<DType>,
    /// Only the rows whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// The time for a row, shared equally by its contenders.
    #[arg(long, default_value_t = 1.)]
    seconds: f64,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is timed, what it is compared with, and the tensors of the size of x that ours moves.
struct Row {
    ours: Contender,
    other: Contender,
    tensors: usize,
}

type Build = fn(&Tensor) -> Result<Row>;

const ROWS: [(&str, &[usize], Build); 18] = [
    ("group_norm", &[2, 320, 64, 64], |x| group_norm(x, false)),
    ("group_norm", &[1, 128, 512, 512], |x| group_norm(x, false)),
    ("group_norm_silu", &[2, 320, 64, 64], |x| {
        group_norm(x, true)
    }),
    ("group_norm_silu", &[1, 128, 512, 512], |x| {
        group_norm(x, true)
    }),
    ("relu_residual", &[1, 128, 64, 64], relu_residual),
    ("relu_residual", &[1, 64, 256, 256], relu_residual),
    ("relu_residual", &[8, 256, 64, 64], relu_residual),
    ("adain", &[1, 512, 32, 32], style),
    ("adain", &[1, 512, 64, 64], style),
    ("adain", &[4, 256, 64, 64], style),
    ("conditional", &[8, 256, 64, 64], conditional),
    ("spade", &[2, 128, 128, 128], spade),
    ("stats", &[8, 256, 64, 64], statistics),
    ("with_stats", &[8, 256, 64, 64], with_stats),
    ("in_place", &[1, 64, 256, 256], in_place),
    ("in_place", &[8, 256, 64, 64], in_place),
    ("channels_last", &[1, 64, 256, 256], channels_last),
    ("channels_last", &[8, 256, 64, 64], channels_last),
];

fn group_norm(x: &Tensor, silu: bool) -> Result<Row> {
    let c = x.dim(1)?;
    let weight = Tensor::ones(c, x.dtype(), x.device())?;
    let bias = weight.zeros_like()?;
    let fused = Normalization::group(32, EPS).weight(&weight).bias(&bias);
    let composed = GroupNorm::new(weight, bias, c, 32, EPS)?;
    let (x, input) = (x.clone(), x.clone());
    Ok(match silu {
        false => Row {
            ours: Contender::new(move || fused.forward(&x)),
            other: Contender::new(move || composed.forward(&input)),
            tensors: 2,
        },
        true => {
            let fused = fused.activation(Activation::Silu);
            Row {
                ours: Contender::new(move || fused.forward(&x)),
                other: Contender::new(move || composed.forward(&input)?.silu()),
                tensors: 2,
            }
        }
    })
}

fn relu_residual(x: &Tensor) -> Result<Row> {
    let residual = x.copy()?;
    let fused = Normalization::instance(EPS)
        .residual(&residual)
        .activation(Activation::Relu);
    let (x, input) = (x.clone(), x.clone());
    Ok(Row {
        ours: Contender::new(move || fused.forward(&x)),
        other: Contender::new(move || {
            (instance_norm(&input, None, None, EPS)? + &residual)?.relu()
        }),
        tensors: 3,
    })
}

fn style(x: &Tensor) -> Result<Row> {
    let style = x.affine(2., 1.)?;
    let (x, input, like) = (x.clone(), x.clone(), style.clone());
    let config = AdaInConfig::default();
    Ok(Row {
        ours: Contender::new(move || adain(&x, &style, &config)),
        other: Contender::new(move || {
            let (_, std, centred) = moments(&input)?;
            let (style_mean, style_std, _) = moments(&like)?;
            let y = centred.broadcast_div(&std)?.broadcast_mul(&style_std)?;
            y.broadcast_add(&style_mean)
        }),
        tensors: 3,
    })
}

/// The mean and the unbiased deviation of each plane, as one writes them in candle, and `x - mean`.
fn moments(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let len = (x.dim(2)? * x.dim(3)?) as f64;
    let mean = x.mean_keepdim((2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let var = (centred.sqr()?.sum_keepdim((2, 3))? / (len - 1.))?;
    Ok((mean, (var + EPS)?.sqrt()?, centred))
}

/// A weight and a bias for each sample and channel, as conditional and adaptive norms have them.
fn conditional(x: &Tensor) -> Result<Row> {
    let (n, c) = (x.dim(0)?, x.dim(1)?);
    let params = Tensor::ones((n, c), x.dtype(), x.device())?;
    let fused = Normalization::instance(EPS).weight(&params).bias(&params);
    let (x, input, params) = (x.clone(), x.clone(), params.reshape((n, c, 1, 1))?);
    Ok(Row {
        ours: Contender::new(move || fused.forward(&x)),
        other: Contender::new(move || {
            let y = instance_norm(&input, None, None, EPS)?;
            y.broadcast_mul(&params)?.broadcast_add(&params)
        }),
        tensors: 2,
    })
}

/// A weight and a bias for each element, stored as what they exceed 1 and 0 by.
fn spade(x: &Tensor) -> Result<Row> {
    let (gamma, beta) = (x.copy()?, x.copy()?);
    let fused = Normalization::instance(EPS).weight(&gamma).bias(&beta);
    let fused = fused.one_plus_weight();
    let (x, input) = (x.clone(), x.clone());
    Ok(Row {
        ours: Contender::new(move || fused.forward(&x)),
        other: Contender::new(move || {
            let y = instance_norm(&input, None, None, EPS)?;
            (y * (&gamma + 1.)?)? + &beta
        }),
        tensors: 4,
    })
}

fn statistics(x: &Tensor) -> Result<Row> {
    let (x, input) = (x.clone(), x.clone());
    Ok(Row {
        ours: Contender::new(move || instance_stats(&x, EPS)),
        other: Contender::new(move || {
            let (mean, std, _) = moments(&input)?;
            Ok((mean, std.recip()?))
        }),
        tensors: 1,
    })
}

fn with_stats(x: &Tensor) -> Result<Row> {
    let (mean, rstd) = instance_stats(x, EPS)?;
    let of_planes = |t: &Tensor| t.unsqueeze(2)?.unsqueeze(3);
    let (means, rstds) = (of_planes(&mean)?, of_planes(&rstd)?);
    let (x, input) = (x.clone(), x.clone());
    Ok(Row {
        ours: Contender::new(move || instance_norm_with_stats(&x, &mean, &rstd, None, None)),
        other: Contender::new(move || input.broadcast_sub(&means)?.broadcast_mul(&rstds)),
        tensors: 2,
    })
}

fn in_place(x: &Tensor) -> Result<Row> {
    let memory = Tensor::cat(&[x, x], 0)?;
    let (n, half) = (x.dim(0)?, x.copy()?);
    let (x, norm) = (x.copy()?, Normalization::instance(EPS));
    Ok(Row {
        ours: Contender::new(move || norm.forward_in_place(&x)),
        other: Contender::new(move || memory.slice_set(&half, 0, n)),
        tensors: 2,
    })
}

fn channels_last(x: &Tensor) -> Result<Row> {
    let last = x
        .permute((0, 2, 3, 1))?
        .contiguous()?
        .permute((0, 3, 1, 2))?;
    let input = last.clone();
    Ok(Row {
        ours: Contender::new(move || instance_norm(&last, None, None, EPS)),
        other: Contender::new(move || instance_norm(&input.contiguous()?, None, None, EPS)),
        tensors: 2,
    })
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    timing::print_header(&args.device)?;
    println!("op               shape           dtype   ours ms     GB/s ours/copy other/ours");
    let mut rows = Vec::new();
    for (op, dims, build) in ROWS.iter().filter(|row| row.0.contains(&args.only)) {
        for &dtype in &args.dtypes {
            let x = Tensor::randn(0f32, 1., *dims, &args.device)?.to_dtype(dtype)?;
            let row = build(&x).with_context(|| format!("{op} {dims:?} {dtype:?}"))?;
            let (source, bytes) = (x.clone(), x.elem_count() * dtype.size_in_bytes());
            let copy = Contender::new(move || source.copy());
            let mut running = [row.ours, row.other, copy];
            for contender in &mut running {
                contender.warm_up(&args.device, args.seconds / 10.)?;
            }
            take_turns(&mut running, &args.device, args.seconds)?;
            let [ours, other, copy] = running.each_mut().map(Contender::median_ms);
            let gb_per_s = (row.tensors * bytes) as f64 / ours / 1e6;
            let shape = dims
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join("x");
            println!(
                "{op:<16} {shape:<15} {:<5} {ours:>9.4} {gb_per_s:>8.1} {:>9.2} {:>10.2}",
                dtype.as_str(),
                ours / copy,
                other / ours
            );
            rows.push(json!({
                "op": op, "shape": dims, "dtype": dtype.as_str(), "direction": "forward",
                "ours_ms": ours, "other_ms": other, "copy_ms": copy, "gb_per_s": gb_per_s,
            }));
        }
    }
    if let Some(path) = args.json {
        serde_json::to_writer_pretty(File::create(path)?, &rows)?;
    }
    Ok(())
}
