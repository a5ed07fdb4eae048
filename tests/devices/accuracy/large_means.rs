//! Means that an f32 has too few digits for.

use super::EPS;
use crate::common::reference::{Random, wide};
use crate::common::{self, Tolerance, assert_close, max_abs};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::{Activation, Normalization};

/// Gradients that ask for more digits of a mean than an f32 has: at 1e4, with a deviation of 1e-2, it
/// leaves out 5 % of that. Of the mean of x through an activation, where the normalized x is computed
/// again, and of the mean of dy, which dx is centred by. Against f64 on the CPU.
fn gradients(device: &Device) -> Result<()> {
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

test_device!(gradients);
