//! The errors of wrong calls, and the results of empty ones.

use crate::common::reference::{Affine, Case, Random};
use crate::common::{says, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::nn::{InstanceNormConfig, instance_norm1d, instance_norm2d};
use candle_instance_norm::{
    Activation, AdaInConfig, Normalization, PlaneStats, adain, adain_mix, instance_norm,
    instance_norm_backward,
};
use candle_nn::VarBuilder;

const EPS: f64 = 1e-5;
const SHAPE: [usize; 4] = [2, 3, 4, 5];

fn zeros(shape: &[usize], dtype: DType, device: &Device) -> Tensor {
    Tensor::zeros(shape, dtype, device).expect("zeros")
}

/// `param` as the weight or the bias of a call that fails: forward and backward say the same, of
/// the one that is wrong.
#[track_caller]
fn refused(x: &Tensor, param: &Tensor, eps: f64, message: impl Fn(&str) -> String) {
    for (name, weight, bias) in [("weight", Some(param), None), ("bias", None, Some(param))] {
        let message = format!("norm: expected {}", message(name));
        says(name, instance_norm(x, weight, bias, eps), &message);
        let grads = instance_norm_backward(x, weight, bias, x, eps);
        says(name, grads, &message);
    }
}

/// Each is refused before anything runs, so what comes after still works.
fn wrong_calls(device: &Device) -> Result<()> {
    use DType::*;
    let zeros = |shape: &[usize], dtype| zeros(shape, dtype, device);
    let (x, weight) = (zeros(&SHAPE, F32), zeros(&[3], F32));

    for shape in [&[][..], &[3], &[2, 3]] {
        refused(&zeros(shape, F32), &weight, EPS, |_| {
            format!(
                "x of rank 3 or more, (N, C, *), got shape {shape:?}; add a batch dimension with \
                 unsqueeze(0) if it is missing"
            )
        });
    }
    let vectors = [&[][..], &[1], &[2], &[4]];
    let matrices = [&[3, 3][..], &[1, 3], &[3, 2], &[2, 3, 1], &[1, 3, 1, 1]];
    for shape in vectors.into_iter().chain(matrices) {
        refused(&x, &zeros(shape, F32), EPS, |name| {
            format!("{name} of shape [3], [2, 3] or that of x, [2, 3, 4, 5], got {shape:?}")
        });
    }
    for (of_x, of_param, expected) in [
        (F32, F16, "F32, got F16"),
        (F32, F64, "F32, got F64"),
        (F16, BF16, "F16 or F32, got BF16"),
        (BF16, F64, "BF16 or F32, got F64"),
        (F64, F32, "F64, got F32"),
        (F32, U32, "F32, got U32"),
    ] {
        let (x, param) = (zeros(&SHAPE, of_x), zeros(&[3], of_param));
        refused(&x, &param, EPS, |name| {
            format!("{name} of dtype {expected}")
        });
    }
    for dtype in [U8, U32, I64] {
        refused(&zeros(&SHAPE, dtype), &zeros(&[3], dtype), EPS, |_| {
            format!("x of dtype F32, F16, BF16 or F64, got {dtype:?}")
        });
    }
    for eps in [-1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(&x, &weight, eps, |_| {
            format!("a finite eps of 0 or more, got {eps}")
        });
    }
    let expected = "norm: expected a gradient of shape [2, 3, 4, 5] and dtype F32, got";
    for (shape, dtype) in [
        (&[2, 3, 4, 4], F32),
        (&[2, 3, 5, 4], F32),
        (&[2, 3, 4, 5], F64),
    ] {
        let dy = zeros(shape, dtype);
        let message = format!("{expected} {shape:?} and {dtype:?}");
        says(
            "dy",
            instance_norm_backward(&x, None, None, &dy, EPS),
            &message,
        );
    }
    if !device.is_cpu() {
        let there = format!("on the device of x, {:?}, got Cpu", device.location());
        let here = weight.to_device(&Device::Cpu)?;
        let dy = x.to_device(&Device::Cpu)?;
        says("weight", instance_norm(&x, Some(&here), None, EPS), &there);
        says("bias", instance_norm(&x, None, Some(&here), EPS), &there);
        says(
            "dy",
            instance_norm_backward(&x, None, None, &dy, EPS),
            &there,
        );
        let there = format!(
            "expected weight on the device of x, Cpu, got {:?}",
            device.location()
        );
        says("x", instance_norm(&dy, Some(&weight), None, EPS), &there);
    }

    let mut random = Random::new(41, device);
    let x = random.tensor(&SHAPE, F32, 0., 1.)?;
    let good = Case {
        what: "after the errors".into(),
        params: random.params(&x, F32, Affine::Channel)?,
        dy: random.tensor(&SHAPE, F32, 0., 1.)?,
        x,
        eps: EPS,
    };
    Ok(good.check(2e-6)?)
}

test_device!(wrong_calls);

/// In place, a result goes into x itself or is refused: a view that the op would copy first keeps its
/// elements, and the error says so.
fn in_place(device: &Device) -> Result<()> {
    let mut random = Random::new(42, device);
    let mut x = |shape: &[usize]| random.tensor(shape, DType::F32, 1., 2.);
    let (base, large) = (x(&[2, 3, 4, 5])?, x(&[2, 3, 4, 5, 6])?);
    let norm = Normalization::instance(EPS);
    for view in [
        base.narrow(3, 0, 4)?,
        base.narrow(2, 1, 2)?,
        base.narrow(1, 0, 2)?,
        base.transpose(2, 3)?,
        large.transpose(2, 4)?,
        x(&[2, 1, 4, 5])?.expand((2, 3, 4, 5))?,
    ] {
        let before = to_f64(&view);
        let message = format!(
            "norm: expected a contiguous x to work in place, got {:?}",
            view.layout()
        );
        says("in place", norm.forward_in_place(&view), &message);
        assert_eq!(to_f64(&view), before);
    }
    let tracked = Var::from_tensor(&base)?;
    let message = "norm: expected tensors without gradients to work in place, got a tracked one";
    says("in place", norm.forward_in_place(&tracked), message);
    let shared = norm.clone().residual(&base);
    let message = "norm: expected an x of its own to work in place, got one that shares memory";
    says("in place", shared.forward_in_place(&base), message);

    // Contiguous in either format, and a part of a larger tensor.
    let last = x(&[2, 4, 5, 3])?.permute((0, 3, 1, 2))?;
    for view in [base.clone(), last, base.narrow(0, 1, 1)?] {
        let want = to_f64(&norm.forward(&view)?);
        norm.forward_in_place(&view)?;
        assert_eq!(to_f64(&view), want);
    }
    Ok(())
}

test_device!(in_place);

/// The errors of the builder, as the docs of `Normalization` list them.
fn builder(device: &Device) -> Result<()> {
    let zeros = |shape: &[usize]| zeros(shape, DType::F32, device);
    let (x, per_element) = (zeros(&SHAPE), zeros(&SHAPE));
    let per_channel = zeros(&[3]);
    let instance = || Normalization::instance(EPS);
    let given = |mean: &Tensor, rstd: &Tensor| {
        let (mean, rstd) = (mean.clone(), rstd.clone());
        instance().stats(&PlaneStats { mean, rstd })
    };
    let mut rows = vec![
        (
            instance().correction(2),
            "a correction of 0 or 1, got 2".to_string(),
        ),
        (
            Normalization::group(2, EPS),
            "a number of groups that divides the 3 channels, got 2".into(),
        ),
        (
            Normalization::group(0, EPS),
            "a number of groups that divides the 3 channels, got 0".into(),
        ),
        (
            instance().weight(&per_element).bias(&per_channel),
            "weight and bias both per element or neither, got shapes Some([2, 3, 4, 5]) and \
             Some([3])"
                .into(),
        ),
        (
            instance().weight(&per_element).blend(0.5),
            "no blending beside parameters per element, got alpha 0.5".into(),
        ),
        (
            instance().residual(&per_channel),
            "a residual of shape [2, 3, 4, 5] and dtype F32, got [3] and F32".into(),
        ),
        (
            given(&zeros(&[4]), &per_channel),
            "mean of shape [3] or [2, 3], got [4]".into(),
        ),
        (
            given(&per_channel, &per_element),
            "rstd of shape [3] or [2, 3], got [2, 3, 4, 5]".into(),
        ),
    ];
    for wrong in [f64::NAN, f64::INFINITY] {
        rows.push((
            instance().blend(wrong),
            format!("a finite alpha, got {wrong}"),
        ));
        rows.push((
            instance().activation(Activation::LeakyRelu(wrong)),
            format!("a finite slope of the leaky ReLU, got {wrong}"),
        ));
    }
    for (norm, message) in rows {
        let message = format!("norm: expected {message}");
        says(&message, norm.forward(&x), &message);
        says(&message, norm.backward(&x, &x), &message);
        says(&message, norm.forward_in_place(&x), &message);
    }
    Ok(())
}

test_device!(builder);

/// The errors of AdaIN: styles that do not fit the content, and none at all.
fn styles(device: &Device) -> Result<()> {
    let zeros = |shape: &[usize], dtype| zeros(shape, dtype, device);
    let content = zeros(&SHAPE, DType::F32);
    let config = AdaInConfig::default();
    let expected = "adain: expected a style of 3 channels and of 2 samples or 1 for content of shape \
                    [2, 3, 4, 5], got shape";
    for (style, message) in [
        (
            zeros(&[2, 4, 4, 5], DType::F32),
            format!("{expected} [2, 4, 4, 5]"),
        ),
        (
            zeros(&[3, 3, 4, 5], DType::F32),
            format!("{expected} [3, 3, 4, 5]"),
        ),
        (
            zeros(&[2, 3, 6], DType::F16),
            "adain: expected a style of dtype F32, got F16".into(),
        ),
        (
            zeros(&[2, 3], DType::F32),
            "norm: expected x of rank 3 or more".into(),
        ),
    ] {
        says(&message, adain(&content, &style, &config), &message);
        let styles = [(&content, 0.5), (&style, 0.5)];
        says(&message, adain_mix(&content, &styles, &config), &message);
    }
    let none = adain_mix(&content, &[], &config);
    says("none", none, "adain: expected one style or more, got none");
    for (config, message) in [
        (
            AdaInConfig { eps: -1., ..config },
            "norm: expected a finite eps of 0 or more, got -1",
        ),
        (
            AdaInConfig {
                correction: 2,
                ..config
            },
            "norm: expected a correction of 0 or 1, got 2",
        ),
        (
            AdaInConfig {
                alpha: f64::NAN,
                ..config
            },
            "norm: expected a finite alpha, got NaN",
        ),
    ] {
        says(message, adain(&content, &content, &config), message);
        says(
            message,
            adain_mix(&content, &[(&content, 1.)], &config),
            message,
        );
    }
    Ok(())
}

test_device!(styles);

/// The layers' own checks, in training and in evaluation.
fn layers(device: &Device) -> Result<()> {
    let vb = || VarBuilder::zeros(DType::F32, device);
    let x = |shape: &[usize]| zeros(shape, DType::F32, device);
    let with = |set: fn(&mut InstanceNormConfig)| {
        let mut config = InstanceNormConfig::default();
        set(&mut config);
        config
    };
    let plain = with(|_| ());
    let affine = with(|c| c.affine = true);
    let track = with(|c| c.track_running_stats = true);
    let allow = with(|c| (c.affine, c.allow_single_element) = (true, true));

    for (config, message) in [
        (with(|c| c.momentum = 1.5), "momentum from 0 to 1, got 1.5"),
        (
            with(|c| c.momentum = -0.1),
            "momentum from 0 to 1, got -0.1",
        ),
        (
            with(|c| c.momentum = f64::NAN),
            "momentum from 0 to 1, got NaN",
        ),
        (with(|c| c.eps = -1.), "finite eps of 0 or more, got -1"),
        (
            with(|c| c.eps = f64::INFINITY),
            "finite eps of 0 or more, got inf",
        ),
    ] {
        let message = format!("norm: expected a {message}");
        says("config", instance_norm2d(3, config, vb()), &message);
    }

    for train in [true, false] {
        for (config, shape, message) in [
            (
                plain,
                &[3, 4][..],
                "rank 4 or, for one sample, 3, got shape [3, 4]",
            ),
            (
                plain,
                &[2, 3, 4, 5, 6],
                "rank 4 or, for one sample, 3, got shape [2, 3, 4, 5, 6]",
            ),
            (
                affine,
                &[2, 4, 5, 5],
                "expected 3 channels, got 4 in shape [2, 4, 5, 5]",
            ),
            (
                affine,
                &[4, 5, 5],
                "expected 3 channels, got 4 in shape [4, 5, 5]",
            ),
            (
                track,
                &[2, 4, 5, 5],
                "expected 3 channels, got 4 in shape [2, 4, 5, 5]",
            ),
            (
                affine,
                &[2, 3, 1, 1],
                "expected more than 1 spatial element, got input of shape [2, 3, 1, 1]",
            ),
            (
                plain,
                &[3, 1, 1],
                "expected more than 1 spatial element, got input of shape [1, 3, 1, 1]",
            ),
        ] {
            let layer = instance_norm2d(3, config, vb())?;
            says(message, layer.forward_t(&x(shape), train), message);
        }
        let layer = instance_norm1d(3, affine, vb())?;
        says(
            "1d",
            layer.forward_t(&x(&[2, 3, 4, 5]), train),
            "rank 3 or, for one sample, 2, got",
        );

        // torch does not check either: there are no parameters, and running statistics need no second
        // element.
        let other = instance_norm2d(3, plain, vb())?.forward_t(&x(&[2, 7, 5, 5]), train)?;
        assert_eq!(other.dims(), [2, 7, 5, 5]);
        let bias = Tensor::new(&[1f32, 2., 3.], device)?;
        let state = [("weight", x(&[3])), ("bias", bias.clone())];
        let state = state.map(|(k, v)| (k.to_string(), v)).into();
        let vb = VarBuilder::from_tensors(state, DType::F32, device);
        let single = instance_norm2d(3, allow, vb)?.forward_t(&x(&[1, 3, 1, 1]), train)?;
        assert_eq!(to_f64(&single), [1., 2., 3.]);
    }
    let track = instance_norm2d(3, track, vb())?;
    assert!(track.forward_t(&x(&[2, 3, 1, 1]), true).is_err());
    assert_eq!(
        track.forward_t(&x(&[2, 3, 1, 1]), false)?.dims(),
        [2, 3, 1, 1]
    );
    Ok(())
}

test_device!(layers);

/// There are no f64 kernels on Metal, and no other device that could take over.
#[cfg(feature = "metal")]
#[test]
fn f64_on_metal() {
    let x = zeros(&SHAPE, DType::F64, crate::common::metal());
    let message = "unsupported dtype F64 for op norm on Metal";
    says("forward", instance_norm(&x, None, None, EPS), message);
    let grads = instance_norm_backward(&x, None, None, &x, EPS);
    says("backward", grads, message);
}
