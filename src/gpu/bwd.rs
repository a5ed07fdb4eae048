//! The gradients.

use super::Gpu;
use super::call::Call;
use super::launch::{SHARES, Slot};
use super::multi_pass::{self, Asked};
use super::params::{ParamGrad, sum_params};
use crate::plan::Pass;
use crate::shapes::{ParamSpec, Planes};
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
    if planes.elements() == 0 {
        return empty(gpu, dtype, planes, wanted);
    }
    let elements = |wanted: bool| {
        let new = || gpu.alloc(dtype, planes.elements());
        wanted.then(new).transpose()
    };
    let mut dx = elements(wanted.x)?;
    let mut dv = elements(wanted.v)?;
    let mut dweights = elements(wanted.weight.is_some_and(|p| p.is_per_element()))?;
    let params = [wanted.weight, wanted.bias, wanted.mean, wanted.rstd];
    let new = |param: Option<ParamSpec>| {
        let of_plane = param.filter(|p| !p.is_per_element());
        of_plane.map(|p| ParamGrad::new(gpu, p, planes)).transpose()
    };
    let [weight, bias, mean, rstd] = params.map(new);
    let mut params = [weight?, bias?, mean?, rstd?];
    let mut call = Call::new(gpu, spec, x)?;
    call.dy(dy)?;
    call.extras(extras)?;
    call.result(Slot::Out, dx.as_mut());
    call.result(Slot::Dv, dv.as_mut());
    call.result(Slot::Dweights, dweights.as_mut());
    let mut sums = vec![];
    for (slot, param) in SHARES.into_iter().zip(&mut params) {
        let Some(param) = param else { continue };
        if param.is_shares(dtype, planes) {
            call.result(slot, Some(&mut param.storage));
        } else {
            call.reserve(slot, planes.count());
            sums.push((slot, param));
        }
    }
    launch(&mut call)?;
    let (workspace, shares) = call.into_workspace();
    if let Some(shares) = shares {
        sum_params(gpu, dtype, (workspace, &shares), sums, planes)?;
    }
    let [weight, bias, mean, rstd] = params.map(|param| param.map(|param| param.storage));
    Ok(Gradients {
        x: dx,
        weight: dweights.or(weight),
        bias,
        v: dv,
        mean,
        rstd,
    })
}

/// Fills the results of the call: gradients per element, and the planes' shares of the others.
fn launch<G: Gpu>(call: &mut Call<G>) -> Result<()> {
    let (job, plan) = call.plan(Pass::Backward)?;
    if plan.is_on_chip() {
        // SAFETY: x, dy and the tensors of their size hold the planes at their strides, the
        // parameters `period` numbers each, the gradients per element an element for each of x, the
        // others a number for each plane; the plan covers every plane.
        return unsafe { call.launch_on_chip(Pass::Backward, &plan) };
    }
    let asked = Asked {
        given: job.given,
        activation: call.spec.activation != Activation::None,
        dx: call.has(Slot::Out),
        dv: call.has(Slot::Dv),
        dweights: call.has(Slot::Dweights),
        shares: call.has_shares(),
    };
    multi_pass::run(call, &plan, &multi_pass::backward(plan.tier, asked))
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
