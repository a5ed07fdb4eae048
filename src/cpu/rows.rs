//! Segments of a channels-last sample, row by row: the lanes of a row are the channels of one place.
//!
//! Rows of few channels are taken several at once, as one long row in which the channels repeat,
//! so that every loop has enough lanes.

mod measure;
mod write;

use super::element::{Element, Register};
use super::operand::Span;
use super::pass::{GroupPass, MAX_COEFFICIENTS};
use super::simd::{Simd, SimdJob};
use super::vector::{Part, Vector};
use crate::plan::SEGMENT;

/// Lanes that are summed side by side: 1 KiB of f32 for every sum and shift, all in an L1.
const PIECE: usize = 256;
/// Rows that are taken together, column by column, so that sums and coefficients stay in registers over
/// these rows. The processor does not foresee such an order: each block asks for the lines of the next.
/// Blocks and prefetching where results are written, alone, took 8x256x64x64 in f16 from 2.5 to 2.1 ms forward.
const BLOCK: usize = 8;

/// A sample is cut into long rows and those into segments.
pub struct RowLayout {
    pub c: usize,
    spatial: usize,
    /// Elements of a long row, a multiple of `c`.
    pub long: usize,
    /// Elements of a segment, a multiple of `long`.
    segment: usize,
}

impl RowLayout {
    pub fn new(c: usize, spatial: usize) -> Self {
        let long = c * (PIECE / c).max(1);
        // Every segment costs each channel two merges: in all of SEGMENT, 8x256x64x64 in f16 took 1.6 ms forward,
        // and takes 1.3. An eighth leaves work for eight threads on one sample.
        let segment = (c * spatial / 8).clamp(SEGMENT, 4 * SEGMENT);
        let segment = long * (segment / long).max(1);
        Self {
            c,
            spatial,
            long,
            segment,
        }
    }

    /// Elements of a sample.
    pub fn elements(&self) -> usize {
        self.c * self.spatial
    }

    /// Segments of a sample.
    pub fn segments(&self) -> usize {
        self.elements().div_ceil(self.segment)
    }

    pub fn span(&self, sample: usize, segment: usize) -> Span {
        let start = segment * self.segment;
        Span {
            plane: 0,
            start: sample * self.elements() + start,
            len: self.segment.min(self.elements() - start),
        }
    }
}

/// One segment of a sample: whole rows, of which the last of the sample may be short.
pub struct RowsJob<'a, T: Element, P: GroupPass<T>> {
    pub pass: &'a P,
    pub rows: &'a RowLayout,
    pub span: Span,
    /// Arrays of the coefficients, one after the other.
    pub lanes: &'a [T::Acc],
    /// The round to measure for and the result for each channel; or `None` to write.
    pub measured: Option<(usize, &'a mut [P::Measure])>,
}

impl<T: Element, P: GroupPass<T>> SimdJob for RowsJob<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        assert_eq!(self.lanes.len(), P::COEFFICIENTS * self.rows.long);
        // SAFETY: the jobs that run at a time are of different segments, and either measure or
        // write.
        unsafe {
            match self.measured.take() {
                Some((round, parts)) => self.measure::<S>(round, parts),
                None if self.pass.is_plain() => self.write::<S, true>(),
                None => self.write::<S, false>(),
            }
        }
    }
}

impl<T: Element, P: GroupPass<T>> RowsJob<'_, T, P> {
    /// The coefficients of the lanes from `lane` on, in registers.
    ///
    /// # Safety
    ///
    /// A long row has the lanes. The job runs on a processor with the instructions of `S`.
    #[inline(always)]
    unsafe fn coefficients<S: Simd>(
        &self,
        lane: usize,
        part: Part,
    ) -> P::Coefficients<Register<S, T>> {
        let mut registers = [Register::<S, T>::default(); MAX_COEFFICIENTS];
        for (i, register) in registers.iter_mut().enumerate().take(P::COEFFICIENTS) {
            // SAFETY: promised by the caller; `run` has counted the arrays.
            unsafe {
                let from = self.lanes.as_ptr().add(i * self.rows.long + lane);
                *register = Vector::load(from, part);
            }
        }
        // The closure may be compiled apart, and so for the baseline: it loads nothing.
        let mut registers = registers.into_iter();
        P::map(P::Coefficients::<T::Acc>::default(), |_| {
            registers.next().unwrap_or_default()
        })
    }

    /// Asks for the lines of the next block that lie as the `lanes` from element `at` of this one do.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, of: &P::Tensors<'_>, at: usize, lanes: usize, to_write: bool) {
        let next = at + BLOCK * self.rows.long;
        self.pass.prefetch::<S>(of, next, lanes, to_write);
    }
}
