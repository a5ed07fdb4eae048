//! AdaIN in one launch.

use super::Gpu;
use super::abi;
use super::call::Call;
use super::launch::{Arg, Bound, Launch, Size, Slot};
use super::workspace::Workspace;
use crate::plan::{self, GpuPlan, Job, Kernel, Pass};
use crate::shapes::{Format, Planes};
use crate::spec::{NormSpec, ScaleStat, View};
use candle_core::Result;

/// AdaIN in one launch, if planes of the content and of the style stay on chip together: the content with the
/// mean and the other statistic of the style as bias and weight.
pub fn adain<G: Gpu>(
    gpu: &G,
    content: View<G::Storage>,
    spec: &NormSpec,
    style: View<G::Storage>,
    of_style: &NormSpec,
    stat: ScaleStat,
) -> Result<Option<G::Storage>> {
    let dtype = G::dtype(content.0);
    G::check(dtype)?;
    if spec.planes.elements() == 0 || of_style.planes.elements() == 0 {
        return Ok(None);
    }
    let mut call = Call::new(gpu, spec, content)?;
    let mut style = Call::new(gpu, of_style, style)?;
    style.scale_stat(stat);
    let Some((kernel, plan)) = call.adain(&mut style)? else {
        return Ok(None);
    };
    let mut output = gpu.alloc(dtype, spec.planes.elements())?;
    {
        let mut call = call;
        call.result(Slot::Out, Some(&mut output));
        // SAFETY: both tensors hold their planes at their strides, the style as many as the content or
        // one for each channel, the output an element for each of the content.
        unsafe { call.launch_adain(style, kernel, &plan) }?;
    }
    Ok(Some(output))
}

impl<'a, G: Gpu> Call<'a, G> {
    /// The kernel that computes AdaIN with the statistics of `style`, and its plan, if both stay on chip.
    pub fn adain(&mut self, style: &mut Self) -> Result<Option<(Kernel, GpuPlan)>> {
        // Two tensors to keep, as in the backward pass.
        let (content, style) = (self.job(Pass::Backward), style.job(Pass::Backward));
        let formats = [content.format, style.format];
        if !self.gpu.caps().every_kernel || formats != [Format::Planar; 2] {
            return Ok(None);
        }
        let job = Job {
            planes: Planes {
                spatial: content.planes.spatial.max(style.planes.spatial),
                ..content.planes
            },
            aligned: content.aligned && style.aligned,
            plain: false,
            ..content
        };
        let plan = GpuPlan::new(&job, self.gpu.caps())?;
        plan::tell(&job, &plan);
        Ok(Kernel::adain(plan.tier).map(|kernel| (kernel, plan)))
    }

    /// Runs the kernel and the plan of [`adain`](Self::adain).
    ///
    /// # Safety
    ///
    /// Both calls are those of the plan, and have no tensors but their x and the result of this one.
    pub unsafe fn launch_adain(
        mut self,
        style: Self,
        kernel: Kernel,
        plan: &GpuPlan,
    ) -> Result<()> {
        let mut buffers: Vec<_> = self.bound.iter_mut().map(Bound::reborrow).collect();
        let of_style = style.bound.into_iter().map(|bound| Bound {
            slots: Slot::Style.bit(),
            ..bound
        });
        buffers.extend(of_style);
        let launch = Launch {
            kernel,
            plain: true,
            dtype: self.dtype,
            size: Size::of(plan),
            arg: Arg::AdaIn([self.arg, style.arg]),
            chunks: abi::ChunksArg::default(),
            buffers,
            workspace: Workspace::default(),
        };
        // SAFETY: promised by the caller; the result alone is bound to be written.
        unsafe { self.gpu.launch(launch) }
    }
}
