//! The forward pass, and the statistics alone.

use super::call::Call;
use super::launch::{Gpu, Slot};
use super::module::element;
use super::parts::InParts;
use crate::kernel_args::CutArg;
use crate::plan::{GpuPlan, Kernel, Pass, Step};
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use candle_core::{DType, Layout, Result};

pub fn forward<G: Gpu>(
    gpu: &G,
    x: View<G::Storage>,
    extras: &Extras<View<G::Storage>>,
    spec: &NormSpec,
) -> Result<G::Storage> {
    let dtype = G::dtype(x.0);
    element(dtype)?;
    let output = gpu.alloc(dtype, spec.planes.elements())?;
    if spec.planes.elements() == 0 {
        return Ok(output);
    }
    {
        let mut call = Call::new(gpu, spec, x)?;
        call.extras(extras)?;
        call.result(Slot::Out, Some(&output));
        launch(&call)?;
    }
    Ok(output)
}

/// As [`forward`], into `x` itself. The kernels read an element in the thread that writes it, and
/// measure a plane before they write any of it.
pub fn forward_in_place<G: Gpu>(
    gpu: &G,
    x: &mut G::Storage,
    layout: &Layout,
    extras: &Extras<View<G::Storage>>,
    spec: &NormSpec,
) -> Result<()> {
    element(G::dtype(x))?;
    if spec.planes.elements() == 0 {
        return Ok(());
    }
    let mut call = Call::new(gpu, spec, (x, layout))?;
    call.extras(extras)?;
    call.out_is_x();
    launch(&call)
}

fn launch<G: Gpu>(call: &Call<G>) -> Result<()> {
    let plan = GpuPlan::new(&call.job(Pass::Forward), call.gpu.caps())?;
    if plan.is_on_chip() {
        let kernel = Kernel::of(plan.tier, Pass::Forward, Step::Write);
        let size = (plan.grid, plan.threads);
        let launch = call.launch(kernel, size, CutArg::default(), &[]);
        // SAFETY: x holds the planes at their strides, as does whatever goes with its elements, the
        // parameters hold `period` numbers each, the output an element for each of x; the plan
        // covers every plane.
        return unsafe { call.gpu.launch(&launch) };
    }
    let run = InParts::new(call, plan)?;
    let parts = match call.has(Slot::Mean) {
        true => None,
        false => run.measure(Pass::Forward, &None)?,
    };
    run.write(&run.affines(&parts)?)
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats<G: Gpu>(
    gpu: &G,
    x: View<G::Storage>,
    spec: &NormSpec,
    stat: ScaleStat,
) -> Result<G::Storage> {
    element(G::dtype(x.0))?;
    let planes = spec.planes.count();
    let output = gpu.alloc(DType::F32, 2 * planes)?;
    if planes == 0 {
        return Ok(output);
    }
    {
        let mut call = Call::new(gpu, spec, x)?;
        call.set_stat(stat);
        call.result(Slot::Out, Some(&output));
        let plan = GpuPlan::in_parts(&call.job(Pass::Forward), gpu.caps())?;
        let run = InParts::new(&call, plan)?;
        run.stats(&run.measure(Pass::Forward, &None)?)?;
    }
    Ok(output)
}
