//! The forward pass, and the statistics alone.

use super::call::{CallArg, Tensors};
use super::launch::Gpu;
use super::memory::{alloc, write};
use super::parts::InParts;
use crate::plan::Pass;
use crate::shapes::acc_dtype;
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Layout, Result};

pub fn forward(
    x: View<CudaStorage>,
    extras: &Extras<View<CudaStorage>>,
    spec: &NormSpec,
) -> Result<CudaStorage> {
    let (storage, _) = x;
    let mut output = alloc(storage.device(), storage.dtype(), spec.planes.elements())?;
    if spec.planes.elements() == 0 {
        return Ok(output);
    }
    let gpu = Gpu::of(storage)?;
    {
        let mut tensors = Tensors::new(spec, gpu.dtype, &gpu.stream);
        let mut call = CallArg::new(spec);
        call.x = tensors.read(x)?;
        tensors.extras(&mut call, extras)?;
        let y = write(&mut output, &gpu.stream)?;
        call.out = tensors.contiguous(y.address);
        launch(&gpu, spec, &call, x.1, extras.stats.is_some())?;
    }
    Ok(output)
}

/// As [`forward`], into `x` itself. The kernels read an element in the thread that writes it, and
/// measure a plane before they write any of it.
pub fn forward_in_place(
    x: &mut CudaStorage,
    layout: &Layout,
    extras: &Extras<View<CudaStorage>>,
    spec: &NormSpec,
) -> Result<()> {
    if spec.planes.elements() == 0 {
        return Ok(());
    }
    let (device, dtype) = (x.device().clone(), x.dtype());
    let gpu = Gpu::new(&device, dtype)?;
    let mut tensors = Tensors::new(spec, dtype, &gpu.stream);
    let mut call = CallArg::new(spec);
    tensors.extras(&mut call, extras)?;
    let pointer = write(x, &gpu.stream)?;
    let start = (layout.start_offset() * dtype.size_in_bytes()) as u64;
    call.x = tensors.at(pointer.address + start, layout)?;
    call.out = call.x;
    launch(&gpu, spec, &call, layout, extras.stats.is_some())
}

fn launch(gpu: &Gpu, spec: &NormSpec, call: &CallArg, layout: &Layout, given: bool) -> Result<()> {
    let plan = gpu.plan(Pass::Forward, spec, (call, layout), given)?;
    if plan.is_on_chip() {
        // SAFETY: x holds the planes at their strides, as does whatever goes with its elements, the
        // parameters hold `period` numbers each, the output an element for each of x; the plan
        // covers every plane.
        return unsafe { gpu.launch_on_chip(Pass::Forward, &plan, call) };
    }
    let run = InParts::new(
        gpu,
        call,
        plan,
        spec.planes.count(),
        spec.channels_per_group,
    )?;
    let parts = match given {
        true => None,
        false => run.measure(Pass::Forward, &None)?,
    };
    run.write(&run.affines(&parts)?)
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats(x: View<CudaStorage>, spec: &NormSpec, stat: ScaleStat) -> Result<CudaStorage> {
    let (storage, _) = x;
    let planes = spec.planes.count();
    let acc = acc_dtype(storage.dtype());
    let mut output = alloc(storage.device(), acc, 2 * planes)?;
    if planes == 0 {
        return Ok(output);
    }
    let gpu = Gpu::of(storage)?;
    let mut tensors = Tensors::new(spec, gpu.dtype, &gpu.stream);
    let mut call = CallArg::new(spec);
    call.x = tensors.read(x)?;
    call.set_stat(stat);
    let plan = gpu.plan(Pass::Forward, spec, (&call, x.1), false)?;
    if plan.is_on_chip() {
        let out = write(&mut output, &gpu.stream)?;
        call.shares.mean = out.address;
        call.shares.rstd = out.address + (planes * acc.size_in_bytes()) as u64;
        // SAFETY: x holds the planes at their strides, each half of the output a number for each; the
        // plan covers every plane.
        unsafe { gpu.launch_on_chip(Pass::Forward, &plan, &call) }?;
        drop(out);
        return Ok(output);
    }
    let run = InParts::new(&gpu, &call, plan, planes, spec.channels_per_group)?;
    run.stats(&run.measure(Pass::Forward, &None)?, &mut output)?;
    Ok(output)
}
