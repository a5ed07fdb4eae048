//! `y = (x - mean) * rstd * weight + bias`, and the statistics alone.

use super::memory::{alloc, read, write, InputPlanes, ParamPointer, ShapeArg};
use super::module::{Kernel, Kernels};
use crate::args::{Inputs, View};
use crate::plan::{GpuPlan, Pass, Tier};
use crate::shapes::{acc_dtype, Planes};
use crate::tuning::{WARP, WARPS_PER_BLOCK};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaStorage, Result};

/// Numbers of a `Moments` in moments.cuh: n, the two halves of the mean, m2.
const MOMENTS: usize = 4;

pub fn forward(inputs: &Inputs<CudaStorage>, eps: f64) -> Result<CudaStorage> {
    let planes = inputs.planes()?;
    let (storage, _) = inputs.x;
    let (device, dtype) = (storage.device(), storage.dtype());
    let mut y = alloc(device, dtype, planes.elements())?;
    if planes.elements() == 0 {
        return Ok(y);
    }
    let (kernels, stream) = (Kernels::of(device)?, device.cuda_stream());
    let x = InputPlanes::new(inputs.x, &stream)?;
    let weight = ParamPointer::new(inputs.weight, dtype, &stream)?;
    let bias = ParamPointer::new(inputs.bias, dtype, &stream)?;
    let shape = ShapeArg::new(&planes, eps);
    let size = dtype.size_in_bytes();
    let plan = GpuPlan::new(Pass::Forward, &planes, size, x.aligned, kernels.sm_count)?;

    let y_pointer = write(&mut y, &stream)?;
    let Tier::Split { chunks, chunk } = plan.tier else {
        let kernel = on_chip(plan.tier, Pass::Forward);
        let function = kernels.function(kernel, dtype)?;
        let mut launch = stream.launch_builder(&function);
        launch.arg(&x.arg).arg(&y_pointer.address);
        launch.arg(&weight.arg).arg(&bias.arg).arg(&shape);
        // SAFETY: the arguments are those of `in_fwd_*`; x holds `planes` at its strides, y as many
        // elements as x, and the plan covers every plane with its vectors.
        unsafe { launch.launch(config(&plan)) }.w()?;
        drop(y_pointer);
        return Ok(y);
    };

    let mut parts = alloc(device, acc_dtype(dtype), planes.count() * chunks * MOMENTS)?;
    let parts = write(&mut parts, &stream)?;
    let (chunks, chunk) = (chunks as i32, chunk as i32);
    let measure = kernels.function(Kernel::SplitMeasure(Pass::Forward), dtype)?;
    let mut launch = stream.launch_builder(&measure);
    launch
        .arg(&x.arg)
        .arg(&parts.address)
        .arg(&shape)
        .arg(&chunks)
        .arg(&chunk);
    // SAFETY: as above; `parts` holds a `Moments` for each of the plan's blocks.
    unsafe { launch.launch(config(&plan)) }.w()?;
    let normalize = kernels.function(Kernel::SplitWrite(Pass::Forward), dtype)?;
    let mut launch = stream.launch_builder(&normalize);
    launch.arg(&x.arg).arg(&y_pointer.address);
    launch.arg(&weight.arg).arg(&bias.arg).arg(&shape);
    launch.arg(&parts.address).arg(&chunks).arg(&chunk);
    // SAFETY: as above; the first launch has filled `parts`, on the same stream.
    unsafe { launch.launch(config(&plan)) }.w()?;
    drop(y_pointer);
    Ok(y)
}

/// The mean and the biased variance of every plane: all means, then all variances.
pub fn stats(x: View<CudaStorage>) -> Result<CudaStorage> {
    let planes = Planes::new(x.1.dims())?;
    let (device, dtype) = (x.0.device(), x.0.dtype());
    let mut out = alloc(device, acc_dtype(dtype), 2 * planes.count())?;
    if planes.count() == 0 {
        return Ok(out);
    }
    let (kernels, stream) = (Kernels::of(device)?, device.cuda_stream());
    let input = InputPlanes::new(x, &stream)?;
    let shape = ShapeArg::new(&planes, 0.);
    let plan = GpuPlan::split(
        &planes,
        dtype.size_in_bytes(),
        input.aligned,
        kernels.sm_count,
    )?;
    let Tier::Split { chunks, chunk } = plan.tier else {
        candle_core::bail!("instance-norm: expected a split plan, got {plan:?}")
    };
    let mut parts = alloc(device, acc_dtype(dtype), planes.count() * chunks * MOMENTS)?;
    let (chunks, chunk) = (chunks as i32, chunk as i32);
    {
        let parts = write(&mut parts, &stream)?;
        let measure = kernels.function(Kernel::SplitMeasure(Pass::Forward), dtype)?;
        let mut launch = stream.launch_builder(&measure);
        launch
            .arg(&input.arg)
            .arg(&parts.address)
            .arg(&shape)
            .arg(&chunks)
            .arg(&chunk);
        // SAFETY: the arguments are those of `in_split_moments_*`; `parts` holds a `Moments` for
        // each of the plan's blocks, and x holds `planes` at its strides.
        unsafe { launch.launch(config(&plan)) }.w()?;
    }
    {
        let (parts, out) = (read(&parts, &stream)?, write(&mut out, &stream)?);
        let finish = kernels.function(Kernel::Stats, dtype)?;
        let count = planes.count() as i32;
        let mut launch = stream.launch_builder(&finish);
        launch
            .arg(&parts.address)
            .arg(&out.address)
            .arg(&count)
            .arg(&chunks);
        let config = LaunchConfig {
            grid_dim: (planes.count().div_ceil(WARPS_PER_BLOCK) as u32, 1, 1),
            block_dim: ((WARP * WARPS_PER_BLOCK) as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: a warp for each plane; `out` holds two numbers for each.
        unsafe { launch.launch(config) }.w()?;
    }
    Ok(out)
}

/// The kernel of a tier that keeps a plane on chip.
pub fn on_chip(tier: Tier, pass: Pass) -> Kernel {
    match tier {
        Tier::Warp { vectors } => Kernel::Warp(pass, vectors),
        Tier::Block { vectors } => Kernel::Block(pass, vectors),
        Tier::Split { .. } => Kernel::SplitWrite(pass),
    }
}

pub fn config(plan: &GpuPlan) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (plan.grid, 1, 1),
        block_dim: (plan.threads, 1, 1),
        shared_mem_bytes: 0,
    }
}
