//! Planes and groups that take shared memory on GPUs without clusters, where enough of them leave few
//! multiprocessors idle. Against f64 on the CPU.

use super::kernels::check_gradients_of_style;
use super::{DTYPES, EPS, data, gradient};
use crate::common;
use crate::common::reference::{Exact, Random, wide};
use crate::tuning;
use anyhow::Result;
use candle_core::{DType, Device, Shape, Tensor};
use candle_instance_norm::{Activation, EpsMode, Normalization, instance_stats};

/// Samples, channels, groups, and the vectors and elements of a plane. Forward a thread has one vector of planes
/// in shared memory and nine of the larger groups, the smaller ones fit in registers; backward five and more of
/// either. A few threads of planes that are no whole vectors have one more.
const SHAPES: [(usize, usize, usize, usize, usize); 3] = [
    (2, 17, 17, 4097, 1),
    (17, 6, 2, 1400, 0),
    // Sixteen vectors for each of 512 threads, and one.
    (17, 6, 2, 2731, 0),
];

/// A copy that starts so many elements behind the start of its storage.
fn behind(t: &Tensor, start: usize) -> Result<Tensor> {
    let flat = t.to_device(&Device::Cpu)?.flatten_all()?;
    let before = Tensor::zeros(start, t.dtype(), &Device::Cpu)?;
    let both = Tensor::cat(&[&before, &flat], 0)?.to_device(t.device())?;
    Ok(both.narrow(0, start, t.elem_count())?.reshape(t.shape())?)
}

/// What goes beside the norm.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nothing,
    /// Then the forward pass is in place, and the weight is one more.
    Residual,
    /// With weights and biases per element.
    Elements,
}

/// With a weight and a bias, and with an activation and a residual too.
fn planes_and_groups(device: &Device) -> Result<()> {
    let mut random = Random::new(9, device);
    let cases = || {
        SHAPES.into_iter().flat_map(|shape| {
            [Beside::Nothing, Beside::Residual, Beside::Elements].map(|b| (shape, b))
        })
    };
    for dtype in common::on(device, &DTYPES) {
        for ((n, c, groups, vectors, more), beside) in cases() {
            let spatial = vectors * tuning::VECTOR_BYTES / dtype.size_in_bytes() + more;
            // Of a large mean every vector counts, however near the mean the first estimate has to be.
            let all = data(dtype);
            let (mean, std, bound) = match beside {
                Beside::Nothing => all[all.len() - 1],
                _ => all[0],
            };
            // Groups stay on chip where x is aligned.
            let x = random.tensor((n, c, spatial), dtype, mean, std)?;
            let x = behind(&x, 2 * more)?;
            let residual = random.tensor((n, c, spatial), dtype, 0., 1.)?;
            let dy = behind(&gradient(&mut random, &x, (mean, std), 1)?, 1)?;
            // The sums of 1e6 products are more than an f16 holds.
            let of_params = if dtype == DType::F64 {
                dtype
            } else {
                DType::F32
            };
            let (of_params, shape) = match beside {
                Beside::Elements => (dtype, x.shape().clone()),
                _ => (of_params, Shape::from(c)),
            };
            let weight = random.tensor(&shape, of_params, 1., 0.3)?;
            let bias = random.tensor(&shape, of_params, 0., 1.)?;
            let run = |[x, residual, dy, weight, bias]: [&Tensor; 5]| -> Result<Vec<Tensor>> {
                let mut norm = Normalization::group(groups, EPS).weight(weight).bias(bias);
                if beside != Beside::Nothing {
                    norm = norm.activation(Activation::Silu).residual(residual);
                }
                if beside == Beside::Residual {
                    norm = norm.one_plus_weight();
                }
                let grads = norm.backward(x, dy)?;
                let y = if beside == Beside::Residual {
                    // In f64 on the CPU, x is the reference's too.
                    let y = x.copy()?;
                    norm.forward_in_place(&y)?;
                    y
                } else {
                    norm.forward(x)?
                };
                let grads = [Some(grads.x), grads.weight, grads.bias, grads.residual];
                Ok([Some(y)].into_iter().chain(grads).flatten().collect())
            };
            let inputs = [&x, &residual, &dy, &weight, &bias];
            let [a, b, c, d, e] = inputs.map(wide);
            let want = run([&a?, &b?, &c?, &d?, &e?])?;
            let names = ["y", "dx", "dweight", "dbias", "dresidual"];
            for ((name, got), want) in names.iter().zip(run(inputs)?).zip(want) {
                let what = format!("{name}, {dtype:?}, {groups} groups of {spatial}, {beside:?}");
                Exact::of(&want).check(&what, &got, bound);
            }
        }
    }
    Ok(())
}

/// The gradients of AdaIN's style, whose statistics are measured in shared memory. In f64, of which there are the
/// fewest elements.
fn styles(device: &Device) -> Result<()> {
    let mut random = Random::new(20, device);
    for dtype in common::on(device, &[DType::F64]) {
        let style = random.tensor((17, 2, 8195), dtype, 0., 1.)?;
        for eps_mode in [EpsMode::AddToVar, EpsMode::MaxWithVar] {
            check_gradients_of_style(&mut random, &style, false, 1, eps_mode)?;
        }
    }
    Ok(())
}

/// The statistics of planes as results: the mean is the f32 next to the exact one.
fn statistics(device: &Device) -> Result<()> {
    let x = Random::rough(21, device).tensor((17, 2, 16_389), DType::F32, 1e4, 1e-2)?;
    let (got, want) = (instance_stats(&x, EPS)?, instance_stats(&wide(&x)?, EPS)?);
    Exact::of(&want.mean).check("mean", &got.mean, f64::from(f32::EPSILON) / 2.);
    Exact::of(&want.rstd).check("rstd", &got.rstd, 1e-4);
    Ok(())
}

test_device!(planes_and_groups);
test_device!(statistics);
test_device!(styles);
