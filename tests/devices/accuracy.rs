//! Every kernel against f64, within the bounds that the README promises.

mod adain;
mod kernels;
mod large_means;
mod reach;
mod shared;
mod statistics;

use crate::common;
use crate::common::reference::{Affine, Case, Exact, Random, wide};
use crate::{shapes, tuning};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::Normalization;

const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const EPS: f64 = 1e-5;

/// N, C, and the elements of a plane: so many vectors of 16 bytes, and some more.
const SHAPES: [(usize, usize, usize, usize); 22] = [
    (2, 3, 0, 1),
    (3, 2, 0, 2),
    (3, 11, 6, 1),
    (5, 7, 15, 0),
    (1, 5, 20, 0),
    (5, 3, 13, 1),
    (2, 3, 60, 0),
    (3, 2, 61, 1),
    (1, 5, 120, 0),
    (2, 3, 117, 1),
    (1, 3, 250, 0),
    (2, 2, 201, 1),
    (2, 2, 600, 0),
    (1, 3, 719, 1),
    (2, 1, 1500, 0),
    (1, 3, 1733, 1),
    // Few planes on all multiprocessors; several segments on the CPU.
    (1, 2, 4200, 0),
    (2, 1, 5003, 1),
    (1, 1, 40_000, 1),
    // More planes than the split tier takes for few, and more than multiprocessors.
    (1, 35, 2050, 1),
    (2, 264, 131, 0),
    (2, 264, 259, 1),
];

/// Planes that an f64 has in half the elements, where f32 would take too long.
const F64_SHAPES: [(usize, usize, usize, usize); 2] = [
    // Chunks that a block of the split tier takes in more than one go.
    (1, 33, 8200, 0),
    // Forward 5 vectors a thread in shared memory and backward 9, which are loaded 4 by 4.
    (1, 34, 6200, 0),
];

fn shapes(dtype: DType) -> impl Iterator<Item = (usize, usize, usize)> {
    let of_f64 = F64_SHAPES.iter().filter(move |_| dtype == DType::F64);
    let per_vector = tuning::VECTOR_BYTES / dtype.size_in_bytes();
    let all = SHAPES.iter().chain(of_f64);
    all.map(move |&(n, c, vectors, more)| (n, c, vectors * per_vector + more))
}

/// Means and deviations of x, with the error allowed in terms of the scales in `Reference`.
///
/// - f32: some ten roundings of numbers up to 5 deviations make 2e-6. A mean of 1e4 is rounded by
///   5e-4 where it is kept in an f32, 5e-2 of a deviation of 1e-2: these bounds tell.
/// - half types compute as f32 does and round once, which `Exact::check` adds.
/// - f64: 1e-12. A mean of 1e4 may be off by half an ulp, 1e-12, which rstd (316 at most, by eps)
///   makes 3e-10.
fn data(dtype: DType) -> &'static [(f64, f64, f64)] {
    match dtype {
        DType::F32 => &[(0., 1., 2e-6), (1e4, 1., 1e-5), (1e4, 1e-2, 1e-4)],
        DType::F64 => &[(0., 1., 1e-12), (1e4, 1e-2, 5e-10)],
        _ => &[(0., 1., 2e-6), (8., 1., 2e-6)],
    }
}

/// Runs `f` on two CPU threads, on which few large planes are split. A GPU's work stays in this thread:
/// candle has a stream for each, and what is uploaded on one may not be there yet on another.
fn on_two_threads<R: Send>(device: &Device, f: impl FnOnce() -> R + Send) -> R {
    if !device.is_cpu() {
        return f();
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    pool.expect("two threads").install(f)
}

/// A gradient in the memory order of x, with `share` of x in it: where the two have nothing to do with
/// each other, what the gradient makes of the variance hardly counts. Made on the CPU: on the emulated
/// GPU it would take longer than the norm.
fn gradient(
    random: &mut Random,
    x: &Tensor,
    (mean, std): (f64, f64),
    share: usize,
) -> Result<Tensor> {
    let like = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let like = like
        .affine(1. / std, -mean / std)?
        .affine(share as f64, 0.)?;
    let noise = random.tensor(x.shape(), DType::F32, 0.25, 1.)?;
    let dy = (like + noise.to_device(&Device::Cpu)?)?.to_dtype(x.dtype())?;
    let dy = if x.is_contiguous() {
        dy
    } else {
        dy.transpose(1, 2)?.contiguous()?.transpose(1, 2)?
    };
    Ok(dy.to_device(x.device())?)
}

fn table(device: &Device) -> Result<()> {
    let mut random = Random::new(1, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, shape) in shapes(dtype).enumerate() {
            for &(mean, std, bound) in data(dtype) {
                let kind = [Affine::Sample, Affine::Channel, Affine::None][i % 3];
                let x = random.tensor(shape, dtype, mean, std)?;
                let wide = shapes::is_half(dtype) && i % 2 == 0;
                let params = random.params(&x, if wide { DType::F32 } else { dtype }, kind)?;
                let dy = gradient(&mut random, &x, (mean, std), i % 2)?;
                let what = format!(
                    "{dtype:?} {shape:?} {kind:?} mean {mean:e} std {std:e} on {:?}",
                    device.location()
                );
                let case = Case {
                    what,
                    x,
                    params,
                    dy,
                    eps: EPS,
                };
                on_two_threads(device, || case.check(bound))?;
            }
        }
    }
    Ok(())
}

test_device!(table);

/// Channels-last tensors: one and several strips side by side, one and several vectors of channels, strips of
/// blocks and of clusters, with whole vectors or not, and, beyond what those hold, parts of planes that take a
/// thread several rounds.
fn channels_last(device: &Device) -> Result<()> {
    const SHAPES: [(usize, usize, usize); 12] = [
        // Of whatever places a thread keeps, each is the last one of some strip.
        (1, 20, 12),
        (1, 20, 28),
        (1, 20, 44),
        (1, 20, 60),
        // Four warps a block, in half types.
        (1, 60, 1000),
        (2, 5, 700),
        (1, 264, 131),
        (3, 33, 260),
        (2, 64, 520),
        (1, 3, 9_000),
        (1, 5, 35_000),
        (2, 16, 1),
    ];
    // On the CPU, segments of an eighth of a sample, where that is more than the usual 32,768 elements.
    let large = device.is_cpu().then_some((1, 130, 3_000));
    let mut random = Random::new(3, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, (n, c, spatial)) in SHAPES.into_iter().chain(large).enumerate() {
            for &(mean, std, bound) in data(dtype) {
                let kind = [Affine::Sample, Affine::Channel, Affine::None][i % 3];
                let x = random.tensor((n, spatial, c), dtype, mean, std)?;
                let x = x.transpose(1, 2)?;
                let dy = gradient(&mut random, &x, (mean, std), i % 2)?;
                let case = Case {
                    what: format!("{dtype:?} {n} {c} {spatial} {kind:?} mean {mean:e} std {std:e}"),
                    params: random.params(&x, dtype, kind)?,
                    x,
                    dy,
                    eps: EPS,
                };
                on_two_threads(device, || case.check(bound))?;
            }
        }
    }
    Ok(())
}

test_device!(channels_last);

/// Groups, which a GPU keeps on chip where their planes are whole vectors: of one block, of clusters of
/// two, four and eight, of more than those hold, with several planes a warp and several blocks a plane,
/// and one element more than vectors. Channels-last, strips of them where those have whole groups. Against
/// f64 on the CPU.
fn groups(device: &Device) -> Result<()> {
    /// Channels, groups, and the vectors and elements of a plane.
    const SHAPES: [(usize, usize, usize, usize); 11] = [
        (6, 2, 40, 0),
        // A plane ends with the last vector but one of a warp, where the next begins.
        (4, 2, 127, 0),
        // Five planes for a lane of the warp that merges them between the launches.
        (130, 1, 9, 1),
        // A strip of two groups.
        (16, 2, 10, 0),
        (12, 2, 6, 0),
        (6, 2, 100, 0),
        (8, 1, 640, 0),
        (4, 1, 2400, 0),
        (3, 1, 6000, 0),
        (6, 2, 40, 1),
        (24, 6, 16, 0),
    ];
    /// More than the 16 planes that a warp merges at once where each has two parts. In one type: it takes long.
    const LONG: (usize, usize, usize, usize) = (18, 1, 1030, 1);
    let mut random = Random::new(8, device);
    for dtype in common::on(device, &DTYPES) {
        let [planar, channels_last] = [false, true].map(|last| SHAPES.map(|shape| (shape, last)));
        let long = (dtype == DType::F32).then_some((LONG, false));
        let all = planar.into_iter().chain(channels_last).chain(long);
        for ((c, groups, vectors, more), last) in all {
            let spatial = vectors * tuning::VECTOR_BYTES / dtype.size_in_bytes() + more;
            for &(mean, std, bound) in data(dtype) {
                let x = if last {
                    random
                        .tensor((2, spatial, c), dtype, mean, std)?
                        .transpose(1, 2)?
                } else {
                    random.tensor((2, c, spatial), dtype, mean, std)?
                };
                let dy = gradient(&mut random, &x, (mean, std), 1)?;
                // The sums of 1e5 products are more than an f16 holds.
                let wide_params = if dtype == DType::F64 {
                    dtype
                } else {
                    DType::F32
                };
                let (weight, bias) = (
                    random.tensor(c, wide_params, 1., 0.3)?,
                    random.tensor(c, wide_params, 0., 1.)?,
                );
                let run = |[x, dy, weight, bias]: [&Tensor; 4]| -> Result<[Tensor; 4]> {
                    let norm = Normalization::group(groups, EPS).weight(weight).bias(bias);
                    let grads = norm.backward(x, dy)?;
                    let [of_weight, of_bias] = [grads.weight, grads.bias].map(Option::unwrap);
                    Ok([norm.forward(x)?, grads.x, of_weight, of_bias])
                };
                let inputs = [&x, &dy, &weight, &bias];
                let [wide_x, wide_dy, wide_weight, wide_bias] = inputs.map(wide);
                let want = run([&wide_x?, &wide_dy?, &wide_weight?, &wide_bias?])?;
                for ((what, got), want) in ["y", "dx", "dweight", "dbias"]
                    .iter()
                    .zip(run(inputs)?)
                    .zip(want)
                {
                    let what = format!(
                        "{what}, {dtype:?}, {c} in {groups} of {spatial}, last {last}, mean {mean:e}"
                    );
                    Exact::of(&want).check(&what, &got, bound);
                }
            }
        }
    }
    Ok(())
}

test_device!(groups);
