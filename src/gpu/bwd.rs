//! The gradients.

use super::Gpu;
use super::call::Call;
use super::launch::Slot;
use super::multi_pass::MultiPass;
use super::params::sum_params;
use crate::plan::Pass;
use crate::shapes::{ParamSpec, Planes, acc_dtype};
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
use candle_core::{DType, Result};

pub fn backward<G: Gpu>(
    gpu: &G,
    x: View<G::Storage>,
    extras: &Extras<View<G::Storage>>,
    dy: View<G::Storage>,
    spec: &NormSpec,
    wanted: &GradMask,
) -> Result<Gradients<G::Storage>> {
    let (dtype, planes) = (G::dtype(x.0), &spec.planes);
    G::check(dtype)?;
    let of_plane = |param: Option<ParamSpec>| param.filter(|p| !p.is_per_element());
    if planes.elements() == 0 {
        return empty(gpu, dtype, planes, wanted);
    }
    let elements = |wanted: bool| {
        let new = || gpu.alloc(dtype, planes.elements());
        wanted.then(new).transpose()
    };
    let shares = |param: Option<ParamSpec>| {
        let new = |_| gpu.alloc(acc_dtype(dtype), planes.count());
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
    {
        let mut call = Call::new(gpu, spec, x)?;
        call.dy(dy)?;
        call.extras(extras)?;
        call.result(Slot::Out, grads.x.as_mut());
        call.result(Slot::Dv, grads.v.as_mut());
        call.result(Slot::Dweights, dweights.as_mut());
        call.result(Slot::ShareWeight, grads.weight.as_mut());
        call.result(Slot::ShareBias, grads.bias.as_mut());
        call.result(Slot::ShareMean, grads.mean.as_mut());
        call.result(Slot::ShareRstd, grads.rstd.as_mut());
        launch(&mut call)?;
    }
    let shares = [
        grads.weight.zip(wanted.weight),
        grads.bias.zip(wanted.bias),
        grads.mean.zip(wanted.mean),
        grads.rstd.zip(wanted.rstd),
    ];
    let [weight, bias, mean, rstd] = sum_params(gpu, dtype, shares, planes)?;
    Ok(Gradients {
        x: grads.x,
        weight: dweights.or(weight),
        bias,
        v: grads.v,
        mean,
        rstd,
    })
}

/// Fills the results of the call: gradients per element, and the planes' shares of the others.
fn launch<G: Gpu>(call: &mut Call<G>) -> Result<()> {
    let (_, plan) = call.plan(Pass::Backward)?;
    if plan.is_on_chip() {
        // SAFETY: x, dy and the tensors of their size hold the planes at their strides, the
        // parameters `period` numbers each, the gradients per element an element for each of x, the
        // others a number for each plane; the plan covers every plane.
        return unsafe { call.launch_on_chip(Pass::Backward, &plan) };
    }
    let [dx, dv, dweights] = [Slot::Out, Slot::Dv, Slot::Dweights].map(|slot| call.has(slot));
    let given = call.has(Slot::Mean);
    // The coefficients of the forward pass recompute its elements: an activation needs those before
    // anything is summed, a weight per element (z, to be exact) when the gradients are written.
    let activation = call.spec.activation != Activation::None;
    let affines_first = activation || (given && dweights);
    let affines_after = !affines_first && dweights;
    let sums = call.has_shares() || affines_after || (dx && !given);
    let mut run = MultiPass::new(call, plan)?;
    let mut affines = None;
    if affines_first {
        let parts = if given {
            None
        } else {
            run.measure(Pass::Forward, &None)?
        };
        affines = run.affines(&parts)?;
    }
    let parts = if sums {
        run.measure(Pass::Backward, &affines)?
    } else {
        None
    };
    let [gradients, after] = if sums || dx {
        run.gradients(&parts, [dx, affines_after])?
    } else {
        [None, None]
    };
    if dx || dv || dweights {
        run.write_gradients(&affines.or(after), &gradients)?;
    }
    Ok(())
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
