//! The tiers that cut planes in parts: the launches over the elements, and the one between them that
//! makes coefficients of what was measured.

use super::call::CallArg;
use super::launch::{Arg, Gpu};
use super::memory::{alloc, read, write};
use crate::kernel_args::CutArg;
use crate::plan::{Cut, GpuPlan, Kernel, Pass, Step, Tier};
use crate::shapes::acc_dtype;
use crate::tuning::{WARP, WARPS_PER_BLOCK};
use candle_core::{bail, CudaStorage, Result};

/// Numbers of a `Moments` in moments.cuh: n, the two halves of the mean, m2.
const MOMENTS: usize = 4;
/// Numbers of a `CoMoments`: those of x, the two halves of the mean of g, cross.
const COMOMENTS: usize = 8;
/// Numbers of an `Affine` in rule.cuh.
const AFFINE: usize = 4;
/// Numbers of a `Gradient`.
const GRADIENT: usize = 8;

/// A call that is computed in parts.
pub struct InParts<'a> {
    gpu: &'a Gpu<'a>,
    call: &'a CallArg,
    plan: GpuPlan,
    cut: Cut,
    planes: usize,
    /// Planes that share their statistics.
    group: usize,
}

/// What lies on the device between launches, or nothing, which the kernels see as null.
type Buffer = Option<CudaStorage>;

impl<'a> InParts<'a> {
    pub fn new(
        gpu: &'a Gpu<'a>,
        call: &'a CallArg,
        plan: GpuPlan,
        planes: usize,
        group: usize,
    ) -> Result<Self> {
        let (Tier::Split(cut) | Tier::Columns(cut)) = plan.tier else {
            bail!("norm: expected a plan in parts, got {plan:?}")
        };
        Ok(Self {
            gpu,
            call,
            plan,
            cut,
            planes,
            group,
        })
    }

    /// Numbers in which sums are kept, `each` a plane.
    pub fn per_plane(&self, each: usize) -> Result<CudaStorage> {
        alloc(
            self.gpu.device,
            acc_dtype(self.gpu.dtype),
            self.planes * each,
        )
    }

    fn address(&self, buffer: &Buffer) -> Result<u64> {
        let pointer = buffer.as_ref().map(|s| read(s, &self.gpu.stream));
        Ok(pointer.transpose()?.map_or(0, |p| p.address))
    }

    /// The moments of every part: of x, or of x and the gradient, for which `affines` recompute the
    /// forward pass.
    pub fn measure(&self, pass: Pass, affines: &Buffer) -> Result<Buffer> {
        let numbers = match pass {
            Pass::Forward => MOMENTS,
            Pass::Backward => COMOMENTS,
        };
        let mut parts = self.per_plane(self.cut.chunks * numbers)?;
        {
            let parts = &write(&mut parts, &self.gpu.stream)?.address;
            let affines = &self.address(affines)?;
            match pass {
                Pass::Forward => self.elements(pass, Step::Measure, &[parts])?,
                Pass::Backward => self.elements(pass, Step::Measure, &[affines, parts])?,
            }
        }
        Ok(Some(parts))
    }

    /// The coefficients of the forward pass; without parts where statistics are given.
    pub fn affines(&self, parts: &Buffer) -> Result<Buffer> {
        let mut affines = self.per_plane(AFFINE)?;
        {
            let parts = &self.address(parts)?;
            let affines = &write(&mut affines, &self.gpu.stream)?.address;
            self.sets(Kernel::Finish(Pass::Forward), self.cut, &[parts, affines])?;
        }
        Ok(Some(affines))
    }

    /// The coefficients of the backward pass, where they are `wanted`, those of the forward pass
    /// likewise, and the planes' shares of what the call wants.
    pub fn gradients(&self, parts: &Buffer, wanted: [bool; 2]) -> Result<[Buffer; 2]> {
        let [mut gradients, mut affines] = [GRADIENT, AFFINE].map(|_| None);
        if wanted[0] {
            gradients = Some(self.per_plane(GRADIENT)?);
        }
        if wanted[1] {
            affines = Some(self.per_plane(AFFINE)?);
        }
        // As many lanes for a plane as it has parts.
        let cut = Cut {
            team: self.cut.chunks.next_power_of_two().min(WARP),
            ..self.cut
        };
        let [to, and] = [self.address(&gradients)?, self.address(&affines)?];
        let args: &[Arg] = &[&self.address(parts)?, &to, &and];
        self.sets(Kernel::Finish(Pass::Backward), cut, args)?;
        Ok([gradients, affines])
    }

    /// The mean and another statistic of every plane.
    pub fn stats(&self, parts: &Buffer, out: &mut CudaStorage) -> Result<()> {
        let parts = &self.address(parts)?;
        let out = &write(out, &self.gpu.stream)?.address;
        self.sets(Kernel::Stats, self.cut, &[parts, out])
    }

    pub fn write(&self, affines: &Buffer) -> Result<()> {
        let affines = &self.address(affines)?;
        self.elements(Pass::Forward, Step::Write, &[affines])
    }

    pub fn write_gradients(&self, affines: &Buffer, gradients: &Buffer) -> Result<()> {
        let args: &[Arg] = &[&self.address(affines)?, &self.address(gradients)?];
        self.elements(Pass::Backward, Step::Write, args)
    }

    /// A launch over all elements.
    fn elements(&self, pass: Pass, step: Step, args: &[Arg]) -> Result<()> {
        let kernel = Kernel::of(self.plan.tier, pass, step);
        let size = (self.plan.grid, self.plan.threads);
        self.launch(kernel, size, self.cut, args)
    }

    /// A launch of a warp for each set of planes.
    fn sets(&self, kernel: Kernel, cut: Cut, args: &[Arg]) -> Result<()> {
        let sets = self.planes / self.group;
        let size = (sets.div_ceil(WARPS_PER_BLOCK), WARP * WARPS_PER_BLOCK);
        self.launch(kernel, (size.0 as u32, size.1 as u32), cut, args)
    }

    fn launch(&self, kernel: Kernel, size: (u32, u32), cut: Cut, args: &[Arg]) -> Result<()> {
        let cut = CutArg::new(cut);
        let first: [Arg; 2] = [self.call, &cut];
        let args: Vec<Arg> = first.into_iter().chain(args.iter().copied()).collect();
        // SAFETY: the call's tensors hold `planes` planes at their strides, its parameters `period`
        // numbers each. The buffers are those of the methods above: so many numbers for each part
        // of the plan or for each plane, filled by earlier launches on this stream, or null where
        // the kernels expect that. The plan covers every plane.
        unsafe { self.gpu.launch(kernel, self.call.is_plain(), size, &args) }
    }
}
