//! The state of the layers, and their use as candle's modules.

use crate::common::{Tolerance, assert_close, says, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Module, Tensor};
use candle_instance_norm::nn::{self, InstanceNormConfig, instance_norm2d};
use candle_instance_norm::{Activation, Normalization, group_norm};
use candle_nn::{VarBuilder, VarMap};

/// Running statistics are f32 beside half parameters: in bf16 a step of 1 % is lost as soon as the
/// rest of the way is less than half an ulp of where they are.
fn running_statistics_of_half_types(device: &Device) -> Result<()> {
    // Enough to arrive; a GPU takes fewer, and is on its way.
    let steps = if device.is_cpu() { 5000 } else { 300 };
    let x = Tensor::new(&[3f32, 5., 4., 3.984375], device)?.reshape((1, 1, 2, 2))?;
    let of_x = to_f64(&x.mean_all()?)[0];
    let var = to_f64(&x.flatten_all()?.var(0)?)[0];
    let config = InstanceNormConfig {
        momentum: 0.01,
        track_running_stats: true,
        ..Default::default()
    };
    for dtype in [DType::BF16, DType::F16] {
        let x = x.to_dtype(dtype)?;
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, dtype, device);
        let norm = instance_norm2d(1, config, vb)?;
        for _ in 0..steps {
            norm.forward_t(&x, true)?;
        }
        let left = 0.99f64.powi(steps);
        for (running, start, end) in [
            (norm.running_mean(), 0., of_x),
            (norm.running_var(), 1., var),
        ] {
            let running = running.expect("running statistics");
            assert_eq!(running.dtype(), DType::F32);
            let (got, want) = (to_f64(running)[0], end + left * (start - end));
            assert!((got - want).abs() < 1e-4, "{dtype:?}: {got}, not {want}");
        }
        // They are found in the map, and from a checkpoint in either type.
        let kept = vars.data().lock().unwrap()["running_mean"]
            .as_tensor()
            .clone();
        assert_eq!(to_f64(&kept), to_f64(norm.running_mean().expect("a mean")));
        for of_file in [dtype, DType::F32] {
            let number = |v: f32| Tensor::new(&[v], device)?.to_dtype(of_file);
            let state = [
                ("running_mean".to_string(), number(1.5)?),
                ("running_var".to_string(), number(4.)?),
            ];
            let vb = VarBuilder::from_tensors(state.into(), dtype, device);
            let norm = instance_norm2d(1, InstanceNormConfig { eps: 0., ..config }, vb)?;
            assert_eq!(norm.running_var().map(|v| v.dtype()), Some(DType::F32));
            let y = norm.forward(&x)?;
            assert_eq!(y.dtype(), dtype);
            assert_eq!(to_f64(&y)[..3], [0.75, 1.75, 1.25]);
        }
    }
    Ok(())
}

test_device!(running_statistics_of_half_types);

/// A layer without running statistics is a module like any other of candle's; one that has them is
/// told training from evaluation, and says so where it is not.
fn sequential(device: &Device) -> Result<()> {
    let vb = VarBuilder::zeros(DType::F32, device);
    let x = Tensor::new(&[1f32, 3., 5., 11.], device)?.reshape((1, 1, 2, 2))?;
    let network = candle_nn::seq()
        .add(instance_norm2d(1, 1e-5, vb.clone())?)
        .add(nn::group_norm(1, 1, 1e-5, vb.clone())?)
        .add(candle_nn::Activation::Relu);
    assert_eq!(network.forward(&x)?.dims(), x.dims());
    let norm = instance_norm2d(1, 1e-5, vb.clone())?;
    let want = norm.forward(&x)?;
    assert_eq!(to_f64(&x.apply(&norm)?), to_f64(&want));
    assert_eq!(to_f64(&x.apply_t(&norm, true)?), to_f64(&want));
    let config = InstanceNormConfig {
        track_running_stats: true,
        ..Default::default()
    };
    let tracking = instance_norm2d(1, config, vb)?;
    let message = "norm: expected a layer without running statistics where training is not told";
    says("apply", x.apply(&tracking), message);
    says("apply_t", x.apply_t(&tracking, true), message);
    Ok(())
}

test_device!(sequential);

/// `(N, C)` as PyTorch has it: C / G numbers of a sample make a group.
fn group_norm_of_vectors(device: &Device) -> Result<()> {
    let x = Tensor::new(
        &[
            [1f32, 3., 10., 30.],
            [5., 5.5, -1., -1.25],
            [0., 1., 2., 4.],
        ],
        device,
    )?;
    let want = Tensor::new(
        &[[-1f32, 1., -1., 1.], [-1., 1., 1., -1.], [-1., 1., -1., 1.]],
        device,
    )?;
    let close = Tolerance::of(DType::F32);
    assert_close("y", &group_norm(&x, 2, None, None, 0.)?, &want, close);
    let view = x.t()?.contiguous()?.t()?;
    assert_close("view", &group_norm(&view, 2, None, None, 0.)?, &want, close);

    // Equal to planes of one element: parameters, a residual, gradients, in place.
    let (weight, bias) = (x.get(1)?, x.get(2)?);
    let norm = Normalization::group(2, 1e-5)
        .weight(&weight)
        .bias(&bias)
        .activation(Activation::Silu);
    let whole = |t: &Tensor| t.unsqueeze(2);
    let with = norm.clone().residual(&want);
    let planes = norm.residual(&whole(&want)?);
    let y = planes.forward(&whole(&x)?)?.squeeze(2)?;
    assert_eq!(to_f64(&with.forward(&x)?), to_f64(&y));
    let (got, of_planes) = (
        with.backward(&x, &view)?,
        planes.backward(&whole(&x)?, &whole(&view)?)?,
    );
    assert_eq!(
        (got.x.dims(), to_f64(&got.x)),
        (x.dims(), to_f64(&of_planes.x))
    );
    let (got, of_planes) = (got.residual.expect("one"), of_planes.residual.expect("one"));
    assert_eq!((got.dims(), to_f64(&got)), (x.dims(), to_f64(&of_planes)));
    let own = x.copy()?;
    with.forward_in_place(&own)?;
    assert_eq!(to_f64(&own), to_f64(&y));
    let per_sample = Normalization::group(2, 1e-5).weight(&view);
    let of_planes = per_sample.forward(&whole(&x)?)?.squeeze(2)?;
    assert_eq!(to_f64(&per_sample.forward(&x)?), to_f64(&of_planes));
    Ok(())
}

test_device!(group_norm_of_vectors);
