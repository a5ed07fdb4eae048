//! Every kernel against f64, within the bounds that the README promises.

mod adain;
mod kernels;
mod shared;

use crate::common::reference::{Affine, Case, Exact, Random, wide};
use crate::common::{self, Tolerance, assert_close, max_abs, to_f64};
use crate::plan::{self, Caps, Chunks, CpuPlan, GpuPlan, Job, Pass, Tier};
use crate::{shapes, tuning};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::nn::{InstanceNormConfig, instance_norm1d};
use candle_instance_norm::{Activation, Normalization, PlaneStats, instance_stats};
use candle_nn::VarBuilder;
use std::collections::BTreeSet;

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

/// Shared memory of a block of an H200.
const SHARED: usize = 227 << 10;

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
    const SHAPES: [(usize, usize, usize); 7] = [
        (2, 5, 700),
        (1, 264, 131),
        (3, 33, 260),
        (2, 64, 520),
        (1, 3, 9_000),
        (1, 5, 35_000),
        (2, 16, 1),
    ];
    let mut random = Random::new(3, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, (n, c, spatial)) in SHAPES.into_iter().enumerate() {
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
    const SHAPES: [(usize, usize, usize, usize); 8] = [
        (6, 2, 40, 0),
        (12, 2, 6, 0),
        (6, 2, 100, 0),
        (8, 1, 640, 0),
        (4, 1, 2400, 0),
        (3, 1, 6000, 0),
        (6, 2, 40, 1),
        (24, 6, 16, 0),
    ];
    let mut random = Random::new(8, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, (c, groups, vectors, more)) in SHAPES.repeat(2).into_iter().enumerate() {
            let last = i >= SHAPES.len();
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

/// Gradients that ask for more digits of a mean than an f32 has: at 1e4, with a deviation of 1e-2, it
/// leaves out 5 % of that. Of the mean of x through an activation, where the normalized x is computed
/// again, and of the mean of dy, which dx is centred by. Against f64 on the CPU.
fn large_means(device: &Device) -> Result<()> {
    // One more than whole vectors.
    const SIZES: [usize; 7] = [101, 233, 501, 1501, 3997, 8001, 20_013];
    let (large, plain) = ((1e4, 1e-2), (0., 1.));
    let mut random = Random::rough(4, device);
    for dtype in common::on(device, &[DType::F32, DType::F64]) {
        // In f64 the reference itself leaves 5e-9 out.
        let bound = if dtype == DType::F64 { 1e-7 } else { 1e-3 };
        for (i, spatial) in SIZES.repeat(4).into_iter().enumerate() {
            let (last, of_x) = (i / SIZES.len() % 2 == 1, i / SIZES.len() < 2);
            let mut tensor = |is_large: bool| {
                let (mean, std) = if is_large { large } else { plain };
                if last {
                    random
                        .tensor((1, spatial, 3), dtype, mean, std)?
                        .transpose(1, 2)
                } else {
                    random.tensor((1, 3, spatial), dtype, mean, std)
                }
            };
            let (x, dy) = (tensor(of_x)?, tensor(!of_x)?);
            let (weight, bias) = (
                random.tensor(3, dtype, 1., 0.3)?,
                random.tensor(3, dtype, 0., 1.)?,
            );
            let activation = if of_x {
                Activation::Silu
            } else {
                Activation::None
            };
            let grads = |x: &Tensor, dy: &Tensor, weight: &Tensor, bias: &Tensor| {
                let norm = Normalization::instance(EPS).weight(weight).bias(bias);
                norm.activation(activation).backward(x, dy)
            };
            let got = grads(&x, &dy, &weight, &bias)?;
            let want = grads(&wide(&x)?, &wide(&dy)?, &wide(&weight)?, &wide(&bias)?)?;
            for (what, got, want) in [
                ("dx", Some(got.x), Some(want.x)),
                ("dweight", got.weight, want.weight),
                ("dbias", got.bias, want.bias),
            ] {
                let (got, want) = (got.expect("a gradient"), want.expect("a gradient"));
                let what = format!("{what}, {dtype:?}, {spatial}, last {last}, of x {of_x}");
                let atol = bound * max_abs(&want);
                assert_close(&what, &got, &want, Tolerance { atol, rtol: 0. });
            }
        }
    }
    Ok(())
}

test_device!(large_means);

/// The statistics of planes, as a layer averages them over samples: with a momentum of 1 the
/// running ones are those of the last batch.
fn statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(2, device);
    for dtype in common::on(device, &DTYPES) {
        for spatial in [7, 1001, 40_001] {
            let x = random.tensor((2, 2, spatial), dtype, 8., 1.)?;
            let wide = if dtype == DType::F64 {
                dtype
            } else {
                DType::F32
            };
            let vb = VarBuilder::zeros(wide, device);
            let config = InstanceNormConfig {
                momentum: 1.,
                track_running_stats: true,
                ..Default::default()
            };
            let layer = instance_norm1d(2, config, vb)?;
            layer.forward_t(&x, true)?;
            let (mut mean, mut var) = (Exact::default(), Exact::default());
            let planes = to_f64(&x);
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| moments(&planes[i * spatial..][..spatial]));
            for (first, second) in [(a, c), (b, d)] {
                mean.push((first.0 + second.0) / 2., 8.);
                var.push((first.1 + second.1) / 2., 1.);
            }
            let bound = data(dtype)[0].2;
            let what = format!("{dtype:?} {spatial} on {:?}", device.location());
            mean.check(
                &format!("{what}: mean"),
                layer.running_mean().unwrap(),
                bound,
            );
            var.check(&format!("{what}: var"), layer.running_var().unwrap(), bound);
        }
    }
    // More parts than a warp merges at once, 171 and 108 of them: nvcc has the lanes merge four by four,
    // and some have four. Their means differ, in digits too that an f32 has not.
    let mut random = Random::rough(6, device);
    let cases = [
        (DType::F32, 700_001, 8., 1., 2e-6),
        (DType::F32, 700_001, 1e4, 1e-2, 1e-4),
        (DType::F32, 440_001, 1e4, 1e-2, 1e-4),
        (DType::F64, 220_001, 1e4, 1e-2, 5e-10),
    ];
    let has = |dtype| common::on(device, &DTYPES).contains(&dtype);
    for (dtype, spatial, mean, std, bound) in cases.into_iter().filter(|case| has(case.0)) {
        let x = random.tensor((1, 1, spatial), dtype, mean, std)?;
        let PlaneStats {
            mean: got_mean,
            rstd,
        } = instance_stats(&x, 0.)?;
        let exact = moments(&to_f64(&x));
        let biased = exact.1 * (spatial as f64 - 1.) / spatial as f64;
        for (what, got, want, scale) in [
            ("mean", got_mean, exact.0, mean),
            ("rstd", rstd, 1. / biased.sqrt(), 1. / std),
        ] {
            let mut of_one = Exact::default();
            of_one.push(want, scale);
            let what = format!("{what} of {spatial} {dtype:?}, mean {mean:e} std {std:e}");
            of_one.check(&what, &got, bound);
        }
    }
    Ok(())
}

test_device!(statistics);

/// The mean and the unbiased variance.
fn moments(plane: &[f64]) -> (f64, f64) {
    let len = plane.len() as f64;
    let mean = plane.iter().sum::<f64>() / len;
    let squares = plane.iter().map(|v| (v - mean).powi(2));
    (mean, squares.sum::<f64>() / (len - 1.))
}

/// Every kernel that a plan can lead to is in the PTX, in each of its variants, and nothing else is.
#[cfg(feature = "cuda")]
#[test]
fn entries_and_ptx_agree() -> Result<()> {
    let entries = |file: String| -> Result<Vec<String>> {
        let text = std::fs::read_to_string(format!("{}/{file}.ptx", env!("OUT_DIR")))?;
        let names = |line: &str| Some(line.split_once(".entry ")?.1.split('(').next()?.to_string());
        Ok(text.lines().filter_map(names).collect())
    };
    for dtype in ["f32", "f16", "bf16", "f64"] {
        for (end, clusters) in [("baseline", false), ("hopper", true)] {
            let end = format!("{dtype}.{end}");
            let all = plan::Kernel::all(Caps::cuda(132, clusters, SHARED));
            let mut wanted: Vec<String> = all.iter().map(|k| k.entry()).collect();
            wanted.sort();
            for variant in ["plain", "full"] {
                let mut found = entries(format!("finish.{end}"))?;
                for source in [
                    "in_fwd",
                    "in_bwd",
                    "in_groups_fwd",
                    "in_groups_bwd",
                    "split",
                    "channels_last",
                    "strip",
                ] {
                    found.extend(entries(format!("{source}.{variant}.{end}"))?);
                }
                found.extend(entries(format!("in_adain.plain.{end}"))?);
                found.sort();
                assert_eq!(found, wanted, "{variant} {end}");
            }
        }
    }
    Ok(())
}

/// On an H200, and on a GPU as large without clusters; on another the table reaches what it reaches.
#[test]
fn the_table_reaches_every_kernel() -> Result<()> {
    const SM_COUNT: usize = 132;
    let (mut seen, mut cpu) = (BTreeSet::new(), BTreeSet::new());
    for (dtype, clusters) in DTYPES.iter().flat_map(|d| [(*d, false), (*d, true)]) {
        let size = dtype.size_in_bytes();
        for (n, c, spatial) in shapes(dtype) {
            let planes = shapes::Planes { n, c, spatial };
            let aligned = (spatial * size).is_multiple_of(tuning::VECTOR_BYTES);
            for pass in [Pass::Forward, Pass::Backward] {
                let job = Job {
                    pass,
                    planes,
                    format: shapes::Format::Planar,
                    channels_per_group: 1,
                    given: false,
                    element: size,
                    aligned,
                    adjacent: true,
                    plain: true,
                };
                let plan = GpuPlan::new(&job, Caps::cuda(SM_COUNT, clusters, SHARED))?;
                let tier = match plan.tier {
                    Tier::Lanes { lanes, vectors } => format!("lanes{lanes}x{vectors}"),
                    Tier::Block { vectors } => format!("block{vectors}"),
                    Tier::Cluster { .. } => "cluster".to_string(),
                    Tier::Shared { .. } => "shared".to_string(),
                    Tier::Split(_) => "split".to_string(),
                    Tier::Groups { .. }
                    | Tier::GroupsShared { .. }
                    | Tier::Columns(_)
                    | Tier::Strip(_) => {
                        unreachable!("planes of their own")
                    }
                };
                seen.insert(format!("{pass:?} {tier} {dtype:?}"));
                if let Tier::Split(Chunks { length, .. }) = plan.tier {
                    let at_once = tuning::SPLIT_THREADS * tuning::SPLIT_VECTORS;
                    seen.insert(format!("{pass:?} loops: {}", length > at_once));
                }
            }
            let segments = spatial.div_ceil(plan::SEGMENT).min(2);
            cpu.insert((CpuPlan::new(&planes, 1, 2) == CpuPlan::Segments, segments));
        }
    }
    let forward = [
        "lanes4x1",
        "lanes4x2",
        "lanes4x4",
        "lanes8x4",
        "lanes16x4",
        "lanes32x4",
        "lanes32x8",
        "block2",
        "block4",
        "block8",
        "cluster",
        "split",
    ];
    let backward = [
        "lanes4x1",
        "lanes4x2",
        "lanes4x4",
        "lanes8x4",
        "lanes16x4",
        "lanes32x4",
        "block1",
        "block2",
        "block4",
        "block8",
        "cluster",
        "shared",
        "split",
    ];
    for dtype in DTYPES {
        let forward = forward.map(|tier| format!("Forward {tier} {dtype:?}"));
        let backward = backward.map(|tier| format!("Backward {tier} {dtype:?}"));
        for kernel in forward.iter().chain(&backward) {
            assert!(seen.contains(kernel), "{kernel} is not reached");
        }
    }
    // In the other dtypes by tests of their own: shared.rs.
    assert!(seen.contains("Forward shared F64"));
    for pass in ["Forward", "Backward"] {
        for loops in [true, false] {
            assert!(seen.contains(&format!("{pass} loops: {loops}")));
        }
    }
    // Whole planes of one and of more segments, and planes shared by the threads.
    assert_eq!(cpu, BTreeSet::from([(false, 1), (false, 2), (true, 2)]));
    Ok(())
}
