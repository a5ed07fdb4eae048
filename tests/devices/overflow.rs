//! Planes whose squares, or whose sums, are beyond the largest number of the type: the results are
//! those of the same numbers in another unit.
//!
//! On the CPU alone: the CUDA and Metal kernels sum squares in the accumulator's type and do not
//! start again in another unit.

use crate::common::reference::Random;
use crate::common::{Tolerance, assert_close, backward, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::{
    Activation, AdaInConfig, AdaptiveConfig, EpsMode, Normalization, adain, adaptive_instance_norm,
    batch_instance_norm, conditional_instance_norm, instance_norm, instance_norm_with_stats,
    instance_stats,
};

const EPS: f64 = 1e-5;

/// +1 and -1 in turns.
fn board(shape: &[usize]) -> Result<Tensor> {
    let values = (0..shape.iter().product()).map(|i| if i % 2 == 0 { 1f64 } else { -1. });
    Ok(Tensor::from_iter(values, &Device::Cpu)?.reshape(shape)?)
}

/// Numbers whose squares overflow where some thousands are added, alone, and by far.
fn scales(dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F64 => vec![1e153, 1e160, 1e200, 1e300],
        // The gradients of bf16 are still normal numbers.
        DType::BF16 => vec![5e17, 1e19, 1e25, 1e34],
        _ => vec![5e17, 1e19, 1e25, 1e38],
    }
}

/// The values of a field report.
fn reported(device: &Device) -> Result<()> {
    let x = [1.4918449e38f32, 9.007234e37, -1.3146734e38, 3.056893e38];
    let x = Tensor::new(&x, device)?.reshape((1, 1, 4, 1))?;
    let want = Tensor::new(&[0.29217f64, -0.08480, -1.49759, 1.29022], device)?;
    let y = instance_norm(&x, None, None, EPS)?.flatten_all()?;
    let tolerance = Tolerance {
        atol: 1e-5,
        rtol: 0.,
    };
    assert_close("reported", &y, &want, tolerance);
    // Twice a deviation from the mean is beyond the type, too.
    let x = Tensor::new(&[3e38f32, -3e38, -3e38, -3e38], device)?.reshape((1, 1, 4))?;
    let root = 3f64.sqrt();
    let want = Tensor::new(&[root, -1. / root, -1. / root, -1. / root], device)?;
    for in_place in [false, true] {
        let x = x.copy()?;
        let norm = Normalization::instance(EPS);
        let y = if in_place {
            norm.forward_in_place(&x)?;
            x
        } else {
            norm.forward(&x)?
        };
        assert_close("outlier", &y.flatten_all()?, &want, tolerance);
    }
    Ok(())
}

test_device!(reported on cpu);

/// All results for `scale * z` are those for `z` in another unit. Eps is 0, which has no unit.
fn in_another_unit(device: &Device) -> Result<()> {
    let mut random = Random::new(71, device);
    // One chunk, several, several segments; channels-last; and a view.
    let shapes: [&[usize]; 4] = [
        &[2, 3, 4, 5],
        &[1, 2, 256, 256],
        &[1, 3, 31, 150],
        &[1, 2, 5],
    ];
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        // Two roundings of nearly the same number may be an ulp apart.
        let Tolerance { atol, rtol } = Tolerance::of(dtype);
        let tolerance = Tolerance {
            atol,
            rtol: 2. * rtol,
        };
        for (i, scale) in scales(dtype).into_iter().enumerate() {
            // A power of 2, so that z has the same digits.
            let scale = scale.log2().floor().exp2();
            for (j, shape) in shapes.into_iter().enumerate() {
                let what = format!("{dtype:?} {shape:?} {scale:e}");
                let z = (board(shape)? + random.tensor(shape, DType::F64, 0.2, 0.1)?)?;
                let z = z.to_dtype(dtype)?;
                let x = (z.to_dtype(DType::F64)? * scale)?.to_dtype(dtype)?;
                let last = (i + j) % 2 == 1 && shape.len() == 4;
                let lay = |t: Tensor| -> candle_core::Result<Tensor> {
                    if last {
                        t.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))
                    } else {
                        Ok(t)
                    }
                };
                let (z, x) = (lay(z)?, lay(x)?);
                let (c, skip) = (shape[1], random.tensor(shape, dtype, 0., 1.)?);
                let weight = random.tensor(c, dtype, 1., 0.3)?;
                let bias = random.tensor(c, dtype, 0., 1.)?;
                let dy = random.tensor(shape, dtype, 0., 1.)?;
                let norms = [
                    Normalization::instance(0.),
                    Normalization::instance(0.)
                        .weight(&weight)
                        .bias(&bias)
                        .residual(&skip)
                        .activation(Activation::Silu),
                    Normalization::group(1, 0.).correction(1).weight(&weight),
                    Normalization::instance(0.)
                        .weight(&skip)
                        .one_plus_weight()
                        .activation(Activation::LeakyRelu(0.2))
                        .eps_mode(EpsMode::AddToStd),
                ];
                for (k, norm) in norms.into_iter().enumerate() {
                    let what = format!("{what} {k}");
                    let (got, want) = (norm.forward(&x)?, norm.forward(&z)?);
                    assert_close(&what, &got, &want, tolerance);
                    let own = x.contiguous()?.copy()?;
                    norm.forward_in_place(&own)?;
                    assert_close(&format!("{what} in place"), &own, &want, tolerance);
                    let (got, want) = (norm.backward(&x, &dy)?, norm.backward(&z, &dy)?);
                    // Tiny numbers have few digits; the gradient is the smaller, the larger x.
                    let dx = (got.x.to_dtype(DType::F64)? * scale)?;
                    assert_close(
                        &what,
                        &dx,
                        &want.x.to_dtype(DType::F64)?,
                        tolerance.scaled(30.),
                    );
                    for (got, want) in [(got.weight, want.weight), (got.bias, want.bias)] {
                        if let (Some(got), Some(want)) = (got, want) {
                            assert_close(&what, &got, &want, tolerance.scaled(1e3));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

test_device!(in_another_unit on cpu);

/// Alternating numbers become +-1 by every op, and their statistics are what they are.
fn family(device: &Device) -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let tolerance = Tolerance::of(dtype);
        for scale in scales(dtype) {
            let what = format!("{dtype:?} {scale:e}");
            let signs = board(&[1, 2, 256, 256])?.to_dtype(dtype)?;
            let x = (signs.to_dtype(DType::F64)? * scale)?.to_dtype(dtype)?;
            let scale = to_f64(&x)[0];
            let stats = instance_stats(&x, 0.)?;
            for (mean, rstd) in to_f64(&stats.mean).into_iter().zip(to_f64(&stats.rstd)) {
                // The largest scale leaves rstd few digits.
                assert!(mean.abs() <= 1e-6 * scale, "{what}: {mean:e}");
                assert!((rstd * scale - 1.).abs() <= 1e-5, "{what}: {rstd:e}");
            }
            let style = (&signs + 3.)?;
            let ones = Tensor::ones((1, 2), dtype, device)?;
            let zeros = ones.zeros_like()?;
            let no_style = Tensor::cat(&[&ones, &zeros], 1)?;
            let scale_shift = AdaptiveConfig {
                one_plus_weight: false,
                ..AdaptiveConfig::stylegan()
            };
            let biased = AdaInConfig {
                correction: 0,
                eps: 0.,
                ..AdaInConfig::default()
            };
            let ids = Tensor::new(&[0u32], device)?;
            for (op, y) in [
                ("instance norm", instance_norm(&x, None, None, EPS)?),
                ("given", instance_norm_with_stats(&x, &stats, None, None)?),
                ("AdaIN", (adain(&x, &style, &biased)? - 3.)?),
                (
                    "adaptive",
                    adaptive_instance_norm(&x, &no_style, &scale_shift)?,
                ),
                (
                    "conditional",
                    conditional_instance_norm(&x, &ones, &zeros, &ids, EPS)?,
                ),
            ] {
                assert_close(&format!("{op} {what}"), &y, &signs, tolerance);
            }
            // A variance that is itself beyond the type is no number to mix with another.
            if scale < 1e19 {
                let gate = Tensor::full(0.3, 2, device)?.to_dtype(dtype)?;
                let y = batch_instance_norm(&x, None, None, &gate, None, EPS)?;
                assert_close(&format!("batch {what}"), &y, &signs, tolerance);
            }
        }
    }
    Ok(())
}

test_device!(family on cpu);

/// A deviation moves with the style, whatever the unit of both: AdaIN's gradient is the same.
fn of_statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(72, device);
    for (dtype, scale) in [(DType::F32, 2f64.powi(90)), (DType::F64, 2f64.powi(700))] {
        let tolerance = Tolerance::of(dtype).scaled(30.);
        let shape = &[2, 3, 9, 7];
        let z = (board(shape)? + random.tensor(shape, DType::F64, 0.2, 0.3)?)?.to_dtype(dtype)?;
        let x = (z.to_dtype(DType::F64)? * scale)?.to_dtype(dtype)?;
        let (z, x) = (Var::from_tensor(&z)?, Var::from_tensor(&x)?);
        let content = random.tensor(shape, dtype, 0., 1.)?;
        let config = AdaInConfig {
            eps: 0.,
            ..AdaInConfig::default()
        };
        let gradient = |style: &Var| -> Result<Tensor> {
            let y = adain(&content, style, &config)?;
            let grads = backward(&y, &content)?;
            Ok(grads.get(style).expect("a gradient").clone())
        };
        assert_close("style", &gradient(&x)?, &gradient(&z)?, tolerance);
    }
    Ok(())
}

test_device!(of_statistics on cpu);

/// An infinity is none that another unit would mend.
fn infinity_stays(device: &Device) -> Result<()> {
    let x = Tensor::new(&[1e38f32, f32::INFINITY, -1e38, 1e38, -1e38, 0.], device)?;
    let y = to_f64(&instance_norm(&x.reshape((1, 2, 3))?, None, None, EPS)?);
    assert!(y[..3].iter().all(|v| v.is_nan()), "{y:?}");
    assert!(y[3..].iter().all(|v| v.is_finite()), "{y:?}");
    Ok(())
}

test_device!(infinity_stays on cpu);
