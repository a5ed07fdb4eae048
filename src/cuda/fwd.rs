//! The forward pass, and the statistics alone.

use super::call::{CallArg, Tensors};
use super::launch::Gpu;
use super::memory::{alloc, write};
use super::parts::InParts;
use crate::args::{Beside, Inputs, Norm, Second, View};
use crate::plan::Pass;
use crate::shapes::acc_dtype;
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Layout, Result};

pub fn forward(inputs: &Inputs<View<CudaStorage>>, norm: &Norm) -> Result<CudaStorage> {
    let (storage, _) = inputs.x;
    let mut output = alloc(storage.device(), storage.dtype(), norm.planes.elements())?;
    if norm.planes.elements() == 0 {
        return Ok(output);
    }
    let gpu = Gpu::of(storage)?;
    {
        let mut tensors = Tensors::new(norm, gpu.dtype, &gpu.stream);
        let mut call = CallArg::new(norm);
        call.x = tensors.read(inputs.x)?;
        tensors.beside(&mut call, &inputs.beside)?;
        let y = write(&mut output, &gpu.stream)?;
        call.out = tensors.contiguous(y.address);
        launch(&gpu, norm, &call, inputs.x.1, inputs.beside.given.is_some())?;
    }
    Ok(output)
}

/// As [`forward`], into `x` itself. The kernels read an element in the thread that writes it, and
/// measure a plane before they write any of it.
pub fn forward_in_place(
    x: &mut CudaStorage,
    layout: &Layout,
    beside: &Beside<View<CudaStorage>>,
    norm: &Norm,
) -> Result<()> {
    if norm.planes.elements() == 0 {
        return Ok(());
    }
    let (device, dtype) = (x.device().clone(), x.dtype());
    let gpu = Gpu::new(&device, dtype)?;
    let mut tensors = Tensors::new(norm, dtype, &gpu.stream);
    let mut call = CallArg::new(norm);
    tensors.beside(&mut call, beside)?;
    let pointer = write(x, &gpu.stream)?;
    let start = (layout.start_offset() * dtype.size_in_bytes()) as u64;
    call.x = tensors.at(pointer.address + start, layout)?;
    call.out = call.x;
    launch(&gpu, norm, &call, layout, beside.given.is_some())
}

fn launch(gpu: &Gpu, norm: &Norm, call: &CallArg, layout: &Layout, given: bool) -> Result<()> {
    let plan = gpu.plan(Pass::Forward, norm, (call, layout), given)?;
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
        norm.planes.count(),
        norm.channels_per_group,
    )?;
    let parts = match given {
        true => None,
        false => run.measure(Pass::Forward, &None)?,
    };
    run.write(&run.affines(&parts)?)
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats(x: View<CudaStorage>, norm: &Norm, second: Second) -> Result<CudaStorage> {
    let (storage, _) = x;
    let planes = norm.planes.count();
    let acc = acc_dtype(storage.dtype());
    let mut output = alloc(storage.device(), acc, 2 * planes)?;
    if planes == 0 {
        return Ok(output);
    }
    let gpu = Gpu::of(storage)?;
    let mut tensors = Tensors::new(norm, gpu.dtype, &gpu.stream);
    let mut call = CallArg::new(norm);
    call.x = tensors.read(x)?;
    call.set_second(second);
    let plan = gpu.plan(Pass::Forward, norm, (&call, x.1), false)?;
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
    let run = InParts::new(&gpu, &call, plan, planes, norm.channels_per_group)?;
    run.stats(&run.measure(Pass::Forward, &None)?, &mut output)?;
    Ok(output)
}
