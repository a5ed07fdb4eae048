//! Compares with torch; tests/golden/README.md says what is in the files.

use crate::common::{self, Goldens, Planes, Tolerance, assert_close, backward, dtype, max_abs};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::nn::{self, InstanceNorm, InstanceNormConfig};
use candle_instance_norm::{instance_norm, instance_norm_backward};
use candle_nn::VarBuilder;
use serde_json::Value;

/// The tolerances of the gradients of one case. Both kinds are sums that may cancel, so the
/// absolute part goes with the size of the terms and not with that of the element.
struct GradTolerance {
    planes: Planes,
    dtype: DType,
    weight: f64,
    dy: f64,
}

impl GradTolerance {
    fn new(planes: Planes, weight: Option<&Tensor>, dy: &Tensor) -> Self {
        Self {
            planes,
            dtype: dy.dtype(),
            weight: weight.map_or(1., max_abs),
            dy: max_abs(dy),
        }
    }

    /// dx = rstd * weight * (dy - two means): up to 300 times dy where a plane is constant, and next
    /// to nothing in a plane of two elements, where what is in the brackets cancels.
    fn dx(&self, want: &Tensor) -> Tolerance {
        let terms = self.planes.rstd * self.weight * self.dy;
        let scale = terms.max(max_abs(want));
        let tol = Tolerance::of(self.dtype).scaled(scale);
        tol.plus(self.planes.mean_error(self.dtype) * scale)
    }

    /// dweight and dbias: `sums` is the dbias there is or would be, because an error of the mean
    /// adds that many times itself to dweight. Their terms are around 1.
    fn sums(&self, grad: DType, want: &Tensor, sums: &Tensor) -> Tolerance {
        let tol = Tolerance::of(grad).scaled(max_abs(want).max(1.));
        tol.plus(self.planes.mean_error(self.dtype) * max_abs(sums).max(1.))
    }
}

fn functional(device: &Device) -> Result<()> {
    let goldens = Goldens::load("functional.safetensors", device)?;
    assert!(goldens.cases.len() >= 60);
    for case in goldens
        .cases
        .iter()
        .filter(|c| common::has(device, dtype(c, "dtype")))
    {
        let name = case["name"].as_str().unwrap();
        let eps = case["eps"].as_f64().unwrap();
        let (x, dy) = (goldens.must(name, "x"), goldens.must(name, "dy"));
        let (weight, bias) = (goldens.get(name, "weight"), goldens.get(name, "bias"));
        assert_eq!(x.dtype(), dtype(case, "dtype"), "{name}");
        for (key, p) in [("weight", weight), ("bias", bias)] {
            assert_eq!(p.is_none(), case[key] == "none", "{name}: {key}");
            if let Some(p) = p {
                assert_eq!(p.dtype(), dtype(case, "param_dtype"), "{name}: {key}");
            }
        }

        let planes = Planes::of(x, x.rank() - 2, eps);
        let mean_error = planes.mean_error(x.dtype()) * weight.map_or(1., max_abs);
        let y_tol = Tolerance::of(x.dtype()).plus(mean_error);
        let grad_tol = GradTolerance::new(planes, weight, dy);
        // dbias, also where torch has none.
        let sums = dy.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let sums = sums.flatten_from(2)?.sum(2)?;
        let sums = match case["weight"].as_str() {
            Some("channel") => sums.sum(0)?,
            _ => sums,
        };
        let check = |what: &str, key: &str, got: Option<&Tensor>, like: Option<&Tensor>| {
            let what = format!("{name} on {:?}: {what} {key}", device.location());
            let (got, like) = match (got, like) {
                (Some(got), Some(like)) => (got, like),
                (None, None) => return,
                (got, _) => panic!("{what}: is_some() is {}", got.is_some()),
            };
            assert_eq!(got.dtype(), like.dtype(), "{what}");
            let want = goldens.must(name, key);
            let tol = match key {
                "y" => y_tol,
                "dx" => grad_tol.dx(want),
                _ => grad_tol.sums(got.dtype(), want, &sums),
            };
            assert_close(&what, got, want, tol);
        };

        let y = instance_norm(x, weight, bias, eps)?;
        check("untracked", "y", Some(&y), Some(x));

        let var = |t: Option<&Tensor>| t.map(Var::from_tensor).transpose();
        let (xv, wv, bv) = (Var::from_tensor(x)?, var(weight)?, var(bias)?);
        let y = instance_norm(&xv, wv.as_deref(), bv.as_deref(), eps)?;
        check("tracked", "y", Some(&y), Some(x));
        let grads = backward(&y, dy)?;
        let grad = |v: &Option<Var>| v.as_ref().and_then(|v| grads.get(v));
        check("backward()", "dx", grads.get(&xv), Some(x));
        check("backward()", "dweight", grad(&wv), weight);
        check("backward()", "dbias", grad(&bv), bias);

        let grads = instance_norm_backward(x, weight, bias, dy, eps)?;
        let what = "instance_norm_backward";
        check(what, "dx", Some(&grads.x), Some(x));
        check(what, "dweight", grads.weight.as_ref(), weight);
        check(what, "dbias", grads.bias.as_ref(), bias);
    }
    Ok(())
}

test_device!(functional);

fn layers(device: &Device) -> Result<()> {
    let goldens = Goldens::load("layers.safetensors", device)?;
    assert!(goldens.cases.len() >= 15);
    for case in goldens
        .cases
        .iter()
        .filter(|c| common::has(device, dtype(c, "dtype")))
    {
        match case["dims"].as_u64() {
            Some(1) => layer(&goldens, case, device, nn::instance_norm1d)?,
            Some(2) => layer(&goldens, case, device, nn::instance_norm2d)?,
            Some(3) => layer(&goldens, case, device, nn::instance_norm3d)?,
            dims => panic!("{dims:?} dimensions"),
        }
    }
    Ok(())
}

fn layer<const D: usize>(
    goldens: &Goldens,
    case: &Value,
    device: &Device,
    build: impl Fn(usize, InstanceNormConfig, VarBuilder) -> candle_core::Result<InstanceNorm<D>>,
) -> Result<()> {
    let name = case["name"].as_str().unwrap();
    let config = InstanceNormConfig {
        eps: case["eps"].as_f64().unwrap(),
        momentum: case["momentum"].as_f64().unwrap(),
        affine: case["affine"].as_bool().unwrap(),
        track_running_stats: case["track_running_stats"].as_bool().unwrap(),
        ..Default::default()
    };
    let mut state = goldens.below(name, "state");
    // The builder hands out the very tensors it is given, so variables stay variables.
    for key in ["weight", "bias"] {
        if let Some(p) = state.get_mut(key) {
            *p = Var::from_tensor(p)?.as_tensor().clone();
        }
    }
    let (weight, bias) = (state.get("weight").cloned(), state.get("bias").cloned());
    assert_eq!(weight.is_some(), config.affine);
    let vb = VarBuilder::from_tensors(state, dtype(case, "dtype"), device);
    let num_features = case["num_features"].as_u64().unwrap() as usize;
    let layer = build(num_features, config, vb)?;

    let (x0, x1) = (goldens.must(name, "x0"), goldens.must(name, "x1"));
    let dy = goldens.must(name, "dy");
    let tol = Tolerance::of(x0.dtype());
    let check = |key: &str, got: Option<&Tensor>, tol: Tolerance| {
        let what = format!("{name} on {:?}: {key}", device.location());
        let got = got.unwrap_or_else(|| panic!("{what} is missing"));
        assert_eq!(got.dtype(), x0.dtype(), "{what}");
        assert_close(&what, got, goldens.must(name, key), tol);
    };
    let check_grads = |mode: &str, x: &Var, y: &Tensor| -> Result<()> {
        let grads = backward(y, dy)?;
        let tols = GradTolerance::new(Planes::of(x, D, config.eps), weight.as_ref(), dy);
        let dx = format!("dx_{mode}");
        check(&dx, grads.get(x), tols.dx(goldens.must(name, &dx)));
        for (key, param) in [("dweight", &weight), ("dbias", &bias)] {
            if let Some(param) = param {
                let sums = goldens.must(name, &format!("dbias_{mode}"));
                let key = format!("{key}_{mode}");
                let tol = tols.sums(param.dtype(), goldens.must(name, &key), sums);
                check(&key, grads.get(param), tol);
            }
        }
        Ok(())
    };
    let stats = || [layer.running_mean(), layer.running_var()];
    for (stat, key) in stats().into_iter().zip(["running_mean", "running_var"]) {
        let track = config.track_running_stats;
        assert_eq!(stat.is_some(), track, "{name}: {key}");
    }

    check("y0", Some(&layer.forward_t(x0, true)?), tol);
    let x1 = Var::from_tensor(x1)?;
    let y1 = layer.forward_t(&x1, true)?;
    check("y1", Some(&y1), tol);
    check_grads("train", &x1, &y1)?;

    // Evaluation must leave the statistics alone, so they are looked at after it.
    check("eval", Some(&layer.forward(x0)?), tol);
    let x0 = Var::from_tensor(x0)?;
    let y = layer.forward_t(&x0, false)?;
    check("eval", Some(&y), tol);
    check_grads("eval", &x0, &y)?;
    if config.track_running_stats {
        let [mean, var] = stats();
        check("after.running_mean", mean, tol);
        check("after.running_var", var, tol);
    }
    Ok(())
}

test_device!(layers);
