//! The gradients.

use super::call::{Arg, Call, SumArg};
use super::launch::{Bound, Gpu, Launch, Slot};
use super::module::element;
use super::parts::InParts;
use crate::kernel_args::{is_f32_beside, CutArg};
use crate::plan::{GpuPlan, Kernel, Pass, Step};
use crate::shapes::{ParamSpec, Planes};
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
use crate::tuning::PARAM_THREADS;
use candle_core::{DType, Result};

/// The most numbers of a parameter that a threadgroup sums side by side: 32 bytes of f32, a sector.
const PARAM_COLUMNS: usize = 8;

pub fn backward<G: Gpu>(
    gpu: &G,
    x: View<G::Storage>,
    extras: &Extras<View<G::Storage>>,
    dy: View<G::Storage>,
    spec: &NormSpec,
    wanted: &GradMask,
) -> Result<Gradients<G::Storage>> {
    let (dtype, planes) = (G::dtype(x.0), &spec.planes);
    element(dtype)?;
    // Without an activation the gradient of v is dy, and with parameters per element a bias has it.
    let of_plane = |param: Option<ParamSpec>| param.filter(|p| !p.is_per_element());
    let wanted = GradMask {
        v: wanted.v && spec.activation != Activation::None,
        bias: of_plane(wanted.bias),
        ..*wanted
    };
    if planes.elements() == 0 {
        return empty(gpu, dtype, planes, &wanted);
    }
    let elements = |wanted: bool| {
        let new = || gpu.alloc(dtype, planes.elements());
        wanted.then(new).transpose()
    };
    let shares = |param: Option<ParamSpec>| {
        let new = |_| gpu.alloc(DType::F32, planes.count());
        of_plane(param).map(new).transpose()
    };
    let dweights = elements(wanted.weight.is_some_and(|p| p.is_per_element()))?;
    let grads = Gradients {
        x: elements(wanted.x)?,
        weight: shares(wanted.weight)?,
        bias: shares(wanted.bias)?,
        v: elements(wanted.v)?,
        mean: shares(wanted.mean)?,
        rstd: shares(wanted.rstd)?,
    };
    {
        let mut call = Call::new(gpu, spec, x)?;
        call.dy(dy)?;
        call.extras(extras)?;
        call.result(Slot::Out, grads.x.as_ref());
        call.result(Slot::Dv, grads.v.as_ref());
        call.result(Slot::Dweights, dweights.as_ref());
        call.result(Slot::ShareWeight, grads.weight.as_ref());
        call.result(Slot::ShareBias, grads.bias.as_ref());
        call.result(Slot::ShareMean, grads.mean.as_ref());
        call.result(Slot::ShareRstd, grads.rstd.as_ref());
        launch(&call)?;
    }
    let finish = |shares: Option<G::Storage>, param: Option<ParamSpec>| match (shares, param) {
        (Some(shares), Some(param)) => sum_params(gpu, dtype, shares, param, planes).map(Some),
        _ => Ok(None),
    };
    Ok(Gradients {
        x: grads.x,
        weight: match dweights {
            Some(dweights) => Some(dweights),
            None => finish(grads.weight, wanted.weight)?,
        },
        bias: finish(grads.bias, wanted.bias)?,
        v: grads.v,
        mean: finish(grads.mean, wanted.mean)?,
        rstd: finish(grads.rstd, wanted.rstd)?,
    })
}

/// Fills what the call has of the gradients per element and of every plane's shares of the others.
fn launch<G: Gpu>(call: &Call<G>) -> Result<()> {
    let plan = GpuPlan::new(&call.job(Pass::Backward), call.gpu.caps())?;
    if plan.is_on_chip() {
        let kernel = Kernel::of(plan.tier, Pass::Backward, Step::Write);
        let size = (plan.grid, plan.threads);
        let launch = call.launch(kernel, size, CutArg::default(), &[]);
        // SAFETY: x and dy hold the planes at their strides, as does whatever goes with their
        // elements, the parameters hold `period` numbers each, the gradients per element an element
        // for each of x, the others a number for each plane; the plan covers every plane.
        return unsafe { call.gpu.launch(&launch) };
    }
    let run = InParts::new(call, plan)?;
    let [dx, dv, dweights] = [Slot::Out, Slot::Dv, Slot::Dweights].map(|slot| call.has(slot));
    let given = call.has(Slot::Mean);
    // What the forward pass made of an element: an activation needs it before anything is summed,
    // a weight per element (z, to be exact) when the gradients are written.
    let activation = call.spec.activation != Activation::None;
    let affines_first = activation || (given && dweights);
    let affines_after = !affines_first && dweights;
    let affines = match (affines_first, given) {
        (false, _) => None,
        (true, true) => run.affines(&None)?,
        (true, false) => run.affines(&run.measure(Pass::Forward, &None)?)?,
    };
    let sums = call.has_shares() || affines_after || (dx && !given);
    let parts = match sums {
        true => run.measure(Pass::Backward, &affines)?,
        false => None,
    };
    let [gradients, after] = match sums || dx {
        true => run.gradients(&parts, [dx, affines_after])?,
        false => [None, None],
    };
    if dx || dv || dweights {
        run.write_gradients(&affines.or(after), &gradients)?;
    }
    Ok(())
}

/// The gradient of a parameter from the planes' shares, summed over N where samples share it.
fn sum_params<G: Gpu>(
    gpu: &G,
    dtype: DType,
    shares: G::Storage,
    param: ParamSpec,
    planes: &Planes,
) -> Result<G::Storage> {
    let period = param.shape.period(planes);
    if period == planes.count() && param.dtype == DType::F32 {
        return Ok(shares);
    }
    let out = gpu.alloc(param.dtype, period)?;
    let columns = period.next_power_of_two().min(PARAM_COLUMNS);
    let bound = |slot, storage, written| Bound {
        slot,
        storage,
        written,
    };
    let launch = Launch {
        kernel: Kernel::SumParams,
        dtype,
        grid: period.div_ceil(columns) as u32,
        threads: PARAM_THREADS as u32,
        arg: Arg::Sum(SumArg {
            n: (planes.count() / period) as i32,
            c: period as i32,
            columns: columns as i32,
            is_f32: is_f32_beside(dtype, param.dtype),
        }),
        cut: CutArg::default(),
        buffers: vec![
            bound(Slot::Parts, &shares, false),
            bound(Slot::Out, &out, true),
        ],
    };
    // SAFETY: `shares` holds n * c numbers and `out` c of the parameter's dtype.
    unsafe { gpu.launch(&launch)? }
    drop(launch);
    Ok(out)
}

/// No element, no gradient: x has none, and the parameters' are sums of nothing.
fn empty<G: Gpu>(
    gpu: &G,
    dtype: DType,
    planes: &Planes,
    wanted: &GradMask,
) -> Result<Gradients<G::Storage>> {
    let nothing = |wanted: bool| wanted.then(|| gpu.alloc(dtype, 0)).transpose();
    let zeros = |param: Option<ParamSpec>| {
        let zeros = |p: ParamSpec| gpu.zeros(p.dtype, p.shape.period(planes));
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
