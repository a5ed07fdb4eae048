//! The forward pass, and the statistics alone.

use super::Gpu;
use super::call::Call;
use super::launch::Slot;
use super::multi_pass;
use crate::plan::Pass;
use crate::shapes::acc_dtype;
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use candle_core::{Layout, Result};

pub fn forward<G: Gpu>(
    gpu: &G,
    x: View<G::Storage>,
    extras: &Extras<View<G::Storage>>,
    spec: &NormSpec,
) -> Result<G::Storage> {
    let dtype = G::dtype(x.0);
    G::check(dtype)?;
    let mut output = gpu.alloc(dtype, spec.planes.elements())?;
    if spec.planes.elements() > 0 {
        let mut call = Call::new(gpu, spec, x)?;
        call.extras(extras)?;
        call.result(Slot::Out, Some(&mut output));
        launch(&mut call)?;
    }
    Ok(output)
}

/// [`forward`] into `x` itself. The kernels read an element in the thread that writes it, and
/// measure a plane before they write any of it.
pub fn forward_in_place<G: Gpu>(
    gpu: &G,
    x: &mut G::Storage,
    layout: &Layout,
    extras: &Extras<View<G::Storage>>,
    spec: &NormSpec,
) -> Result<()> {
    G::check(G::dtype(x))?;
    if spec.planes.elements() == 0 {
        return Ok(());
    }
    let mut call = Call::in_place(gpu, spec, x, layout)?;
    call.extras(extras)?;
    launch(&mut call)
}

fn launch<G: Gpu>(call: &mut Call<G>) -> Result<()> {
    let (job, plan) = call.plan(Pass::Forward)?;
    if plan.is_on_chip() {
        // SAFETY: x and the tensors of its size hold the planes at their strides, the parameters
        // `period` numbers each, the output an element for each of x; the plan covers every plane.
        return unsafe { call.launch_on_chip(Pass::Forward, &plan) };
    }
    let merges = plan.merges_as_it_writes(&job);
    let steps = multi_pass::forward(plan.tier, job.given, merges);
    multi_pass::run(call, &plan, &steps)
}

/// The mean of every plane, then the other statistic of every plane.
pub fn stats<G: Gpu>(
    gpu: &G,
    x: View<G::Storage>,
    spec: &NormSpec,
    stat: ScaleStat,
) -> Result<G::Storage> {
    let dtype = G::dtype(x.0);
    G::check(dtype)?;
    let planes = spec.planes.count();
    let mut output = gpu.alloc(acc_dtype(dtype), 2 * planes)?;
    if planes == 0 {
        return Ok(output);
    }
    {
        let mut call = Call::new(gpu, spec, x)?;
        call.scale_stat(stat);
        let (_, plan) = call.plan(Pass::Forward)?;
        if plan.is_on_chip() {
            call.stats_on_chip(&mut output);
            // SAFETY: x holds the planes at their strides, each half of the output a number for
            // each plane; the plan covers every plane.
            unsafe { call.launch_on_chip(Pass::Forward, &plan) }?;
        } else {
            call.result(Slot::Out, Some(&mut output));
            multi_pass::run(&mut call, &plan, &multi_pass::stats(plan.tier))?;
        }
    }
    Ok(output)
}
