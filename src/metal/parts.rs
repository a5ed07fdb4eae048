//! The tiers that cut planes in parts: the launches over the elements, and the one between them that
//! makes coefficients of what was measured.

use super::call::Call;
use super::launch::{Bound, Gpu, Slot};
use crate::kernel_args::CutArg;
use crate::plan::{Cut, GpuPlan, Kernel, Pass, Step, Tier};
use crate::tuning::{WARP, WARPS_PER_BLOCK};
use candle_core::{bail, DType, Result};

/// Numbers of a `Moments` in moments.metal: n, the two halves of the mean, m2.
const MOMENTS: usize = 4;
/// Numbers of a `CoMoments`: those of x, the two halves of the mean of g, cross.
const COMOMENTS: usize = 8;
/// Numbers of an `Affine` in rule.metal, with what fills it up to a whole vector.
const AFFINE: usize = 4;
/// Numbers of a `Gradient`, likewise.
const GRADIENT: usize = 8;

/// A call that is computed in parts.
pub struct InParts<'a, G: Gpu> {
    call: &'a Call<'a, G>,
    plan: GpuPlan,
    cut: Cut,
}

/// What lies on the device between launches, where there is something.
type Buffer<G> = Option<<G as Gpu>::Storage>;

impl<'a, G: Gpu> InParts<'a, G> {
    pub fn new(call: &'a Call<'a, G>, plan: GpuPlan) -> Result<Self> {
        let (Tier::Split(cut) | Tier::Columns(cut)) = plan.tier else {
            bail!("norm: expected a plan in parts, got {plan:?}")
        };
        Ok(Self { call, plan, cut })
    }

    /// Numbers in which sums are kept, `each` a plane.
    fn per_plane(&self, each: usize) -> Result<G::Storage> {
        let planes = self.call.spec.planes.count();
        self.call.gpu.alloc(DType::F32, planes * each)
    }

    /// The moments of every part: of x, or of x and the gradient, for which `affines` recompute the
    /// forward pass.
    pub fn measure(&self, pass: Pass, affines: &Buffer<G>) -> Result<Buffer<G>> {
        let numbers = match pass {
            Pass::Forward => MOMENTS,
            Pass::Backward => COMOMENTS,
        };
        let parts = self.per_plane(self.cut.chunks * numbers)?;
        let buffers = [read(Slot::Affines, affines), written(Slot::Parts, &parts)];
        self.elements(pass, Step::Measure, buffers)?;
        Ok(Some(parts))
    }

    /// The coefficients of the forward pass; without parts where statistics are given.
    pub fn affines(&self, parts: &Buffer<G>) -> Result<Buffer<G>> {
        let affines = self.per_plane(AFFINE)?;
        let buffers = [read(Slot::Parts, parts), written(Slot::Affines, &affines)];
        self.sets(Kernel::Finish(Pass::Forward), self.cut, buffers)?;
        Ok(Some(affines))
    }

    /// The coefficients of the backward pass, where they are `wanted`, those of the forward pass
    /// likewise, and the planes' shares of what the call wants.
    pub fn gradients(&self, parts: &Buffer<G>, wanted: [bool; 2]) -> Result<[Buffer<G>; 2]> {
        let numbers = |wanted: bool, each| wanted.then(|| self.per_plane(each)).transpose();
        let gradients = numbers(wanted[0], GRADIENT)?;
        let affines = numbers(wanted[1], AFFINE)?;
        // As many lanes for a plane as it has parts.
        let cut = Cut {
            team: self.cut.chunks.next_power_of_two().min(WARP),
            ..self.cut
        };
        let buffers = [
            read(Slot::Parts, parts),
            gradients.as_ref().and_then(|s| written(Slot::Gradients, s)),
            affines.as_ref().and_then(|s| written(Slot::Affines, s)),
        ];
        self.sets(Kernel::Finish(Pass::Backward), cut, buffers)?;
        Ok([gradients, affines])
    }

    /// The mean and another statistic of every plane, which are the call's result.
    pub fn stats(&self, parts: &Buffer<G>) -> Result<()> {
        self.sets(Kernel::Stats, self.cut, [read(Slot::Parts, parts)])
    }

    pub fn write(&self, affines: &Buffer<G>) -> Result<()> {
        self.elements(Pass::Forward, Step::Write, [read(Slot::Affines, affines)])
    }

    pub fn write_gradients(&self, affines: &Buffer<G>, gradients: &Buffer<G>) -> Result<()> {
        let buffers = [
            read(Slot::Affines, affines),
            read(Slot::Gradients, gradients),
        ];
        self.elements(Pass::Backward, Step::Write, buffers)
    }

    /// A launch over all elements.
    fn elements<const N: usize>(
        &self,
        pass: Pass,
        step: Step,
        buffers: [Maybe<G>; N],
    ) -> Result<()> {
        let kernel = Kernel::of(self.plan.tier, pass, step);
        self.launch(
            kernel,
            (self.plan.grid, self.plan.threads),
            self.cut,
            buffers,
        )
    }

    /// A launch of a simdgroup for each set of planes.
    fn sets<const N: usize>(&self, kernel: Kernel, cut: Cut, buffers: [Maybe<G>; N]) -> Result<()> {
        let sets = self.call.spec.planes.count() / self.call.spec.channels_per_group;
        let size = (sets.div_ceil(WARPS_PER_BLOCK), WARP * WARPS_PER_BLOCK);
        self.launch(kernel, (size.0 as u32, size.1 as u32), cut, buffers)
    }

    fn launch<const N: usize>(
        &self,
        kernel: Kernel,
        size: (u32, u32),
        cut: Cut,
        buffers: [Maybe<G>; N],
    ) -> Result<()> {
        let more: Vec<_> = buffers.into_iter().flatten().collect();
        let launch = self.call.launch(kernel, size, CutArg::new(cut), &more);
        // SAFETY: the call's tensors hold `planes` planes at their strides, its parameters `period`
        // numbers each. The others are those of the methods above: so many numbers for each part of
        // the plan or for each plane, filled by earlier launches, or absent where the kernels expect
        // that. The plan covers every plane.
        unsafe { self.call.gpu.launch(&launch) }
    }
}

/// A buffer of a launch, where it has it.
type Maybe<'a, G> = Option<Bound<'a, <G as Gpu>::Storage>>;

fn read<S>(slot: Slot, storage: &Option<S>) -> Option<Bound<'_, S>> {
    storage.as_ref().map(|storage| Bound {
        slot,
        storage,
        written: false,
    })
}

fn written<S>(slot: Slot, storage: &S) -> Option<Bound<'_, S>> {
    Some(Bound {
        slot,
        storage,
        written: true,
    })
}
