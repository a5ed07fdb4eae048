//! Statistics as results.

use super::{DTYPES, data};
use crate::common::reference::{Exact, Random};
use crate::common::{self, to_f64};
use anyhow::Result;
use candle_core::{DType, Device};
use candle_instance_norm::nn::{InstanceNormConfig, instance_norm1d};
use candle_instance_norm::{PlaneStats, instance_stats};
use candle_nn::VarBuilder;

/// The statistics of planes, as a layer averages them over samples: with a momentum of 1 the
/// running ones are those of the last batch.
fn of_planes(device: &Device) -> Result<()> {
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

test_device!(of_planes);

/// The mean and the unbiased variance.
fn moments(plane: &[f64]) -> (f64, f64) {
    let len = plane.len() as f64;
    let mean = plane.iter().sum::<f64>() / len;
    let squares = plane.iter().map(|v| (v - mean).powi(2));
    (mean, squares.sum::<f64>() / (len - 1.))
}
