//! The gradients of parameters from the planes' shares of them.

use super::launch::Gpu;
use super::memory::{alloc, read, write};
use crate::kernel_args::is_f32_beside;
use crate::plan::Kernel;
use crate::shapes::{acc_dtype, ParamSpec, Planes};
use crate::tuning::PARAM_THREADS;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{CudaStorage, Result};

/// Weight, bias, mean and rstd.
const MAX_PARAMS: usize = 4;
/// The most numbers of a parameter that a block sums side by side: 32 bytes of f32, a sector.
const PARAM_COLUMNS: usize = 8;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct SumArg {
    shares: u64,
    out: u64,
    n: i32,
    c: i32,
    columns: i32,
    is_f32: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct SumsArg {
    of: [SumArg; MAX_PARAMS],
    blocks: i32,
}

// SAFETY: plain numbers in C layout, field for field those of `ParamSums` in finish.cu.
unsafe impl DeviceRepr for SumsArg {}

/// The shares that each plane has of a parameter's gradient.
pub type Shares = Option<(CudaStorage, ParamSpec)>;

/// The sums of shares over the planes that take the same number, in one launch for all parameters.
pub fn sum_params(
    gpu: &Gpu,
    all: [Shares; MAX_PARAMS],
    planes: &Planes,
) -> Result<[Option<CudaStorage>; MAX_PARAMS]> {
    let mut sums = [const { None }; MAX_PARAMS];
    let mut parts = vec![];
    for (sum, shares) in sums.iter_mut().zip(all) {
        let Some((shares, param)) = shares else {
            continue;
        };
        let period = param.shape.period(planes);
        if period == planes.count() && param.dtype == acc_dtype(gpu.dtype) {
            *sum = Some(shares);
            continue;
        }
        let out = sum.insert(alloc(gpu.device, param.dtype, period)?);
        parts.push((shares, out, param, period));
    }
    let mut arg = SumsArg::default();
    let mut pointers = vec![];
    for (of, (shares, out, param, period)) in arg.of.iter_mut().zip(&mut parts) {
        let columns = period.next_power_of_two().min(PARAM_COLUMNS);
        let (shares, out) = (read(shares, &gpu.stream)?, write(out, &gpu.stream)?);
        *of = SumArg {
            shares: shares.address,
            out: out.address,
            n: (planes.count() / *period) as i32,
            c: *period as i32,
            columns: columns as i32,
            is_f32: is_f32_beside(gpu.dtype, param.dtype),
        };
        arg.blocks = arg.blocks.max(period.div_ceil(columns) as i32);
        pointers.extend([shares, out]);
    }
    if arg.blocks > 0 {
        let grid = arg.blocks as usize * pointers.len() / 2;
        // SAFETY: for each parameter, `shares` holds n * c numbers and `out` c of the parameter's dtype.
        unsafe {
            gpu.launch(
                Kernel::SumParams,
                true,
                (grid as u32, PARAM_THREADS as u32),
                &[&arg],
            )?
        }
    }
    drop(pointers);
    Ok(sums)
}
