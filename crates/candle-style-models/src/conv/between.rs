//! What stands between the convolutions on the CPU: halving the sides, and adding a shortcut. candle's
//! own passes run on one thread, and over the single values of bf16: in StarGAN v2 they took as long as
//! its convolutions.
//!
//! Where a gradient is tracked, and on GPUs, they are composed of candle's ops.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use candle_core::{backend::BackendStorage, bail};
use rayon::prelude::*;

use super::element::Element;
use super::op::{View, elements, on_dtype, planes};
use super::output::Output;
use crate::resample;

/// What becomes of every 2x2 square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halving {
    /// Its mean; an odd edge is dropped.
    Mean,
    /// The maximum of the part of it that is inside an odd edge.
    Max,
}

/// The mean of every 2x2 square without an odd edge, as PyTorch's `avg_pool2d(2)`.
pub fn mean_pool2x(x: &Tensor) -> Result<Tensor> {
    if runs_here(&[x]) && x.dims4().is_ok() {
        return x.apply_op1_no_bwd(&Halving::Mean);
    }
    x.avg_pool2d(2)
}

/// The maximum of every 2x2 square, or of the part of it inside an odd edge, as PyTorch's
/// `MaxPool2d(2, ceil_mode=True)` has it.
pub fn max_pool2x(x: &Tensor) -> Result<Tensor> {
    if runs_here(&[x]) && x.dims4().is_ok() {
        return x.apply_op1_no_bwd(&Halving::Max);
    }
    resample::max_pool2x(x)
}

/// `(x + y) * factor`.
pub fn scaled_sum(x: &Tensor, y: &Tensor, factor: f64) -> Result<Tensor> {
    let fits = x.dims() == y.dims() && x.dtype() == y.dtype();
    if fits && runs_here(&[x, y]) {
        return x.apply_op2_no_bwd(y, &ScaledSum(factor));
    }
    (x + y)? * factor
}

fn runs_here(tensors: &[&Tensor]) -> bool {
    let fits = |x: &&Tensor| {
        let float = matches!(x.dtype(), dtype if dtype.is_float() && dtype.size_in_bytes() > 1);
        float && x.device().is_cpu() && x.is_contiguous() && !x.track_op()
    };
    tensors.iter().all(fits)
}

impl Halving {
    fn run<T: Element>(&self, x: View) -> Result<(CpuStorage, Shape)> {
        let &[samples, channels, height, width] = x.1.dims() else {
            bail!("pool: expected x of 4 dimensions, got {:?}", x.1.dims())
        };
        let (x, quarter) = (planes::<T>(x)?, T::Acc::from_f64(0.25));
        let half = |side: usize| match self {
            Self::Mean => side / 2,
            Self::Max => side.div_ceil(2),
        };
        let [out_height, out_width] = [half(height), half(width)];
        let y = Output::new(samples * channels * out_height * out_width);
        let scratch = || [width, width, out_width].map(|len| vec![T::Acc::default(); len]);
        let rows = (0..samples * channels * out_height).into_par_iter();
        rows.for_each_init(scratch, |[first, second, line], row| {
            let (plane, top) = (row / out_height, row % out_height * 2);
            let source = |row| x.row([plane / channels, plane % channels, row]);
            let upper = T::widen(source(top), first);
            let lower = T::widen(source((top + 1).min(height - 1)), second);
            // An odd edge is a pair with itself.
            let pair = |row: &[T::Acc], at: usize| (row[2 * at], row[(2 * at + 1).min(width - 1)]);
            for (at, to) in line.iter_mut().enumerate() {
                let ((a, b), (c, d)) = (pair(upper, at), pair(lower, at));
                *to = match self {
                    Self::Mean => ((a + b) + (c + d)) * quarter,
                    Self::Max => larger(larger(a, b), larger(c, d)),
                };
            }
            // SAFETY: a row is taken once.
            T::narrow(line, unsafe { y.slice(row * out_width, out_width) });
        });
        // SAFETY: all rows have been written.
        let y = T::to_cpu_storage_owned(unsafe { y.filled() });
        Ok((y, (samples, channels, out_height, out_width).into()))
    }
}

/// The larger one, or NaN if there is one.
fn larger<A: PartialOrd>(a: A, b: A) -> A {
    let nan = b.partial_cmp(&b).is_none();
    if b > a || nan { b } else { a }
}

struct ScaledSum(f64);

/// The values that a job of a sum takes: they stay in the L1 between the steps.
const CHUNK: usize = 2048;

impl ScaledSum {
    fn run<T: Element>(&self, x: View, y: View) -> Result<(CpuStorage, Shape)> {
        let (shape, factor) = (x.1.shape().clone(), T::Acc::from_f64(self.0));
        let (x, y) = (elements::<T>(x)?, elements::<T>(y)?);
        let sum = Output::new(x.len());
        let scratch = || [(); 3].map(|()| vec![T::Acc::default(); CHUNK]);
        let chunks = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).enumerate();
        chunks.for_each_init(scratch, |[of_x, of_y, line], (index, (x, y))| {
            let len = x.len();
            let (x, y) = (T::widen(x, &mut of_x[..len]), T::widen(y, &mut of_y[..len]));
            for (to, (x, y)) in line.iter_mut().zip(x.iter().zip(y)) {
                *to = (*x + *y) * factor;
            }
            // SAFETY: a chunk is taken once.
            T::narrow(&line[..len], unsafe { sum.slice(index * CHUNK, len) });
        });
        // SAFETY: all chunks have been written.
        Ok((T::to_cpu_storage_owned(unsafe { sum.filled() }), shape))
    }
}

impl CustomOp1 for Halving {
    fn name(&self) -> &'static str {
        "pool2x"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        on_dtype!(x.dtype(), self.run((x, layout)))
    }
}

impl CustomOp2 for ScaledSum {
    fn name(&self) -> &'static str {
        "scaled_sum"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_dtype!(x.dtype(), self.run((x, x_layout), (y, y_layout)))
    }
}
