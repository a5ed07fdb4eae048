//! `y = (x - mean) * rstd * weight + bias`, and the statistics alone.

use super::launch::{writer, Arg, Gpu};
use super::memory::{alloc, read, write, Input, InputPlanes, ParamPointer, ShapeArg};
use super::module::Kernel;
use crate::args::{Inputs, View};
use crate::plan::{GpuPlan, Pass, Tier};
use crate::shapes::{acc_dtype, Planes};
use crate::tuning::{WARP, WARPS_PER_BLOCK};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Result};

/// Numbers of a `Moments` in moments.cuh: n, the two halves of the mean, m2.
const MOMENTS: usize = 4;

pub fn forward(inputs: &Inputs<CudaStorage>, eps: f64) -> Result<CudaStorage> {
    let planes = inputs.planes()?;
    let (storage, _) = inputs.x;
    let mut output = alloc(storage.device(), storage.dtype(), planes.elements())?;
    if planes.elements() == 0 {
        return Ok(output);
    }
    let gpu = Gpu::of(storage)?;
    let x = InputPlanes::new(inputs.x, &gpu.stream)?;
    let weight = ParamPointer::new(inputs.weight, gpu.dtype, &gpu.stream)?;
    let bias = ParamPointer::new(inputs.bias, gpu.dtype, &gpu.stream)?;
    let shape = ShapeArg::new(&planes, eps);
    let size = gpu.dtype.size_in_bytes();
    let plan = GpuPlan::new(
        Pass::Forward,
        &planes,
        size,
        x.aligned,
        gpu.kernels.sm_count,
    )?;
    {
        let y = write(&mut output, &gpu.stream)?;
        let (kernel, y) = (writer(Pass::Forward, plan.tier), &y.address);
        let (x, weight, bias, shape) = (&x.arg, &weight.arg, &bias.arg, &shape);
        // SAFETY: x holds `planes` at its strides, y as many elements, weight and bias `period`
        // numbers each, and the plan covers every plane; `parts` is what `measure` filled for the
        // same plan, on the same stream.
        match plan.tier {
            Tier::Split { chunks, chunk } => {
                let parts = measure(&gpu, x, shape, &plan)?;
                let parts = &read(&parts, &gpu.stream)?.address;
                let (chunks, chunk) = (&(chunks as i32), &(chunk as i32));
                let args: &[Arg] = &[x, y, weight, bias, shape, parts, chunks, chunk];
                unsafe { gpu.run(kernel, &plan, args)? }
            }
            _ => unsafe { gpu.run(kernel, &plan, &[x, y, weight, bias, shape])? },
        }
    }
    Ok(output)
}

/// The mean and the biased variance of every plane: all means, then all variances.
pub fn stats(x: View<CudaStorage>) -> Result<CudaStorage> {
    let planes = Planes::new(x.1.dims())?;
    let acc = acc_dtype(x.0.dtype());
    let mut output = alloc(x.0.device(), acc, 2 * planes.count())?;
    if planes.count() == 0 {
        return Ok(output);
    }
    let gpu = Gpu::of(x.0)?;
    let x = InputPlanes::new(x, &gpu.stream)?;
    let shape = ShapeArg::new(&planes, 0.);
    let size = gpu.dtype.size_in_bytes();
    let plan = GpuPlan::split(&planes, size, x.aligned, gpu.kernels.sm_count)?;
    let parts = measure(&gpu, &x.arg, &shape, &plan)?;
    {
        let (parts, out) = (read(&parts, &gpu.stream)?, write(&mut output, &gpu.stream)?);
        let chunks = (plan.grid as usize / planes.count()) as i32;
        let count = planes.count() as i32;
        let grid = planes.count().div_ceil(WARPS_PER_BLOCK) as u32;
        let args: &[Arg] = &[&parts.address, &out.address, &count, &chunks];
        // SAFETY: a warp for each plane; `parts` holds `chunks` moments for each, `out` 2 numbers.
        unsafe { gpu.launch(Kernel::Stats, grid, WARP * WARPS_PER_BLOCK, args)? }
    }
    Ok(output)
}

/// The moments of every block's part of a plane, for a plan of the split tier.
fn measure(gpu: &Gpu, x: &Input, shape: &ShapeArg, plan: &GpuPlan) -> Result<CudaStorage> {
    let Tier::Split { chunks, chunk } = plan.tier else {
        candle_core::bail!("instance-norm: expected a split plan, got {plan:?}")
    };
    let mut parts = alloc(
        gpu.device,
        acc_dtype(gpu.dtype),
        plan.grid as usize * MOMENTS,
    )?;
    {
        let parts = write(&mut parts, &gpu.stream)?;
        let (chunks, chunk) = (chunks as i32, chunk as i32);
        let args: &[Arg] = &[x, &parts.address, shape, &chunks, &chunk];
        // SAFETY: x holds the planes of `shape` at its strides, `parts` a `Moments` for each block.
        unsafe { gpu.run(Kernel::SplitMeasure(Pass::Forward), plan, args)? }
    }
    Ok(parts)
}
