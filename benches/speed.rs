//! Times instance norm against a copy and against what candle offers without this crate.
//!
//! ```text
//! cargo bench --bench speed -- --device cpu --shapes 1x64x256x256,4x512x16x16 --dtypes f32
//! cargo bench --bench speed --features cuda -- --device cuda --json speed.json
//! ```
//!
//! - ours: `instance_norm`, then `instance_norm_backward` (`autograd`: `Tensor::backward`).
//! - copy: `Tensor::copy` of x, which reads and writes as much as a perfect forward pass.
//! - composed: `candle_nn::GroupNorm` with a group per channel, and `Tensor::backward`.
//!
//! GB/s counts the bytes that a perfect kernel moves: x read and y written forward, then x and dy
//! read and dx written backward.

mod timing;

use std::fs::File;
use std::num::ParseIntError;
use std::path::PathBuf;

use anyhow::Context;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_instance_norm::{instance_norm, instance_norm_backward};
use candle_nn::{GroupNorm, Module};
use clap::{Parser, ValueEnum};
use serde_json::{json, Value};
use timing::{device, take_turns, Contender};

const SHAPES: &str = "1x64x256x256,1x128x128x128,8x256x64x64,1x32x512x512,4x512x16x16,\
    20x100x35x45,1x32x64x64x64,1x3x2160x3840,32x256x56x56,16x256x7x7";
const EPS: f64 = 1e-5;

/// Median times of instance norm, of a copy and of candle's GroupNorm.
#[derive(Parser)]
struct Args {
    /// cpu, cuda or metal.
    #[arg(long, value_parser = device, default_value = "cpu")]
    device: Device,
    /// Write the rows here, as benches/peers/pytorch.py does.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// f32, f16, bf16 or f64.
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "f32,f16,bf16")]
    dtypes: Vec<DType>,
    #[arg(long, value_delimiter = ',', num_args = 1.., value_parser = dims, default_value = SHAPES)]
    shapes: Vec<Vec<usize>>,
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "forward,forward+backward")]
    directions: Vec<Direction>,
    /// The time for a row, shared equally by ours, copy and composed.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Direction {
    Forward,
    #[value(name = "forward+backward")]
    ForwardBackward,
    /// Both passes as candle's autograd runs them.
    Autograd,
}

fn dims(text: &str) -> std::result::Result<Vec<usize>, ParseIntError> {
    text.split('x').map(str::parse).collect()
}

/// Ours, copy and composed.
fn contenders(direction: Direction, x: &Tensor, dy: &Tensor) -> Result<[Contender; 3]> {
    let channels = x.dim(1)?;
    let weight = Tensor::ones(channels, x.dtype(), x.device())?;
    let bias = weight.zeros_like()?;
    let norm = GroupNorm::new(weight, bias, channels, channels, EPS)?;
    let (x, dy, var) = (x.clone(), dy.clone(), Var::from_tensor(x)?);
    let (source, input, tracked) = (x.clone(), x.clone(), var.clone());

    let copy = Contender::new(move || source.copy());
    // Only a variable is tracked: the forward pass alone builds no graph.
    let composed = match direction {
        Direction::Forward => Contender::new(move || norm.forward(&input)),
        _ => Contender::new(move || autograd(norm.forward(&tracked)?)),
    };
    let ours = match direction {
        Direction::Forward => Contender::new(move || instance_norm(&x, None, None, EPS)),
        Direction::ForwardBackward => Contender::new(move || {
            let y = instance_norm(&x, None, None, EPS)?;
            Ok((y, instance_norm_backward(&x, None, None, &dy, EPS)?))
        }),
        Direction::Autograd => {
            Contender::new(move || autograd(instance_norm(&var, None, None, EPS)?))
        }
    };
    Ok([ours, copy, composed])
}

/// Candle's backward pass from y, with a gradient of ones. To start it from dy would take
/// `(y * dy).sum_all()`, whose passes are no part of the norm.
fn autograd(y: Tensor) -> Result<(Tensor, GradStore)> {
    y.backward().map(|grads| (y, grads))
}

/// Times a row, prints its line of the table and returns it for the JSON file.
fn row(direction: Direction, x: &Tensor, dy: &Tensor, seconds: f64) -> Result<Value> {
    let (device, dtype) = (x.device(), x.dtype().as_str());
    let shape: Vec<String> = x.dims().iter().map(usize::to_string).collect();
    let shape = shape.join("x");
    let mut running = Vec::from(contenders(direction, x, dy)?);
    for contender in &mut running[..2] {
        contender.warm_up(device, seconds / 10.)?;
    }
    if let Err(error) = running[2].warm_up(device, seconds / 10.) {
        eprintln!("{shape} {dtype}: composed: {error}");
        running.truncate(2);
    }
    take_turns(&mut running, device, seconds)?;
    let (ours, copy) = (running[0].median_ms(), running[1].median_ms());
    let composed = running.get_mut(2).map(Contender::median_ms);

    let (op, passes, label, tensors) = match direction {
        Direction::Forward => ("instance_norm", "forward", "forward", 2),
        Direction::ForwardBackward => ("instance_norm", "forward+backward", "forward+backward", 5),
        Direction::Autograd => ("instance_norm_autograd", "forward+backward", "autograd", 5),
    };
    let bytes = tensors * x.elem_count() * x.dtype().size_in_bytes();
    let gb_per_s = bytes as f64 / ours / 1e6;
    let ratio = composed.map_or("-".to_string(), |c| format!("{:.2}", c / ours));
    println!(
        "{shape:<15} {dtype:<5} {label:<16} {ours:>9.4} {gb_per_s:>8.1} {:>9.2} {ratio:>13}",
        ours / copy
    );
    let rounded = |ms: f64| (ms * 1e6).round() / 1e6;
    Ok(json!({
        "op": op, "shape": x.dims(), "dtype": dtype, "direction": passes,
        "ours_ms": rounded(ours), "copy_ms": rounded(copy), "composed_ms": composed.map(rounded),
        "gb_per_s": (gb_per_s * 1e3).round() / 1e3,
    }))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    timing::print_header(&args.device)?;
    println!("shape           dtype direction          ours ms     GB/s ours/copy composed/ours");
    let mut rows = Vec::new();
    for dims in &args.shapes {
        for &dtype in &args.dtypes {
            let random = || Tensor::randn(0f32, 1., dims.as_slice(), &args.device)?.to_dtype(dtype);
            let (x, dy) = (random()?, random()?);
            for &direction in &args.directions {
                let row = row(direction, &x, &dy, args.seconds);
                rows.push(row.with_context(|| format!("{dims:?} {dtype:?}"))?);
            }
        }
    }
    if let Some(path) = args.json {
        serde_json::to_writer_pretty(File::create(path)?, &rows)?;
    }
    Ok(())
}
