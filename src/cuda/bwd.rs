//! The gradients of x, weight and bias.

use super::fwd::{config, on_chip};
use super::memory::{
    alloc, is_final, narrower, read, write, InputPlanes, OutputArg, ParamPointer, ShapeArg,
};
use super::module::{Kernel, Kernels};
use crate::args::{Gradients, Inputs, View, Wanted};
use crate::plan::{GpuPlan, Pass, Tier};
use crate::shapes::{acc_dtype, Param, Planes};
use crate::tuning::PARAM_THREADS;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, CudaStorage, DType, Result, Shape};

/// Numbers of a `CoMoments` in moments.cuh.
const COMOMENTS: usize = 7;

pub fn backward(
    inputs: &Inputs<CudaStorage>,
    dy: View<CudaStorage>,
    eps: f64,
    wanted: &Wanted,
) -> Result<Gradients<CudaStorage>> {
    let planes = inputs.planes()?;
    let (storage, _) = inputs.x;
    let (device, dtype) = (storage.device(), storage.dtype());
    if planes.elements() == 0 {
        return empty(device, dtype, &planes, wanted);
    }
    let shares = |param: Option<Param>| {
        param
            .map(|_| alloc(device, acc_dtype(dtype), planes.count()))
            .transpose()
    };
    let dx = wanted
        .x
        .then(|| alloc(device, dtype, planes.elements()))
        .transpose()?;
    let mut grads = Gradients {
        x: dx,
        weight: shares(wanted.weight)?,
        bias: shares(wanted.bias)?,
    };
    launch(inputs, dy, eps, &planes, &mut grads)?;
    let finish = |shares: Option<CudaStorage>, param: Option<Param>| match (shares, param) {
        (Some(shares), Some(param)) => sum_params(shares, param, &planes, dtype).map(Some),
        _ => Ok(None),
    };
    Ok(Gradients {
        x: grads.x,
        weight: finish(grads.weight, wanted.weight)?,
        bias: finish(grads.bias, wanted.bias)?,
    })
}

/// Fills dx and every plane's share of the other gradients.
fn launch(
    inputs: &Inputs<CudaStorage>,
    dy: View<CudaStorage>,
    eps: f64,
    planes: &Planes,
    grads: &mut Gradients<CudaStorage>,
) -> Result<()> {
    let (storage, _) = inputs.x;
    let (device, dtype) = (storage.device(), storage.dtype());
    let (kernels, stream) = (Kernels::of(device)?, device.cuda_stream());
    let x = InputPlanes::new(inputs.x, &stream)?;
    let dy = InputPlanes::new(dy, &stream)?;
    let weight = ParamPointer::new(inputs.weight, dtype, &stream)?;
    let shape = ShapeArg::new(planes, eps);
    let size = dtype.size_in_bytes();
    let plan = GpuPlan::new(Pass::Backward, planes, size, x.aligned, kernels.sm_count)?;

    let targets = [
        grads.x.as_mut().map(|g| write(g, &stream)).transpose()?,
        grads
            .weight
            .as_mut()
            .map(|g| write(g, &stream))
            .transpose()?,
        grads.bias.as_mut().map(|g| write(g, &stream)).transpose()?,
    ];
    let [dx, dweight, dbias] = targets
        .each_ref()
        .map(|t| t.as_ref().map_or(0, |t| t.address));
    let out = OutputArg { dx, dweight, dbias };

    let Tier::Split { chunks, chunk } = plan.tier else {
        let function = kernels.function(on_chip(plan.tier, Pass::Backward), dtype)?;
        let mut launch = stream.launch_builder(&function);
        launch
            .arg(&x.arg)
            .arg(&dy.arg)
            .arg(&out)
            .arg(&weight.arg)
            .arg(&shape);
        // SAFETY: the arguments are those of `in_bwd_*`; x and dy hold `planes` at their strides,
        // dx as many elements, the others a number for each plane, and the plan covers all planes.
        unsafe { launch.launch(config(&plan)) }.w()?;
        return Ok(());
    };
    let mut parts = alloc(
        device,
        acc_dtype(dtype),
        planes.count() * chunks * COMOMENTS,
    )?;
    let parts = write(&mut parts, &stream)?;
    let (chunks, chunk) = (chunks as i32, chunk as i32);
    let measure = kernels.function(Kernel::SplitMeasure(Pass::Backward), dtype)?;
    let mut launch = stream.launch_builder(&measure);
    launch
        .arg(&x.arg)
        .arg(&dy.arg)
        .arg(&parts.address)
        .arg(&shape);
    launch.arg(&chunks).arg(&chunk);
    // SAFETY: as above; `parts` holds a `CoMoments` for each of the plan's blocks.
    unsafe { launch.launch(config(&plan)) }.w()?;
    let function = kernels.function(Kernel::SplitWrite(Pass::Backward), dtype)?;
    let mut launch = stream.launch_builder(&function);
    launch
        .arg(&x.arg)
        .arg(&dy.arg)
        .arg(&out)
        .arg(&weight.arg)
        .arg(&shape);
    launch.arg(&parts.address).arg(&chunks).arg(&chunk);
    // SAFETY: as above; the first launch has filled `parts`, on the same stream.
    unsafe { launch.launch(config(&plan)) }.w()?;
    Ok(())
}

/// The gradient of a parameter from the planes' shares, summed over N where samples share it.
fn sum_params(shares: CudaStorage, param: Param, planes: &Planes, x: DType) -> Result<CudaStorage> {
    if is_final(param, planes, x) {
        return Ok(shares);
    }
    let device = shares.device().clone();
    let (kernels, stream) = (Kernels::of(&device)?, device.cuda_stream());
    let period = param.granularity.period(planes);
    let mut out = alloc(&device, param.dtype, period)?;
    {
        let (shares, out) = (read(&shares, &stream)?, write(&mut out, &stream)?);
        let (n, c) = ((planes.count() / period) as i32, period as i32);
        let is_f32 = narrower(x, param.dtype);
        let function = kernels.function(Kernel::SumParams, x)?;
        let mut launch = stream.launch_builder(&function);
        launch
            .arg(&shares.address)
            .arg(&out.address)
            .arg(&n)
            .arg(&c)
            .arg(&is_f32);
        let config = LaunchConfig {
            grid_dim: (period.div_ceil(PARAM_THREADS) as u32, 1, 1),
            block_dim: (PARAM_THREADS as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of `in_sum_params_*`; `shares` holds n * c numbers and
        // `out` c of the parameter's dtype.
        unsafe { launch.launch(config) }.w()?;
    }
    Ok(out)
}

/// No element, no gradient: x has none, and the parameters' are sums of nothing.
fn empty(
    device: &CudaDevice,
    dtype: DType,
    planes: &Planes,
    wanted: &Wanted,
) -> Result<Gradients<CudaStorage>> {
    let zeros = |param: Option<Param>| {
        let shape = |p: Param| Shape::from(p.granularity.dims(planes));
        param
            .map(|p| device.zeros_impl(&shape(p), p.dtype))
            .transpose()
    };
    Ok(Gradients {
        x: wanted.x.then(|| alloc(device, dtype, 0)).transpose()?,
        weight: zeros(wanted.weight)?,
        bias: zeros(wanted.bias)?,
    })
}
