//! The tiers of several passes: launches over the elements, chunk by chunk, and the one between them
//! that makes coefficients of what was measured.

use super::Gpu;
use super::call::Call;
use super::launch::{Bound, Slot};
use crate::plan::{Chunks, GpuPlan, Kernel, Pass, Phase, Tier};
use crate::shapes::acc_dtype;
use crate::tuning::{
    AFFINE_NUMBERS, COMOMENTS_NUMBERS, GRADIENT_NUMBERS, MOMENTS_NUMBERS, WARP, WARPS_PER_BLOCK,
};
use candle_core::{Result, bail};

/// A call that is computed in several passes.
pub struct MultiPass<'a, 'c, G: Gpu> {
    call: &'a mut Call<'c, G>,
    plan: GpuPlan,
    chunks: Chunks,
}

/// Memory that one launch fills for the next; `None` where a kernel needs none.
type Buffer<G> = Option<<G as Gpu>::Storage>;

impl<'a, 'c, G: Gpu> MultiPass<'a, 'c, G> {
    pub fn new(call: &'a mut Call<'c, G>, plan: GpuPlan) -> Result<Self> {
        let (Tier::Split(chunks) | Tier::Columns(chunks)) = plan.tier else {
            bail!("norm: expected a plan of several passes, got {plan:?}")
        };
        Ok(Self { call, plan, chunks })
    }

    /// Numbers of the type of sums, `each` a plane.
    fn per_plane(&self, each: usize) -> Result<G::Storage> {
        let planes = self.call.spec.planes.count();
        self.call
            .gpu
            .alloc(acc_dtype(self.call.dtype), planes * each)
    }

    /// The moments of every chunk: of x, or of x and the gradient, for which `affines` recompute the
    /// forward pass.
    pub fn measure(&mut self, pass: Pass, affines: &Buffer<G>) -> Result<Buffer<G>> {
        let numbers = match pass {
            Pass::Forward => MOMENTS_NUMBERS,
            Pass::Backward => COMOMENTS_NUMBERS,
        };
        let mut parts = self.per_plane(self.chunks.count * numbers)?;
        let buffers = [read(Slot::Affines, affines), write(Slot::Parts, &mut parts)];
        self.elements(pass, Phase::Measure, buffers)?;
        Ok(Some(parts))
    }

    /// The coefficients of the forward pass; without parts if statistics are given.
    pub fn affines(&mut self, parts: &Buffer<G>) -> Result<Buffer<G>> {
        let mut affines = self.per_plane(AFFINE_NUMBERS)?;
        let buffers = [read(Slot::Parts, parts), write(Slot::Affines, &mut affines)];
        self.groups(Kernel::Finish(Pass::Forward), self.chunks, buffers)?;
        Ok(Some(affines))
    }

    /// The coefficients of the backward pass and of the forward pass, each if `wanted`, and the
    /// planes' shares that the call wants.
    pub fn gradients(&mut self, parts: &Buffer<G>, wanted: [bool; 2]) -> Result<[Buffer<G>; 2]> {
        let numbers = |wanted: bool, each| wanted.then(|| self.per_plane(each)).transpose();
        let mut gradients = numbers(wanted[0], GRADIENT_NUMBERS)?;
        let mut affines = numbers(wanted[1], AFFINE_NUMBERS)?;
        // A lane for each part of a plane.
        let chunks = Chunks {
            team: self.chunks.count.next_power_of_two().min(WARP),
            ..self.chunks
        };
        let buffers = [
            read(Slot::Parts, parts),
            gradients.as_mut().and_then(|s| write(Slot::Gradients, s)),
            affines.as_mut().and_then(|s| write(Slot::Affines, s)),
        ];
        self.groups(Kernel::Finish(Pass::Backward), chunks, buffers)?;
        Ok([gradients, affines])
    }

    /// The mean and another statistic of every plane, which are the call's result.
    pub fn stats(&mut self, parts: &Buffer<G>) -> Result<()> {
        self.groups(Kernel::Stats, self.chunks, [read(Slot::Parts, parts)])
    }

    /// Maps the elements, by coefficients or, without those, by what was measured or is given.
    pub fn write(&mut self, affines: &Buffer<G>, parts: &Buffer<G>) -> Result<()> {
        let buffers = [read(Slot::Affines, affines), read(Slot::Parts, parts)];
        self.elements(Pass::Forward, Phase::Write, buffers)
    }

    pub fn write_gradients(&mut self, affines: &Buffer<G>, gradients: &Buffer<G>) -> Result<()> {
        let buffers = [
            read(Slot::Affines, affines),
            read(Slot::Gradients, gradients),
        ];
        self.elements(Pass::Backward, Phase::Write, buffers)
    }

    /// A launch over all elements.
    fn elements<const N: usize>(
        &mut self,
        pass: Pass,
        phase: Phase,
        buffers: [Option<Bound<G::Storage>>; N],
    ) -> Result<()> {
        let kernel = Kernel::of(self.plan.tier, pass, phase);
        let size = (self.plan.grid, self.plan.threads);
        self.launch(kernel, size, self.chunks, buffers)
    }

    /// A launch of a warp for each group of planes.
    fn groups<const N: usize>(
        &mut self,
        kernel: Kernel,
        chunks: Chunks,
        buffers: [Option<Bound<G::Storage>>; N],
    ) -> Result<()> {
        let groups = self.call.spec.planes.count() / self.call.spec.channels_per_group;
        let size = (groups.div_ceil(WARPS_PER_BLOCK), WARP * WARPS_PER_BLOCK);
        self.launch(kernel, (size.0 as u32, size.1 as u32), chunks, buffers)
    }

    fn launch<const N: usize>(
        &mut self,
        kernel: Kernel,
        size: (u32, u32),
        chunks: Chunks,
        buffers: [Option<Bound<G::Storage>>; N],
    ) -> Result<()> {
        let more = buffers.into_iter().flatten().collect();
        // SAFETY: the call's tensors hold `planes` planes at their strides, its parameters `period`
        // numbers each. The buffers are those of the methods above: so many numbers for each chunk of
        // the plan or for each plane, filled by earlier launches, or absent where the kernels expect
        // that. The plan covers every plane.
        unsafe { self.call.launch(kernel, size, chunks, more) }
    }
}

fn read<S>(slot: Slot, storage: &Option<S>) -> Option<Bound<'_, S>> {
    storage.as_ref().map(|storage| Bound::read(slot, storage))
}

fn write<S>(slot: Slot, storage: &mut S) -> Option<Bound<'_, S>> {
    Some(Bound::write(slot, storage))
}
