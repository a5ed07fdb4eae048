//! The gradients of parameters from the planes' shares of them.

use super::call::is_f32_beside;
use super::launch::{Arg, Bound, Launch, Size, Slot};
use super::workspace::Workspace;
use super::{Gpu, abi};
use crate::plan::Kernel;
use crate::shapes::{ParamSpec, Planes, acc_dtype};
use crate::tuning::PARAM_THREADS;
use candle_core::{DType, Result};

/// The most numbers of a parameter that a block sums side by side: 32 bytes of f32, a sector.
const PARAM_COLUMNS: usize = 8;

/// The gradient of a parameter that has one number for one plane or many.
pub struct ParamGrad<S> {
    pub storage: S,
    param: ParamSpec,
    /// How many numbers it has.
    period: usize,
}

impl<S> ParamGrad<S> {
    pub fn new<G: Gpu<Storage = S>>(gpu: &G, param: ParamSpec, planes: &Planes) -> Result<Self> {
        let period = param.shape.period(planes);
        let storage = gpu.alloc(param.dtype, period)?;
        Ok(Self {
            storage,
            param,
            period,
        })
    }

    /// True if the planes' shares are the gradient, for an x of this dtype.
    pub fn is_shares(&self, x: DType, planes: &Planes) -> bool {
        self.period == planes.count() && self.param.dtype == acc_dtype(x)
    }
}

/// Fills gradients with the sums of shares over the planes that take the same number. The shares are in these
/// slots of the workspace.
pub fn sum_params<G: Gpu>(
    gpu: &G,
    dtype: DType,
    (workspace, shares): (Workspace, &G::Storage),
    mut all: Vec<(Slot, &mut ParamGrad<G::Storage>)>,
    planes: &Planes,
) -> Result<()> {
    for some in all.chunks_mut(G::SUMS_PER_LAUNCH) {
        let (mut sums, mut buffers, mut blocks) = (vec![], vec![], 0);
        for (slot, grad) in some {
            let period = grad.period;
            let columns = period.next_power_of_two().min(PARAM_COLUMNS);
            sums.push(abi::ParamSum {
                shares: workspace.offset(*slot, 1) as u64,
                n: (planes.count() / period) as i32,
                c: period as i32,
                columns: columns as i32,
                is_f32: is_f32_beside(dtype, grad.param.dtype),
                ..Default::default()
            });
            blocks = blocks.max(period.div_ceil(columns));
            buffers.push(Bound::read(Slot::Parts, shares));
            buffers.push(Bound::write(Slot::Out, &mut grad.storage));
        }
        let launch = Launch {
            kernel: Kernel::SumParams,
            plain: true,
            dtype,
            size: Size::new((blocks * sums.len()) as u32, PARAM_THREADS as u32),
            arg: Arg::Sums(sums),
            chunks: abi::ChunksArg::default(),
            buffers,
            // It is where the sums say.
            workspace: Workspace::default(),
        };
        // SAFETY: for each parameter, its shares are n * c numbers and its result c of its dtype.
        unsafe { gpu.launch(launch) }?;
    }
    Ok(())
}
