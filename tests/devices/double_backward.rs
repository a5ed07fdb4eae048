//! Derivatives of gradients, as gradient penalties (WGAN-GP, R1) take them: against torch, and
//! against differences. tests/golden/double_backward.py writes the goldens.

use crate::common::own_process;
use crate::common::reference::Random;
use crate::common::{Goldens, Tolerance, assert_close, max_abs, to_f64};
use crate::family_case::Case;
use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::{
    Activation, AdaInConfig, EpsMode, Normalization, adain, instance_stats,
};

/// Runs the test in a process of its own, where gradients stay on the graph, and returns true; in that
/// process, returns false. candle reads the variable once per thread, and other tests need it unset.
fn ran_elsewhere(test: &str, device: &Device) -> Result<bool> {
    const KEEP: (&str, &str) = ("CANDLE_GRAD_DO_NOT_DETACH", "1");
    if std::env::var(KEEP.0).is_ok_and(|value| value == KEEP.1) {
        return Ok(false);
    }
    let device = if device.is_cpu() { "cpu" } else { "cuda" };
    own_process::run(module_path!(), &format!("{test}::{device}"), &[KEEP])?;
    Ok(true)
}

/// The gradients of `sum(y * dy)`, which stay on the graph, each times its `u`, in one sum.
fn penalty<'a>(
    y: &Tensor,
    dy: &Tensor,
    of: impl Iterator<Item = (&'a Var, &'a Tensor)>,
) -> candle_core::Result<Tensor> {
    let first = (y * dy)?.sum_all()?.backward()?;
    let mut total = None;
    for (var, u) in of {
        let g = first.get(var).expect("a gradient");
        let term = (g * u)?.sum_all()?.to_dtype(DType::F64)?;
        total = Some(match total {
            None => term,
            Some(total) => (total + term)?,
        });
    }
    Ok(total.expect("a variable"))
}

/// Each gradient, zeros where there is none: the loss does not depend on a bias, say.
fn gradient(grads: &GradStore, of: &Tensor) -> candle_core::Result<Tensor> {
    grads
        .get(of)
        .map_or_else(|| of.zeros_like(), |g| Ok(g.clone()))
}

fn goldens(device: &Device) -> Result<()> {
    if ran_elsewhere("goldens", device)? {
        return Ok(());
    }
    let goldens = Goldens::load("double_backward.safetensors", device)?;
    assert_eq!(goldens.cases.len(), 44);
    for args in &goldens.cases {
        let case = Case::new(&goldens, args, device)?;
        let name = case.name;
        let dy = Var::from_tensor(goldens.must(name, "dy"))?;
        let of = case.vars.iter().filter_map(|(key, var)| {
            let u = goldens.get(name, &format!("u.{key}"))?;
            Some((var, u))
        });
        let grads = penalty(&case.run()?.y, &dy, of)?.backward()?;
        let mut checked = 0;
        for (key, var) in case
            .vars
            .iter()
            .map(|(k, v)| (k.as_str(), v))
            .chain([("dy", &dy)])
        {
            let Some(want) = goldens.get(name, &format!("d.{key}")) else {
                assert!(key.contains("running_"), "{name}: {key}");
                continue;
            };
            let got = gradient(&grads, var)?;
            assert_eq!(got.dtype(), var.dtype(), "{name}: {key}");
            let scale = max_abs(want).max(1.);
            // The parts through each of the first gradients are rounded by themselves, and then summed.
            let tol = Tolerance::of(got.dtype());
            let sums = tol.rtol * scale * case.vars.len() as f64;
            assert_close(
                &format!("{name}: {key}"),
                &got,
                want,
                tol.scaled(scale).plus(sums),
            );
            checked += 1;
        }
        assert!(checked >= 2, "{name}");
    }
    Ok(())
}

test_device!(f64: goldens);

/// The function to differentiate, of some variables in f64.
type Op = fn(&[&Tensor]) -> candle_core::Result<Tensor>;

/// Second derivatives against central differences of first ones, where the goldens have no case:
/// channels-last, another order of ops, correction, eps at the maximum.
fn central_differences(device: &Device) -> Result<()> {
    if ran_elsewhere("central_differences", device)? {
        return Ok(());
    }
    const STEP: f64 = 1e-4;
    let channels_last: Op = |t| {
        let x = t[0].permute((0, 3, 1, 2))?;
        let norm = Normalization::instance(1e-5).weight(t[1]).bias(t[2]);
        norm.activation(Activation::Silu).forward(&x)?.sin()
    };
    let groups_last: Op = |t| {
        let norm = Normalization::group(1, 1e-5).weight(t[1]).bias(t[2]);
        norm.forward(&(t[0].permute((0, 3, 1, 2))? * 2.)?)?.sqr()
    };
    let unbiased: Op = |t| {
        let norm = Normalization::instance(0.1).correction(1).weight(t[1]);
        norm.eps_mode(EpsMode::AddToStd)
            .blend(0.3)
            .forward(&t[0].sin()?)
    };
    let styled: Op = |t| {
        let config = AdaInConfig::default();
        adain(&t[0].permute((0, 3, 1, 2))?, &t[1].sin()?, &config)
    };
    let measured: Op = |t| {
        let stats = instance_stats(&t[0].permute((0, 3, 1, 2))?, 1e-5)?;
        Normalization::instance(0.)
            .stats(&stats)
            .weight(&stats.mean)
            .forward(t[1])
    };
    let mut random = Random::new(61, device);
    let x = &[2, 2, 3, 2][..];
    let cases: [(&str, Op, &[&[usize]]); 5] = [
        ("channels-last", channels_last, &[x, &[2], &[2]]),
        ("groups, channels-last", groups_last, &[x, &[2], &[2]]),
        ("unbiased", unbiased, &[x, &[2, 2]]),
        ("adain, channels-last", styled, &[x, &[2, 2, 5]]),
        ("statistics", measured, &[x, &[2, 2, 4]]),
    ];
    for (what, op, shapes) in cases {
        let var =
            |shape: &&[usize]| Var::from_tensor(&random.tensor(*shape, DType::F64, 0.5, 1.)?);
        let vars: Vec<Var> = shapes.iter().map(var).collect::<candle_core::Result<_>>()?;
        let inputs: Vec<&Tensor> = vars.iter().map(|v| v.as_tensor()).collect();
        let dy = random.tensor(op(&inputs)?.shape(), DType::F64, 0., 1.)?;
        let draw = |v: &Var| random.tensor(v.shape(), DType::F64, 0., 1.);
        let u: Vec<Tensor> = vars.iter().map(draw).collect::<candle_core::Result<_>>()?;
        let run = || penalty(&op(&inputs)?, &dy, vars.iter().zip(&u));
        let grads = run()?.backward()?;
        for (i, v) in vars.iter().enumerate() {
            let before = v.as_tensor().copy()?;
            let mut differences = vec![];
            for e in 0..before.elem_count() {
                let at = |step: f64| -> Result<f64> {
                    let mut values = to_f64(&before);
                    values[e] += step;
                    v.set(&Tensor::from_vec(values, before.shape(), device)?)?;
                    Ok(run()?.to_scalar::<f64>()?)
                };
                differences.push((at(STEP)? - at(-STEP)?) / (2. * STEP));
            }
            v.set(&before)?;
            let want = Tensor::from_vec(differences, before.shape(), device)?;
            let scale = max_abs(&want).max(1.);
            let tol = Tolerance {
                atol: 1e-5 * scale,
                rtol: 1e-5,
            };
            assert_close(
                &format!("{what}: input {i}"),
                &gradient(&grads, v)?,
                &want,
                tol,
            );
        }
    }
    Ok(())
}

test_device!(f64: central_differences);

/// Behind other variables and in a chain, as in the critic of a WGAN: the penalty reaches what is
/// before the norm and what is after it, and a first gradient is what it is without the variable.
fn gradient_penalty(device: &Device) -> Result<()> {
    if ran_elsewhere("gradient_penalty", device)? {
        return Ok(());
    }
    let mut random = Random::new(62, device);
    let mut var = |shape: &[usize], mean| -> Result<Var> {
        Ok(Var::from_tensor(&random.tensor(
            shape,
            DType::F64,
            mean,
            1.,
        )?)?)
    };
    let (x, before, after) = (
        var(&[2, 3, 4, 4], 0.)?,
        var(&[3], 1.)?,
        var(&[2, 3, 4, 4], 0.)?,
    );
    let critic = |norm: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>| {
        let h = x.broadcast_mul(&before.reshape((1, 3, 1, 1))?)?.sin()?;
        (norm(&h)?.silu()? * after.as_tensor())?.sum_all()
    };
    let penalized = |norm: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>| -> Result<GradStore> {
        let first = critic(norm)?.backward()?;
        let g = first.get(&x).expect("a gradient").sqr()?.sum((1, 2, 3))?;
        Ok((g.sqrt()? - 1.)?.sqr()?.sum_all()?.backward()?)
    };
    let fused = penalized(&|h| Normalization::instance(1e-5).forward(h))?;
    let composed = penalized(&|h| {
        let planes = h.reshape((2, 3, 16))?;
        let d = planes.broadcast_sub(&planes.mean_keepdim(2)?)?;
        let std = (d.sqr()?.mean_keepdim(2)? + 1e-5)?.sqrt()?;
        d.broadcast_div(&std)?.reshape((2, 3, 4, 4))
    })?;
    for v in [&x, &before, &after] {
        let want = composed.get(v).expect("candle's");
        let tol = Tolerance::of(DType::F64).scaled(max_abs(want).max(1.) * 10.);
        assert_close("penalty", fused.get(v).expect("ours"), want, tol);
    }
    Ok(())
}

test_device!(f64: gradient_penalty);

/// There is no third derivative, and asking for one says so.
fn no_third_derivative(device: &Device) -> Result<()> {
    if ran_elsewhere("no_third_derivative", device)? {
        return Ok(());
    }
    let mut random = Random::new(63, device);
    let x = Var::from_tensor(&random.tensor((2, 3, 5), DType::F64, 0., 1.)?)?;
    for norm in [
        Normalization::instance(1e-5),
        Normalization::group(3, 1e-5).activation(Activation::Silu),
    ] {
        let mut loss = norm.forward(&x)?.sin()?.sum_all()?;
        for _ in 0..2 {
            let grads = loss.backward()?;
            loss = grads.get(&x).expect("a gradient").sin()?.sum_all()?;
        }
        let error = loss.backward().expect_err("a third derivative").to_string();
        assert!(error.contains("norm-second-derivative"), "{error}");
    }
    Ok(())
}

test_device!(f64: no_third_derivative);
