//! A launch as plain data, and who runs it.

use super::call::Arg;
use crate::kernel_args::CutArg;
use crate::plan::{Caps, Kernel};
use crate::tuning::WARP;
use candle_core::{DType, Result};

/// What runs kernels, and the memory that they work on: candle's Metal device, or what stands in for
/// it in the tests.
pub trait Gpu {
    /// Elements of one dtype.
    type Storage;

    fn dtype(storage: &Self::Storage) -> DType;

    /// About how many threadgroups of the largest size the device runs side by side.
    fn cores(&self) -> usize;

    /// What a plan has to know.
    fn caps(&self) -> Caps {
        Caps {
            sm_count: self.cores(),
            clusters: false,
            least_lanes: WARP,
        }
    }

    /// Elements of any value, which the launches that follow write.
    fn alloc(&self, dtype: DType, len: usize) -> Result<Self::Storage>;

    fn zeros(&self, dtype: DType, len: usize) -> Result<Self::Storage>;

    /// Runs after all launches before it.
    ///
    /// # Safety
    ///
    /// The kernel's buffers are among the launch's, live, written where it says so and hold what the
    /// kernel accesses with this argument and this many threads.
    unsafe fn launch(&self, launch: &Launch<Self::Storage>) -> Result<()>;
}

/// One launch. Buffers are bound as they are: where an element lies in them is part of the argument.
#[derive(Debug)]
pub struct Launch<'a, S> {
    pub kernel: Kernel,
    /// That of x, for which the kernels are compiled.
    pub dtype: DType,
    /// Threadgroups, and threads of each.
    pub grid: u32,
    pub threads: u32,
    /// Buffer 0.
    pub arg: Arg,
    /// Buffer 1.
    pub cut: CutArg,
    pub buffers: Vec<Bound<'a, S>>,
}

/// A buffer in its place.
#[derive(Debug)]
pub struct Bound<'a, S> {
    pub slot: Slot,
    pub storage: &'a S,
    /// Whether the launch writes it: candle's encoder orders launches by what it is told of this.
    pub written: bool,
}

impl<S> Clone for Bound<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Bound<'_, S> {}

/// `Index` of call.metal: the number of a buffer.
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
}

impl Slot {
    /// Those of all buffers; 0 and 1 are the arguments'.
    pub const ALL: std::ops::RangeInclusive<usize> = Self::X as usize..=Self::Gradients as usize;
}
