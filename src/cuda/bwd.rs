//! The gradients of x, weight and bias.

use super::launch::{writer, Arg, Gpu};
use super::memory::{
    alloc, is_final, narrower, read, write, InputPlanes, OutputArg, ParamPointer, ShapeArg,
};
use super::module::Kernel;
use crate::args::{Gradients, Inputs, View, Wanted};
use crate::plan::{GpuPlan, Pass, Tier};
use crate::shapes::{acc_dtype, Param, Planes};
use crate::tuning::PARAM_THREADS;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{CudaDevice, CudaStorage, DType, Result, Shape};

/// Numbers of a `CoMoments` in moments.cuh: those of x, the two halves of the mean of dy, cross.
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
    let gpu = Gpu::of(storage)?;
    launch(&gpu, inputs, dy, eps, &planes, &mut grads)?;
    let finish = |shares: Option<CudaStorage>, param: Option<Param>| match (shares, param) {
        (Some(shares), Some(param)) => sum_params(&gpu, shares, param, &planes).map(Some),
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
    gpu: &Gpu,
    inputs: &Inputs<CudaStorage>,
    dy: View<CudaStorage>,
    eps: f64,
    planes: &Planes,
    grads: &mut Gradients<CudaStorage>,
) -> Result<()> {
    let stream = &gpu.stream;
    let x = InputPlanes::new(inputs.x, stream)?;
    let dy = InputPlanes::new(dy, stream)?;
    let weight = ParamPointer::new(inputs.weight, gpu.dtype, stream)?;
    let shape = ShapeArg::new(planes, eps);
    let size = gpu.dtype.size_in_bytes();
    let plan = GpuPlan::new(
        Pass::Backward,
        planes,
        size,
        x.aligned,
        gpu.kernels.sm_count,
    )?;

    let targets = [&mut grads.x, &mut grads.weight, &mut grads.bias];
    let mut pointers = [const { None }; 3];
    for (pointer, target) in pointers.iter_mut().zip(targets) {
        *pointer = target.as_mut().map(|t| write(t, stream)).transpose()?;
    }
    let [dx, dweight, dbias] = pointers
        .each_ref()
        .map(|p| p.as_ref().map_or(0, |p| p.address));
    let out = OutputArg { dx, dweight, dbias };

    let (x, dy, out, weight, shape) = (&x.arg, &dy.arg, &out, &weight.arg, &shape);
    let write_grads = writer(Pass::Backward, plan.tier);
    let Tier::Split { chunks, chunk } = plan.tier else {
        // SAFETY: x and dy hold `planes` at their strides, weight `period` numbers, dx as many
        // elements as x, the others a number for each plane; the plan covers every plane.
        return unsafe { gpu.run(write_grads, &plan, &[x, dy, out, weight, shape]) };
    };
    let (chunks, chunk) = (&(chunks as i32), &(chunk as i32));
    let mut parts = alloc(
        gpu.device,
        acc_dtype(gpu.dtype),
        plan.grid as usize * COMOMENTS,
    )?;
    let parts = &write(&mut parts, stream)?.address;
    let measure = Kernel::SplitMeasure(Pass::Backward);
    // SAFETY: as above; `parts` holds a `CoMoments` for each block of the plan, and the first
    // launch has filled it when the second runs, on the same stream.
    unsafe {
        gpu.run(measure, &plan, &[x, dy, parts, shape, chunks, chunk])?;
        gpu.run(
            write_grads,
            &plan,
            &[x, dy, out, weight, shape, parts, chunks, chunk],
        )
    }
}

/// The gradient of a parameter from the planes' shares, summed over N where samples share it.
fn sum_params(
    gpu: &Gpu,
    shares: CudaStorage,
    param: Param,
    planes: &Planes,
) -> Result<CudaStorage> {
    if is_final(param, planes, gpu.dtype) {
        return Ok(shares);
    }
    let period = param.granularity.period(planes);
    let mut out = alloc(gpu.device, param.dtype, period)?;
    {
        let (shares, out) = (read(&shares, &gpu.stream)?, write(&mut out, &gpu.stream)?);
        let (n, c) = ((planes.count() / period) as i32, period as i32);
        let is_f32 = narrower(gpu.dtype, param.dtype);
        let args: &[Arg] = &[&shares.address, &out.address, &n, &c, &is_f32];
        let grid = period.div_ceil(PARAM_THREADS) as u32;
        // SAFETY: `shares` holds n * c numbers and `out` c of the parameter's dtype.
        unsafe { gpu.launch(Kernel::SumParams, grid, PARAM_THREADS, args)? }
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
