//! A call: the inputs and results of an op as the kernels take them.

use super::launch::{Access, Arg, Bound, Launch, SHARES, Size, Slot};
use super::workspace::Workspace;
use super::{Gpu, abi};
use crate::plan::{self, GpuPlan, Job, Kernel, Pass, Tier};
use crate::shapes::{Format, PlaneLayout, acc_dtype, adjacent};
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use crate::tuning::VECTOR_BYTES;
use candle_core::{DType, Layout, Result};

/// The argument that all launches of a call share, and the tensors that go with it.
pub struct Call<'a, G: Gpu> {
    pub gpu: &'a G,
    pub spec: &'a NormSpec,
    /// The dtype of x.
    pub dtype: DType,
    pub arg: abi::CallArg<G::Real>,
    pub bound: Vec<Bound<'a, G::Storage>>,
    workspace: Workspace,
    /// The workspace's numbers, as soon as they are allocated.
    storage: Option<G::Storage>,
    aligned: bool,
}

impl<'a, G: Gpu> Call<'a, G> {
    /// A call with this x.
    pub fn new(gpu: &'a G, spec: &'a NormSpec, (x, layout): View<'a, G::Storage>) -> Result<Self> {
        let mut call = Self::of_layout(gpu, spec, x, layout)?;
        call.bound.push(Bound::read(Slot::X, x));
        Ok(call)
    }

    /// A call that overwrites x.
    pub fn in_place(
        gpu: &'a G,
        spec: &'a NormSpec,
        x: &'a mut G::Storage,
        layout: &Layout,
    ) -> Result<Self> {
        let mut call = Self::of_layout(gpu, spec, x, layout)?;
        call.arg.out = call.arg.x;
        call.bound.push(Bound {
            slots: Slot::X.bit() | Slot::Out.bit(),
            storage: Access::Write(x),
        });
        Ok(call)
    }

    fn of_layout(gpu: &'a G, spec: &'a NormSpec, x: &G::Storage, layout: &Layout) -> Result<Self> {
        let dtype = G::dtype(x);
        let mut call = Self {
            gpu,
            spec,
            dtype,
            arg: abi::CallArg::new(spec),
            bound: vec![],
            workspace: Workspace::default(),
            storage: None,
            aligned: is_aligned(layout, gpu.misalignment(x)?, dtype),
        };
        call.arg.x = call.tensor(layout)?;
        Ok(call)
    }

    /// The gradient of the output.
    pub fn dy(&mut self, (storage, layout): View<'a, G::Storage>) -> Result<()> {
        self.arg.dy = self.tensor(layout)?;
        self.bound.push(Bound::read(Slot::Dy, storage));
        Ok(())
    }

    /// The optional inputs.
    pub fn extras(&mut self, extras: &Extras<View<'a, G::Storage>>) -> Result<()> {
        if let Some((storage, layout)) = extras.weight {
            if self.spec.is_per_element(layout) {
                self.arg.weights = self.tensor(layout)?;
                self.bound.push(Bound::read(Slot::Weights, storage));
            } else {
                self.arg.weight = self.param(Slot::Weight, (storage, layout));
            }
        }
        if let Some((storage, layout)) = extras.bias {
            if self.spec.is_per_element(layout) {
                self.arg.biases = self.tensor(layout)?;
                self.bound.push(Bound::read(Slot::Biases, storage));
            } else {
                self.arg.bias = self.param(Slot::Bias, (storage, layout));
            }
        }
        if let Some((storage, layout)) = extras.residual {
            self.arg.residual = self.tensor(layout)?;
            self.bound.push(Bound::read(Slot::Residual, storage));
        }
        if let Some([mean, rstd]) = extras.stats {
            self.arg.mean = self.param(Slot::Mean, mean);
            self.arg.rstd = self.param(Slot::Rstd, rstd);
        }
        Ok(())
    }

    /// A result that is wanted, contiguous: in the format of x, or numbers for each plane.
    pub fn result(&mut self, slot: Slot, storage: Option<&'a mut G::Storage>) {
        let Some(storage) = storage else { return };
        match slot {
            Slot::Out => self.arg.out = self.contiguous(0),
            Slot::Dv => self.arg.dv = self.contiguous(0),
            Slot::Dweights => self.arg.dweights = self.contiguous(0),
            _ => {}
        }
        self.bound.push(Bound::write(slot, storage));
    }

    /// The statistic that is asked for with the mean.
    pub fn scale_stat(&mut self, which: ScaleStat) {
        self.arg.spec.stat = which;
    }

    /// The means of all planes and then the other statistic, from a kernel on chip.
    pub fn stats_on_chip(&mut self, storage: &'a mut G::Storage) {
        self.arg.shares.rstd = self.spec.planes.count() as u64;
        self.bound.push(Bound {
            slots: Slot::ShareMean.bit() | Slot::ShareRstd.bit(),
            storage: Access::Write(storage),
        });
    }

    /// Room in the workspace for what one launch leaves for a later one.
    pub fn reserve(&mut self, slot: Slot, numbers: usize) {
        self.workspace.reserve(slot, numbers);
    }

    /// Allocates the workspace, if anything is reserved in it.
    pub fn allocate(&mut self) -> Result<()> {
        let (len, dtype) = (self.workspace.len(), acc_dtype(self.dtype));
        let new = || self.gpu.alloc(dtype, len);
        self.storage = (len > 0).then(new).transpose()?;
        Ok(())
    }

    /// The workspace after the launches, and its numbers.
    pub fn into_workspace(self) -> (Workspace, Option<G::Storage>) {
        (self.workspace, self.storage)
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.workspace.has(slot) || self.bound.iter().any(|bound| bound.has(slot))
    }

    /// True if a plane's share of any gradient is wanted.
    pub fn has_shares(&self) -> bool {
        SHARES.into_iter().any(|slot| self.has(slot))
    }

    /// True if nothing goes beside the normalization of planes: PLAIN of the CUDA kernels.
    fn is_plain(&self) -> bool {
        use Slot::{Biases, Dweights, Residual, Weights};
        let mut extras = [Weights, Biases, Residual, Dweights].into_iter();
        self.arg.spec.activation == abi::ActivationArg::None && !extras.any(|slot| self.has(slot))
    }

    /// A pass, and its plan.
    pub fn plan(&mut self, pass: Pass) -> Result<(Job, GpuPlan)> {
        let job = self.job(pass);
        let plan = GpuPlan::new(&job, self.gpu.caps())?;
        plan::tell(&job, &plan);
        Ok((job, plan))
    }

    /// The shape of this call, which decides the plan.
    pub fn job(&mut self, pass: Pass) -> Job {
        let (caps, spatial) = (self.gpu.caps(), self.arg.shape.spatial);
        let bound = self.bound.iter().fold(0, |slots, b| slots | b.slots);
        let adjacent = |(slot, t): (Slot, &mut abi::TensorArg)| {
            bound & slot.bit() == 0 || t.stride_c == spatial
        };
        let adjacent = self.arg.tensors().into_iter().all(adjacent);
        Job {
            pass,
            planes: self.spec.planes,
            format: self.spec.format,
            channels_per_group: self.spec.channels_per_group,
            given: self.has(Slot::Mean),
            element: self.dtype.size_in_bytes(),
            aligned: self.aligned,
            adjacent,
            plain: caps.every_kernel && self.is_plain(),
        }
    }

    /// Runs the one kernel of a plan that keeps planes on chip.
    ///
    /// # Safety
    ///
    /// Each tensor of the call holds what the kernel accesses for this plan.
    pub unsafe fn launch_on_chip(&mut self, pass: Pass, plan: &GpuPlan) -> Result<()> {
        self.allocate()?;
        let kernel = Kernel::of(plan.tier, pass, plan::Phase::Write);
        let chunks = match plan.tier {
            Tier::Strip(chunks) => chunks.into(),
            _ => abi::ChunksArg::default(),
        };
        // SAFETY: promised by the caller; of these kernels those of strips alone read chunks.
        unsafe { self.launch(kernel, Size::of(plan), chunks, 0) }
    }

    /// Runs a kernel on the tensors of this call and these `slots` of the workspace.
    ///
    /// # Safety
    ///
    /// Each tensor of the call, and of these slots, holds what the kernel accesses in a launch of this size,
    /// which has the clusters and the shared memory that the kernel takes.
    pub unsafe fn launch(
        &mut self,
        kernel: Kernel,
        size: Size,
        chunks: abi::ChunksArg,
        slots: u32,
    ) -> Result<()> {
        let plain = self.is_plain();
        let shares = SHARES.into_iter().filter(|slot| self.workspace.has(*slot));
        let slots = shares.fold(slots, |slots, slot| slots | slot.bit());
        let own = self.bound.iter_mut().map(Bound::reborrow);
        let of_workspace = self.storage.as_mut().map(|storage| Bound {
            slots,
            storage: Access::Write(storage),
        });
        let buffers: Vec<_> = own.chain(of_workspace).collect();
        let mut arg = self.arg;
        arg.shape.present = buffers.iter().fold(0, |slots, b| slots | b.slots);
        let launch = Launch {
            kernel,
            plain,
            dtype: self.dtype,
            size,
            arg: Arg::Call(arg),
            chunks,
            buffers,
            workspace: self.workspace,
        };
        // SAFETY: promised by the caller; the call's results and the workspace alone are bound to be written.
        unsafe { self.gpu.launch(launch) }
    }

    fn param(&mut self, slot: Slot, (storage, layout): View<'a, G::Storage>) -> abi::ParamArg {
        self.bound.push(Bound::read(slot, storage));
        abi::ParamArg {
            origin: layout.start_offset() as u64,
            period: layout.shape().elem_count() as i32,
            is_f32: is_f32_beside(self.dtype, G::dtype(storage)),
        }
    }

    /// A tensor of this layout, of the size and format of x.
    fn tensor(&self, layout: &Layout) -> Result<abi::TensorArg> {
        if self.spec.format == Format::ChannelsLast {
            return Ok(self.contiguous(layout.start_offset()));
        }
        let planes = adjacent(layout)?;
        Ok(abi::TensorArg {
            origin: planes.offset as u64,
            stride_n: planes.stride_n as i64,
            stride_c: planes.stride_c as i64,
        })
    }

    fn contiguous(&self, start: usize) -> abi::TensorArg {
        let planes = &self.spec.planes;
        let stride_c = match self.spec.format {
            Format::Planar => planes.spatial,
            Format::ChannelsLast => 1,
        };
        abi::TensorArg {
            origin: start as u64,
            stride_n: (planes.c * planes.spatial) as i64,
            stride_c: stride_c as i64,
        }
    }
}

/// True if every plane of x starts at a multiple of [`VECTOR_BYTES`], where the storage starts so
/// many bytes behind one.
fn is_aligned(layout: &Layout, misalignment: usize, dtype: DType) -> bool {
    let size = dtype.size_in_bytes();
    let multiple = |elements: usize| (elements * size).is_multiple_of(VECTOR_BYTES);
    PlaneLayout::new(layout).is_some_and(|p| {
        (misalignment + p.offset * size).is_multiple_of(VECTOR_BYTES)
            && multiple(p.stride_n)
            && multiple(p.stride_c)
    })
}

/// 1 for an f32 parameter beside an x of another dtype, else 0.
pub fn is_f32_beside(x: DType, param: DType) -> i32 {
    (param == DType::F32 && x != DType::F32) as i32
}
