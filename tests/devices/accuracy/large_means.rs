//! Means that an f32 has too few digits for.

use super::EPS;
use crate::common::reference::{Random, wide};
use crate::common::{self, Tolerance, assert_close, max_abs};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::{Activation, Normalization};

/// Gradients that ask for more digits of a mean than an f32 has: at 1e4, with a deviation of 1e-2, it
/// leaves out 5 % of that. Of the mean of x through an activation, where the normalized x is computed
/// again; of the mean of dy, which dx is centred by; and of both, whose product is the sum of what is left out of
/// either. Against f64 on the CPU without the large means, where they change nothing; what is subtracted leaves
/// no rounding.
fn gradients(device: &Device) -> Result<()> {
    // One more than whole vectors, down to those of four lanes.
    const SIZES: [usize; 10] = [13, 29, 61, 101, 233, 501, 1501, 3997, 8001, 20_013];
    /// Whether x and dy have a large mean, and the activation.
    const CASES: [(bool, bool, Activation); 3] = [
        (true, false, Activation::Silu),
        (false, true, Activation::None),
        (true, true, Activation::None),
    ];
    const C: usize = 4;
    /// Groups, and how far weights differ. Where those of a group do, the mean of dy is in dx: at 1e-5 as much of
    /// it as of its deviation, at 0.3 little else.
    const KINDS: [(usize, f64); 4] = [(C, 0.3), (2, 0.), (2, 1e-5), (2, 0.3)];
    const LARGE: f64 = 1e4;
    let mut random = Random::rough(4, device);
    for dtype in common::on(device, &[DType::F32, DType::F64]) {
        // In f64 the last bit of x is 2e-10 of its deviation. Of the mean of a group it is in the gradient of a
        // plane's weight as often as the plane has elements, times the mean of dy.
        let bounds = match dtype {
            DType::F64 => [1e-7, 2e-6],
            _ => [1e-3; 2],
        };
        let kinds = KINDS.map(|kind| [(kind, false), (kind, true)]).concat();
        let kinds = CASES.map(|case| kinds.iter().map(move |&kind| (case, kind)));
        let all = kinds.into_iter().flatten();
        for ((case, kind), spatial) in all.flat_map(|of| SIZES.map(|spatial| (of, spatial))) {
            let ((of_x, of_dy, activation), ((groups, differ), last)) = (case, kind);
            // Groups stay on chip where planes are whole vectors.
            let spatial = match groups {
                C => spatial,
                _ => spatial.next_multiple_of(4),
            };
            let mut tensor = |is_large: bool| {
                let (mean, std) = if is_large { (LARGE, 1e-2) } else { (0., 1.) };
                if last {
                    random
                        .tensor((1, spatial, C), dtype, mean, std)?
                        .transpose(1, 2)
                } else {
                    random.tensor((1, C, spatial), dtype, mean, std)
                }
            };
            let (x, dy) = (tensor(of_x)?, tensor(of_dy)?);
            let weight = random.tensor(C, dtype, 1., differ)?;
            let bias = random.tensor(C, dtype, 0., 1.)?;
            let grads = |x: &Tensor, dy: &Tensor, weight: &Tensor, bias: &Tensor| {
                let norm = Normalization::group(groups, EPS).weight(weight).bias(bias);
                norm.activation(activation).backward(x, dy)
            };
            let about_0 = |t: &Tensor, is_large: bool| {
                wide(t)?.affine(1., if is_large { -LARGE } else { 0. })
            };
            let got = grads(&x, &dy, &weight, &bias)?;
            let in_dx = groups < C && differ > 0.;
            let (x, weight, bias) = (about_0(&x, of_x)?, wide(&weight)?, wide(&bias)?);
            let want_dx = grads(&x, &about_0(&dy, of_dy && !in_dx)?, &weight, &bias)?;
            let want = grads(&x, &wide(&dy)?, &weight, &bias)?;
            for (what, got, want, bound) in [
                ("dx", Some(got.x), Some(want_dx.x), bounds[0]),
                ("dweight", got.weight, want.weight, bounds[1]),
                ("dbias", got.bias, want.bias, bounds[0]),
            ] {
                let (got, want) = (got.expect("a gradient"), want.expect("a gradient"));
                let what =
                    format!("{what}, {dtype:?}, {spatial}, {kind:?}, of x {of_x}, of dy {of_dy}");
                let atol = bound * max_abs(&want);
                assert_close(&what, &got, &want, Tolerance { atol, rtol: 0. });
            }
        }
    }
    Ok(())
}

test_device!(gradients);
