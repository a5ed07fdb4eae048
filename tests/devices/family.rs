//! Every choice of `Normalization` in random combinations, against the same in candle's own ops
//! in f64.

mod choice;

use crate::common::reference::Random;
use crate::common::{self, Tolerance, assert_close, max_abs};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::{Activation, AdaInConfig, EpsMode, PlaneStats, adain, instance_stats};
use choice::{Choice, EPS, Params, Tensors, composed, first, fused, last};
use rand::{SeedableRng, rngs::StdRng};

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

fn check(choice: &Choice, dtype: DType, random: &mut Random, device: &Device) -> Result<()> {
    let what = |name: &str| format!("{name} of {dtype:?} {choice:?} on {:?}", device.location());
    let inputs = Tensors::random(choice, dtype, random)?;
    let dy = random.tensor(choice.shape.clone(), dtype, 0.2, 1.)?;

    let wide = |t: &Tensor| -> Result<Tensor> {
        let t = t
            .to_device(&Device::Cpu)?
            .contiguous()?
            .to_dtype(DType::F64)?;
        Ok(Var::from_tensor(&t)?.as_tensor().clone())
    };
    let exact = inputs.map(wide)?;
    let want = composed(choice, &exact)?;
    let grads = (&want * wide(&dy)?.detach())?.sum_all()?.backward()?;

    let y = fused(choice, &inputs).forward(&inputs.x)?;
    assert_eq!(y.dtype(), dtype, "{}", what("y"));
    let mut tol = Tolerance::of(dtype);
    tol.atol *= 3.;
    assert_close(&what("y"), &y, &want, tol);

    // Variables are contiguous: one in the order of a channels-last tensor's memory, seen as it is.
    let mut vars = vec![];
    let tracked = inputs.map(|t| {
        let planar = t.is_contiguous();
        let var = Var::from_tensor(&if planar { t.clone() } else { last(t)? })?;
        vars.push(var.clone());
        Ok(if planar {
            var.as_tensor().clone()
        } else {
            first(&var)?
        })
    })?;
    let y = fused(choice, &tracked).forward(&tracked.x)?;
    assert_close(&what("tracked y"), &y, &want, tol);
    assert_eq!(
        y.is_contiguous(),
        !choice.channels_last,
        "{}",
        what("layout")
    );
    let got = (&y * &dy)?.sum_all()?.backward()?;
    let direct = fused(choice, &inputs).backward(&inputs.x, &dy)?;
    let mut of_direct = vec![Some(direct.x), direct.weight, direct.bias, direct.residual];
    let (mean, rstd) = direct.stats.map(|s| (s.mean, s.rstd)).unzip();
    of_direct.extend([mean, rstd]);
    let mut of_direct = of_direct.into_iter().flatten();
    for ((name, exact), var) in exact.list().into_iter().zip(&vars) {
        let want = grads.get(exact).expect("a gradient in candle's ops");
        let got = got.get(var).unwrap_or_else(|| panic!("{}", what(name)));
        assert_eq!(got.dtype(), var.dtype(), "{}", what(name));
        let view = if got.dims() == want.dims() {
            got.clone()
        } else {
            first(got)?
        };
        // Sums over many elements keep the error of their terms.
        let terms = (dy.elem_count() / want.elem_count()).max(1) as f64;
        let scale = 3. * max_abs(want).max(terms.sqrt()).max(1.);
        assert_close(
            &what(name),
            &view,
            want,
            Tolerance::of(var.dtype()).scaled(scale),
        );
        // Called directly: the same bits as on the graph.
        let direct = of_direct.next().unwrap_or_else(|| panic!("{}", what(name)));
        assert!(
            common::to_f64(&direct) == common::to_f64(&view),
            "direct {}",
            what(name)
        );
    }
    assert!(of_direct.next().is_none());

    // In place: the same bits as in a new tensor, in the memory of x.
    let x = if choice.channels_last {
        first(&last(&inputs.x)?.copy()?)?
    } else {
        inputs.x.copy()?
    };
    fused(choice, &inputs).forward_in_place(&x)?;
    assert_eq!(
        common::to_f64(&x),
        common::to_f64(&y),
        "{}",
        what("in place")
    );
    Ok(())
}

/// Blending beside given statistics: the gradients of the mean and of rstd have the factor alpha.
fn blended_with_given_statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(79, device);
    let mut sizes = [vec![2, 4, 5], vec![1, 4, 130, 131]].into_iter().cycle();
    let dtypes = common::on(device, &DTYPES);
    for params in [
        Params::None,
        Params::Channel,
        Params::Sample,
        Params::BiasAlone,
    ] {
        for activation in [Activation::None, Activation::LeakyRelu(0.2)] {
            for channels_last in [false, true] {
                let choice = Choice {
                    shape: sizes.next().expect("a shape"),
                    groups: None,
                    params,
                    one_plus: params == Params::Sample,
                    stats: true,
                    mode: EpsMode::AddToVar,
                    correction: 0,
                    alpha: 0.3,
                    residual: channels_last,
                    activation,
                    channels_last,
                    wide_params: true,
                };
                for &dtype in &dtypes {
                    check(&choice, dtype, &mut random, device)?;
                }
            }
        }
        // The other size in the other format.
        sizes.next();
    }
    Ok(())
}

test_device!(blended_with_given_statistics);

fn combinations(device: &Device) -> Result<()> {
    let (mut rng, mut random) = (StdRng::seed_from_u64(77), Random::new(77, device));
    let count = if device.is_cpu() { 400 } else { 120 };
    let dtypes = common::on(device, &DTYPES);
    for i in 0..count {
        let choice = Choice::random(&mut rng);
        let dtype = dtypes[i % dtypes.len()];
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1 + i % 3)
            .build()?;
        pool.install(|| check(&choice, dtype, &mut random, device))?;
    }
    Ok(())
}

test_device!(combinations);

/// Content and style of other sizes, each convention, values and both gradients.
fn styles(device: &Device) -> Result<()> {
    let mut random = Random::new(78, device);
    for (i, &(content, style)) in [
        (&[2usize, 3, 5, 7][..], &[2usize, 3, 40][..]),
        (&[2, 3, 31], &[1, 3, 4, 9]),
        (&[1, 4, 90, 91], &[1, 4, 64, 64]),
    ]
    .iter()
    .enumerate()
    {
        for dtype in common::on(device, &DTYPES) {
            let modes = [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar];
            for (mode, alpha) in modes.into_iter().zip([1., 0.4, 0.7]) {
                let config = AdaInConfig {
                    correction: i as u32 % 2,
                    eps: EPS,
                    eps_mode: mode,
                    alpha,
                };
                let (c, s) = (
                    random.tensor(content, dtype, 1., 2.)?,
                    random.tensor(style, dtype, -3., 0.5)?,
                );
                let dy = random.tensor(content, dtype, 0.1, 1.)?;
                let (c, s) = (Var::from_tensor(&c)?, Var::from_tensor(&s)?);
                let y = adain(&c, &s, &config)?;
                let grads = (&y * &dy)?.sum_all()?.backward()?;

                let wide = |t: &Tensor| -> Result<Var> {
                    let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                    Ok(Var::from_tensor(&t.detach())?)
                };
                let (wc, ws) = (wide(&c)?, wide(&s)?);
                let moments = |t: &Tensor| -> Result<(Tensor, Tensor)> {
                    let t = t.flatten_from(2)?;
                    let len = t.dim(2)? as f64;
                    let mean = t.mean_keepdim(2)?;
                    let var = t.broadcast_sub(&mean)?.sqr()?.sum_keepdim(2)?;
                    let var = (var / (len - config.correction as f64))?;
                    let std = match mode {
                        EpsMode::AddToVar => (var + EPS)?.sqrt()?,
                        EpsMode::AddToStd => (var.sqrt()? + EPS)?,
                        EpsMode::MaxWithVar => var.maximum(EPS)?.sqrt()?,
                        other => panic!("{other:?}"),
                    };
                    Ok((mean, std))
                };
                let ((cm, cs), (sm, ss)) = (moments(&wc)?, moments(&ws)?);
                let t = wc.flatten_from(2)?.broadcast_sub(&cm)?.broadcast_div(&cs)?;
                let t = t.broadcast_mul(&ss)?.broadcast_add(&sm)?;
                let want = ((t * alpha)? + (wc.flatten_from(2)? * (1. - alpha))?)?;
                let want = want.reshape(content)?;
                let exact = (&want * wide(&dy)?.detach())?.sum_all()?.backward()?;
                let what =
                    |name: &str| format!("{name} {dtype:?} {content:?} {style:?} {config:?}");
                assert_close(&what("y"), &y, &want, Tolerance::of(dtype).scaled(3.));
                for (name, got, want) in [("content", &c, &wc), ("style", &s, &ws)] {
                    let want = exact.get(want).expect("a gradient");
                    let tol = Tolerance::of(dtype).scaled(5. * max_abs(want).max(1.));
                    assert_close(&what(name), grads.get(got).expect("ours"), want, tol);
                }
            }
        }
    }
    Ok(())
}

test_device!(styles);

/// The statistics, their gradients, and a channels-last x.
fn statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(79, device);
    for channels_last in [false, true] {
        let x = random.tensor((2, 5, 7, 6), DType::F64, 3., 2.)?;
        let x = if channels_last {
            x.permute((0, 3, 1, 2))?
        } else {
            x
        };
        let x = Var::from_tensor(&x)?;
        let PlaneStats { mean, rstd } = instance_stats(&x, EPS)?;
        let flat = x.contiguous()?.flatten_from(2)?;
        let want_mean = flat.mean_keepdim(2)?;
        let var = flat.broadcast_sub(&want_mean)?.sqr()?.mean_keepdim(2)?;
        let want_rstd = (var + EPS)?.sqrt()?.recip()?;
        let (want_mean, want_rstd) = (want_mean.squeeze(2)?, want_rstd.squeeze(2)?);
        let tol = Tolerance::of(DType::F64).scaled(10.);
        assert_close("mean", &mean, &want_mean, tol);
        assert_close("rstd", &rstd, &want_rstd, tol);
        let loss =
            |m: &Tensor, r: &Tensor| -> Result<Tensor> { Ok((m.sin()? * r.sqr()?)?.sum_all()?) };
        let got = loss(&mean, &rstd)?.backward()?;
        let want = loss(&want_mean, &want_rstd)?.backward()?;
        assert_close("dx", got.get(&x).unwrap(), want.get(&x).unwrap(), tol);
    }
    Ok(())
}

test_device!(f64: statistics);
