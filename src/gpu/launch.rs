//! A launch as plain data.

use super::workspace::Workspace;
use super::{Gpu, abi};
use crate::plan::{GpuPlan, Kernel};
use candle_core::DType;

/// One launch of a kernel.
pub struct Launch<'a, G: Gpu> {
    pub kernel: Kernel,
    /// Nothing goes beside the normalization: CUDA has kernels for this.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub plain: bool,
    /// The dtype of x, for which the kernels are compiled. The stand-in of the tests has but one.
    #[cfg_attr(not(any(feature = "cuda", feature = "metal")), allow(dead_code))]
    pub dtype: DType,
    pub size: Size,
    pub arg: Arg<G::Real>,
    pub chunks: abi::ChunksArg,
    pub buffers: Vec<Bound<'a, G::Storage>>,
    /// Where in their storage the buffers between launches begin.
    pub workspace: Workspace,
}

#[derive(Clone, Copy)]
pub struct Size {
    /// Blocks, and threads of each.
    pub grid: u32,
    pub threads: u32,
    /// Blocks of a cluster, which CUDA has; 1 without clusters.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub cluster: u32,
    /// Bytes of shared memory that a block has beside what its kernel declares, which CUDA has.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub shared: u32,
}

impl Size {
    pub fn new(grid: u32, threads: u32) -> Self {
        Self {
            grid,
            threads,
            cluster: 1,
            shared: 0,
        }
    }

    /// That of the one launch of a plan that keeps planes on chip.
    pub fn of(plan: &GpuPlan) -> Self {
        Self {
            cluster: plan.tier.cluster() as u32,
            shared: plan.tier.shared() as u32,
            ..Self::new(plan.grid, plan.threads)
        }
    }
}

/// The first argument of a kernel, for the one launch that it is made for.
#[allow(clippy::large_enum_variant)]
pub enum Arg<R: abi::Real> {
    Call(abi::CallArg<R>),
    /// AdaIN's calls, of the content and of the style.
    AdaIn([abi::CallArg<R>; 2]),
    /// One sum a parameter; the launch's buffers are the shares and the result of each.
    Sums(Vec<abi::ParamSum>),
}

/// A storage and the slots that it is bound to.
pub struct Bound<'a, S> {
    /// Bit `slot` for each of them: in place, x is the output as well.
    pub slots: u32,
    pub storage: Access<'a, S>,
}

/// The access of a launch to a storage. Streams and encoders order launches by it.
pub enum Access<'a, S> {
    Read(&'a S),
    Write(&'a mut S),
}

impl<'a, S> Bound<'a, S> {
    pub fn read(slot: Slot, storage: &'a S) -> Self {
        Self {
            slots: slot.bit(),
            storage: Access::Read(storage),
        }
    }

    pub fn write(slot: Slot, storage: &'a mut S) -> Self {
        Self {
            slots: slot.bit(),
            storage: Access::Write(storage),
        }
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.slots & slot.bit() != 0
    }

    #[cfg(any(feature = "metal", test))]
    pub fn storage(&self) -> &S {
        match &self.storage {
            Access::Read(storage) => storage,
            Access::Write(storage) => storage,
        }
    }

    #[cfg(any(feature = "metal", test))]
    pub fn is_written(&self) -> bool {
        matches!(self.storage, Access::Write(_))
    }

    /// This binding for one launch.
    pub fn reborrow(&mut self) -> Bound<'_, S> {
        let storage = match &mut self.storage {
            Access::Read(storage) => Access::Read(*storage),
            Access::Write(storage) => Access::Write(&mut **storage),
        };
        Bound {
            slots: self.slots,
            storage,
        }
    }
}

/// The role of a buffer; on Metal also its index, as in `Slot` of call.metal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    X = 2,
    Dy,
    Weights,
    Biases,
    Residual,
    Weight,
    Bias,
    Mean,
    Rstd,
    Out,
    Dv,
    Dweights,
    ShareWeight,
    ShareBias,
    ShareMean,
    ShareRstd,
    Parts,
    Affines,
    Gradients,
    Style,
}

/// The planes' shares of gradients.
pub const SHARES: [Slot; 4] = [
    Slot::ShareWeight,
    Slot::ShareBias,
    Slot::ShareMean,
    Slot::ShareRstd,
];

impl Slot {
    /// All that Metal has a buffer for.
    #[cfg(any(feature = "metal", test))]
    pub const BUFFERS: [Self; 19] = [
        Self::X,
        Self::Dy,
        Self::Weights,
        Self::Biases,
        Self::Residual,
        Self::Weight,
        Self::Bias,
        Self::Mean,
        Self::Rstd,
        Self::Out,
        Self::Dv,
        Self::Dweights,
        Self::ShareWeight,
        Self::ShareBias,
        Self::ShareMean,
        Self::ShareRstd,
        Self::Parts,
        Self::Affines,
        Self::Gradients,
    ];

    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    pub const fn bit_if(self, there: bool) -> u32 {
        if there { self.bit() } else { 0 }
    }
}
