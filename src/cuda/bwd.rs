//! The gradients.

use super::call::{CallArg, SharesArg, Tensors};
use super::launch::Gpu;
use super::memory::{alloc, write, Pointer};
use super::params::sum_params;
use super::parts::InParts;
use crate::plan::Pass;
use crate::shapes::{acc_dtype, ParamSpec, Planes};
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{CudaDevice, CudaStorage, DType, Result, Shape};

pub fn backward(
    x: View<CudaStorage>,
    extras: &Extras<View<CudaStorage>>,
    dy: View<CudaStorage>,
    spec: &NormSpec,
    wanted: &GradMask,
) -> Result<Gradients<CudaStorage>> {
    let (storage, _) = x;
    let (device, dtype, planes) = (storage.device(), storage.dtype(), &spec.planes);
    // Without an activation the gradient of v is dy, and with parameters per element a bias has it.
    let of_plane = |param: Option<ParamSpec>| param.filter(|p| !p.is_per_element());
    let wanted = GradMask {
        v: wanted.v && spec.activation != Activation::None,
        bias: of_plane(wanted.bias),
        ..*wanted
    };
    if planes.elements() == 0 {
        return empty(device, dtype, planes, &wanted);
    }
    let elements = |wanted: bool| {
        let new = || alloc(device, dtype, planes.elements());
        wanted.then(new).transpose()
    };
    let shares = |param: Option<ParamSpec>| {
        let new = |_| alloc(device, acc_dtype(dtype), planes.count());
        of_plane(param).map(new).transpose()
    };
    let mut dweights = elements(wanted.weight.is_some_and(|p| p.is_per_element()))?;
    let mut grads = Gradients {
        x: elements(wanted.x)?,
        weight: shares(wanted.weight)?,
        bias: shares(wanted.bias)?,
        v: elements(wanted.v)?,
        mean: shares(wanted.mean)?,
        rstd: shares(wanted.rstd)?,
    };
    let gpu = Gpu::of(storage)?;
    launch(&gpu, x, extras, dy, spec, &mut grads, &mut dweights)?;
    let [weight, bias, mean, rstd] = sum_params(
        &gpu,
        [
            grads.weight.zip(wanted.weight),
            grads.bias.zip(wanted.bias),
            grads.mean.zip(wanted.mean),
            grads.rstd.zip(wanted.rstd),
        ],
        planes,
    )?;
    Ok(Gradients {
        x: grads.x,
        weight: dweights.or(weight),
        bias,
        v: grads.v,
        mean,
        rstd,
    })
}

/// Fills what is there of the gradients per element and of every plane's shares of the others.
fn launch(
    gpu: &Gpu,
    x: View<CudaStorage>,
    extras: &Extras<View<CudaStorage>>,
    dy: View<CudaStorage>,
    spec: &NormSpec,
    grads: &mut Gradients<CudaStorage>,
    dweights: &mut Option<CudaStorage>,
) -> Result<()> {
    let mut tensors = Tensors::new(spec, gpu.dtype, &gpu.stream);
    let mut call = CallArg::new(spec);
    call.x = tensors.read(x)?;
    call.dy = tensors.read(dy)?;
    tensors.extras(&mut call, extras)?;
    let mut pointers = vec![];
    let Gradients {
        x,
        weight,
        bias,
        v,
        mean,
        rstd,
    } = grads;
    let mut address = |storage| pointer_to(storage, &gpu.stream, &mut pointers);
    let [dx, dv, dweights] = [address(x)?, address(v)?, address(dweights)?];
    call.shares = SharesArg {
        weight: address(weight)?,
        bias: address(bias)?,
        mean: address(mean)?,
        rstd: address(rstd)?,
    };
    [call.out, call.dv, call.dweights] = [dx, dv, dweights].map(|a| tensors.contiguous(a));

    let given = extras.stats.is_some();
    let plan = gpu.plan(Pass::Backward, spec, (&call, x.1), given)?;
    if plan.is_on_chip() {
        // SAFETY: x and dy hold the planes at their strides, as does whatever goes with their
        // elements, the parameters hold `period` numbers each, the gradients per element an element
        // for each of x, the others a number for each plane; the plan covers every plane.
        return unsafe { gpu.launch_on_chip(Pass::Backward, &plan, &call) };
    }
    let run = InParts::new(
        gpu,
        &call,
        plan,
        spec.planes.count(),
        spec.channels_per_group,
    )?;
    // What the forward pass made of an element: an activation needs it before anything is summed,
    // a weight per element (z, to be exact) when the gradients are written.
    let activation = spec.activation != Activation::None;
    let affines_first = activation || (given && dweights != 0);
    let affines_after = !affines_first && dweights != 0;
    let affines = match (affines_first, given) {
        (false, _) => None,
        (true, true) => run.affines(&None)?,
        (true, false) => run.affines(&run.measure(Pass::Forward, &None)?)?,
    };
    let sums = call.shares.any() || affines_after || (dx != 0 && !given);
    let parts = match sums {
        true => run.measure(Pass::Backward, &affines)?,
        false => None,
    };
    let [gradients, after] = match sums || dx != 0 {
        true => run.gradients(&parts, [dx != 0, affines_after])?,
        false => [None, None],
    };
    if dx != 0 || dv != 0 || dweights != 0 {
        run.write_gradients(&affines.or(after), &gradients)?;
    }
    Ok(())
}

/// Where a result goes, as long as `pointers` live; 0 for one that nobody wants.
fn pointer_to<'a>(
    storage: &'a mut Option<CudaStorage>,
    stream: &'a CudaStream,
    pointers: &mut Vec<Pointer<'a>>,
) -> Result<u64> {
    let Some(storage) = storage else { return Ok(0) };
    let pointer = write(storage, stream)?;
    let address = pointer.address;
    pointers.push(pointer);
    Ok(address)
}

/// No element, no gradient: x has none, and the parameters' are sums of nothing.
fn empty(
    device: &CudaDevice,
    dtype: DType,
    planes: &Planes,
    wanted: &GradMask,
) -> Result<Gradients<CudaStorage>> {
    let nothing = |wanted: bool| wanted.then(|| alloc(device, dtype, 0)).transpose();
    let zeros = |param: Option<ParamSpec>| {
        let zeros = |p: ParamSpec| {
            let shape = Shape::from(p.shape.period(planes));
            device.zeros_impl(&shape, p.dtype)
        };
        param.map(zeros).transpose()
    };
    Ok(Gradients {
        x: nothing(wanted.x)?,
        weight: match wanted.weight {
            Some(param) if param.is_per_element() => nothing(true)?,
            param => zeros(param)?,
        },
        bias: zeros(wanted.bias)?,
        v: nothing(wanted.v)?,
        mean: zeros(wanted.mean)?,
        rstd: zeros(wanted.rstd)?,
    })
}
