//! The gradients of parameters from the planes' shares of them.

use super::call::is_f32_beside;
use super::launch::{Arg, Bound, Launch, Size, Slot};
use super::{Gpu, abi};
use crate::plan::Kernel;
use crate::shapes::{ParamSpec, Planes, acc_dtype};
use crate::tuning::{MAX_PARAMS, PARAM_THREADS};
use candle_core::{DType, Result};

/// The most numbers of a parameter that a block sums side by side: 32 bytes of f32, a sector.
const PARAM_COLUMNS: usize = 8;

/// The shares that each plane has of a parameter's gradient.
type ParamShares<S> = Option<(S, ParamSpec)>;

/// The sums of shares over the planes that take the same number.
pub fn sum_params<G: Gpu>(
    gpu: &G,
    dtype: DType,
    all: [ParamShares<G::Storage>; MAX_PARAMS],
    planes: &Planes,
) -> Result<[Option<G::Storage>; MAX_PARAMS]> {
    let mut results = [const { None }; MAX_PARAMS];
    let mut open = vec![];
    for (result, shares) in results.iter_mut().zip(all) {
        let Some((shares, param)) = shares else {
            continue;
        };
        let period = param.shape.period(planes);
        if period == planes.count() && param.dtype == acc_dtype(dtype) {
            *result = Some(shares);
            continue;
        }
        let result = result.insert(gpu.alloc(param.dtype, period)?);
        open.push((shares, result, param, period));
    }
    for open in open.chunks_mut(G::SUMS_PER_LAUNCH) {
        let (mut sums, mut buffers, mut blocks) = (vec![], vec![], 0);
        for (shares, result, param, period) in open {
            let columns = period.next_power_of_two().min(PARAM_COLUMNS);
            sums.push(abi::ParamSum {
                n: (planes.count() / *period) as i32,
                c: *period as i32,
                columns: columns as i32,
                is_f32: is_f32_beside(dtype, param.dtype),
                ..Default::default()
            });
            blocks = blocks.max(period.div_ceil(columns));
            buffers.push(Bound::read(Slot::Parts, &*shares));
            buffers.push(Bound::write(Slot::Out, &mut **result));
        }
        let launch = Launch {
            kernel: Kernel::SumParams,
            plain: true,
            dtype,
            size: Size::new((blocks * sums.len()) as u32, PARAM_THREADS as u32),
            arg: Arg::Sums(sums),
            chunks: abi::ChunksArg::default(),
            buffers,
        };
        // SAFETY: for each parameter, its shares are n * c numbers and its result c of its dtype.
        unsafe { gpu.launch(launch) }?;
    }
    Ok(results)
}
