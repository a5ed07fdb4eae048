//! What every kernel on chip can do, in planes of few elements, where the table has a few calls of many.

use super::{EPS, data, gradient};
use crate::common::reference::{Affine, Case, Exact, Random, wide};
use crate::common::{self, to_f64};
use crate::{shapes, tuning};
use anyhow::Result;
use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_instance_norm::{Activation, AdaInConfig, EpsMode, Normalization, adain};

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F64];

/// Vectors of 16 bytes that a plane has beside a few elements. Of whatever vectors a thread keeps, 1 to 8, each is
/// the last one of some plane: for 4, 8, 16 and 32 lanes, blocks and clusters.
const ENDS: [usize; 44] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 22, 25, 28, 34, 42, 50, 58, 70, 90,
    110, 140, 170, 200, 230, 260, 300, 340, 390, 440, 490, 1300, 1500, 1600, 1700, 1800, 1900,
    2000,
];

/// The same and more elements of a plane, for kernels of every tier.
const SIZES: [(usize, usize); 9] = [
    (2, 1),
    (9, 0),
    (20, 1),
    (40, 0),
    (100, 1),
    (180, 0),
    (300, 1),
    (1300, 0),
    (2100, 1),
];

const ACTIVATIONS: [Activation; 4] = [
    Activation::None,
    Activation::Relu,
    Activation::LeakyRelu(0.2),
    Activation::Silu,
];

/// For variances of 1.
const EPS_MODES: [(EpsMode, f64); 3] = [
    (EpsMode::AddToVar, EPS),
    (EpsMode::AddToStd, 0.5),
    (EpsMode::MaxWithVar, 0.5),
];

fn per_vector(dtype: DType) -> usize {
    tuning::VECTOR_BYTES / dtype.size_in_bytes()
}

/// Elements of a plane beside its vectors, and where tensors start: every second plane is whole vectors from an
/// aligned address, other ones with each dtype. Those alone are read without a look at the single elements.
fn odd(dtype: DType, i: usize) -> (usize, [usize; 2]) {
    match (i + DTYPES.iter().position(|&d| d == dtype).unwrap_or(0)) % 2 {
        0 => (0, [0, 0]),
        _ => (1, [i % 4, i % 3]),
    }
}

/// A tensor that starts so many elements behind the start of its storage.
fn behind(
    random: &mut Random,
    shape: (usize, usize, usize),
    dtype: DType,
    start: usize,
) -> Result<Tensor> {
    of_mean(random, shape, dtype, start, (0., 1.))
}

/// The same of another mean and deviation.
fn of_mean(
    random: &mut Random,
    shape: (usize, usize, usize),
    dtype: DType,
    start: usize,
    (mean, std): (f64, f64),
) -> Result<Tensor> {
    let len = shape.0 * shape.1 * shape.2;
    let all = random.tensor(start + len, dtype, mean, std)?;
    Ok(all.narrow(0, start, len)?.reshape(shape)?)
}

fn ends(device: &Device) -> Result<()> {
    let mut random = Random::new(16, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, vectors) in ENDS.into_iter().enumerate() {
            let (more, starts) = odd(dtype, i);
            let spatial = vectors * per_vector(dtype) + more;
            let shape = (1, if vectors < 1000 { 3 } else { 2 }, spatial);
            let (mean, std, bound) = data(dtype)[i / 2 % data(dtype).len()];
            let x = of_mean(&mut random, shape, dtype, starts[0], (mean, std))?;
            let params = random.params(&x, dtype, Affine::Channel)?;
            let case = Case {
                what: format!("{dtype:?} {shape:?} on {:?}", device.location()),
                dy: behind(&mut random, shape, dtype, starts[1])?,
                x,
                params,
                eps: EPS,
            };
            case.check(bound)?;
        }
    }
    Ok(())
}

/// AdaIN likewise, with the next smaller or larger plane as the style.
fn ends_of_adain(device: &Device) -> Result<()> {
    let mut random = Random::new(19, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, pair) in ENDS.windows(2).enumerate() {
            let ((more, starts), (mean, std, bound)) =
                (odd(dtype, i), data(dtype)[i / 2 % data(dtype).len()]);
            for [content, style] in [[pair[0], pair[1]], [pair[1], pair[0]]] {
                let shape = |vectors| (1, 2, vectors * per_vector(dtype) + more);
                let content = of_mean(&mut random, shape(content), dtype, starts[0], (mean, std))?;
                let style = behind(&mut random, shape(style), dtype, starts[1])?;
                let config = AdaInConfig::default();
                let want = adain(&wide(&content)?, &wide(&style)?, &config)?;
                let what = format!("{dtype:?} {:?} {:?}", content.shape(), style.shape());
                let got = adain(&content, &style, &config)?;
                Exact::of(&want).check(&what, &got, bound);
            }
        }
    }
    Ok(())
}

/// Planes of their own, two in a group, or channels-last.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Planes,
    Groups,
    ChannelsLast,
}

/// Everything that can go beside a norm, in place and not, against f64 on the CPU.
fn what_goes_beside(device: &Device) -> Result<()> {
    let mut random = Random::new(17, device);
    for (dtype, kind) in common::on(device, &DTYPES).into_iter().flat_map(|dtype| {
        [Kind::Planes, Kind::Groups, Kind::ChannelsLast].map(|kind| (dtype, kind))
    }) {
        for (i, (vectors, more)) in SIZES.into_iter().enumerate() {
            let spatial = vectors * per_vector(dtype);
            let (c, groups, spatial) = match kind {
                Kind::Planes => (2, 2, spatial + more),
                // Whole vectors, which alone stay on chip.
                Kind::Groups => (4, 2, spatial),
                // More than a vector of them, and no whole number of vectors.
                Kind::ChannelsLast => (10, 10, vectors + more),
            };
            let shape = (2, c, spatial);
            let tensor = |random: &mut Random, start| match kind {
                Kind::Planes => behind(random, shape, dtype, start),
                Kind::Groups => behind(random, shape, dtype, 0),
                Kind::ChannelsLast => {
                    Ok(behind(random, (2, spatial, c), dtype, start)?.transpose(1, 2)?)
                }
            };
            for (j, activation) in ACTIVATIONS.into_iter().enumerate() {
                let x = tensor(&mut random, j)?;
                let residual = tensor(&mut random, (j + 2) % 4)?;
                let dy = gradient(&mut random, &x, (0., 1.), 1)?;
                let of_params = match ((i + j) % 3, kind) {
                    (0, Kind::Planes | Kind::ChannelsLast) => x.shape().clone(),
                    (1, _) => Shape::from((2, c)),
                    _ => Shape::from(c),
                };
                let per_element = of_params.dims().len() == 3;
                let of_params = match per_element {
                    true => [tensor(&mut random, j)?, tensor(&mut random, 0)?],
                    false => {
                        let wide = shapes::acc_dtype(dtype);
                        let weight = random.tensor(&of_params, wide, 1., 0.5)?;
                        [weight, random.tensor(&of_params, wide, 0., 1.)?]
                    }
                };
                let (mode, eps) = EPS_MODES[(i + j) % 3];
                let norm = |[residual, weight, bias]: [&Tensor; 3], activation| {
                    let norm = Normalization::group(groups, eps).weight(weight).bias(bias);
                    let norm = norm.one_plus_weight().activation(activation).eps_mode(mode);
                    // There is no blending beside parameters per element.
                    let norm = if per_element { norm } else { norm.blend(0.75) };
                    norm.residual(residual)
                };
                let [weight, bias] = &of_params;
                // Next to 0 the last digit decides what the derivative of a ReLU is: nothing follows from there.
                let [a, b, c] = [&residual, weight, bias].map(wide);
                let v = norm([&a?, &b?, &c?], Activation::None).forward(&wide(&x)?)?;
                let far = v.abs()?.ge(1e-3)?.to_dtype(dtype)?.to_device(device)?;
                let dy = (dy * far)?;
                let run = |[x, dy, residual, weight, bias]: [&Tensor; 5]| -> Result<Vec<Tensor>> {
                    let norm = norm([residual, weight, bias], activation);
                    let grads = norm.backward(x, dy)?;
                    let y = norm.forward(x)?;
                    let in_place = x.copy()?;
                    norm.forward_in_place(&in_place)?;
                    let grads = [Some(grads.x), grads.weight, grads.bias, grads.residual];
                    let all = [Some(y), Some(in_place)].into_iter().chain(grads);
                    Ok(all.flatten().collect())
                };
                let inputs = [&x, &dy, &residual, weight, bias];
                let [a, b, c, d, e] = inputs.map(wide);
                let want = run([&a?, &b?, &c?, &d?, &e?])?;
                let names = ["y", "y in place", "dx", "dweight", "dbias", "dresidual"];
                for ((name, got), want) in names.iter().zip(run(inputs)?).zip(want) {
                    let what = format!(
                        "{name}, {dtype:?} {kind:?} {shape:?} {activation:?} weight {:?}",
                        weight.dims()
                    );
                    Exact::of(&want).check(&what, &got, data(dtype)[0].2);
                }
            }
        }
    }
    Ok(())
}

/// AdaIN whatever eps is to the variances, and the gradients of the style, which go through its statistics.
fn gradients_of_statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(18, device);
    for dtype in common::on(device, &DTYPES) {
        let all = SIZES.into_iter().enumerate();
        for ((i, (vectors, more)), last) in all.flat_map(|size| [(size, false), (size, true)]) {
            let spatial = if last {
                vectors + more
            } else {
                vectors * per_vector(dtype) + more
            };
            let style = behind(&mut random, (1, 2, spatial), dtype, i % 4)?;
            for eps_mode in [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar] {
                check_gradients_of_style(&mut random, &style, last, (i % 2) as u32, eps_mode)?;
            }
        }
    }
    Ok(())
}

/// With a style, channels-last or not, that has two channels of variances of 1.
pub(super) fn check_gradients_of_style(
    random: &mut Random,
    style: &Tensor,
    last: bool,
    correction: u32,
    eps_mode: EpsMode,
) -> Result<()> {
    let (dtype, device) = (style.dtype(), style.device());
    // The variance of one channel is below eps, of the other above.
    let scale = Tensor::new(&[[0.5f32], [2.]], device)?.to_dtype(dtype)?;
    let style = style.broadcast_mul(&scale)?;
    let shape = (style.dim(0)?, 2, 5);
    let content = random.tensor(shape, dtype, 0., 1.)?;
    let dy = random.tensor(shape, dtype, 0., 1.)?;
    let config = AdaInConfig {
        correction,
        eps: 0.5,
        eps_mode,
        ..Default::default()
    };
    let run = |[content, style, dy]: [&Tensor; 3]| -> Result<[Tensor; 2]> {
        let style = Var::from_tensor(style)?;
        let in_memory = if last {
            style.transpose(1, 2)?.contiguous()?.transpose(1, 2)?
        } else {
            style.as_tensor().clone()
        };
        let y = adain(content, &in_memory, &config)?;
        let grads = (&y * dy)?.sum_all()?.backward()?;
        Ok([y, grads.get(&style).expect("a gradient").clone()])
    };
    let inputs = [&content, &style, &dy];
    let [a, b, c] = inputs.map(wide);
    let [y, gradient] = run([&a?, &b?, &c?])?;
    let what = format!("{dtype:?} {:?} {config:?}", style.shape());
    assert!(to_f64(&gradient).iter().any(|v| *v != 0.), "{what}");
    let [got_y, got] = run(inputs)?;
    Exact::of(&y).check(&what, &got_y, data(dtype)[0].2);
    // What rounds the gradient of the style's statistics, in x's own type, is not the kernel's.
    let bound = match dtype {
        DType::F32 => 4e-6,
        DType::F64 => 1e-12,
        _ => 8e-3,
    };
    Exact::of(&gradient).check(&what, &got, bound);
    Ok(())
}

test_device!(ends);
test_device!(ends_of_adain);
test_device!(what_goes_beside);
test_device!(gradients_of_statistics);
