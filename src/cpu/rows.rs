//! Segments of a channels-last sample, row by row: the lanes of a row are the channels of one place.
//!
//! Rows of few channels are taken several at once, as one long row in which the channels repeat,
//! so that every loop has enough lanes.

use super::element::{Acc, Element};
use super::moments::Measure;
use super::operand::Span;
use super::pass::{GroupPass, Scratch};
use super::simd::{Simd, SimdJob};
use super::sums::{add_row, narrow, wide};
use crate::plan::SEGMENT;

/// Lanes that are summed side by side: 1 KiB of f32 for every sum and shift, all in an L1.
const PIECE: usize = 256;
/// Rows summed in the accumulator's type before they are merged in f64, as in a plane's chunk.
const ROWS: usize = 64;
/// Rows that a shift is the mean of: a shift some deviations off would cost the variance bits.
const SHIFT_ROWS: usize = 8;

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
        let segment = long * (SEGMENT / long).max(1);
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

/// One segment of a sample: whole rows.
pub struct RowsJob<'a, T: Element, P: GroupPass<T>> {
    pub pass: &'a P,
    pub rows: &'a RowLayout,
    pub span: Span,
    /// Arrays of the coefficients, one after the other.
    pub lanes: &'a [T::Acc],
    /// The round to measure for and the result for each channel; or `None` to write.
    pub measured: Option<(usize, &'a mut [P::Measure])>,
    pub scratch: &'a mut Scratch<T>,
}

impl<T: Element, P: GroupPass<T>> SimdJob for RowsJob<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        // SAFETY: the jobs that run at a time are of different segments, and either measure or
        // write.
        unsafe {
            match self.measured.take() {
                Some((round, parts)) => self.measure::<S>(round, parts),
                None => self.write::<S>(),
            }
        }
    }
}

impl<'a, T: Element, P: GroupPass<T>> RowsJob<'a, T, P> {
    /// The coefficients of `width` lanes.
    #[inline(always)]
    fn coefficients(&self, piece: usize, width: usize) -> P::Coefficients<&'a [T::Acc]> {
        let (lanes, mut start) = (self.lanes, piece);
        P::map(P::Coefficients::<T::Acc>::default(), |_| {
            let field = &lanes[start..start + width];
            start += self.rows.long;
            field
        })
    }

    /// A piece of a row. The last row may be short, at the end of a sample.
    #[inline(always)]
    fn row(&self, row: usize, piece: usize, width: usize) -> Span {
        let start = row * self.rows.long + piece;
        let len = width.min(self.span.len.saturating_sub(start));
        self.span.part(start, len)
    }

    /// Safety: as in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn measure<S: Simd>(&mut self, round: usize, parts: &mut [P::Measure]) {
        parts.fill(P::Measure::default());
        for piece in (0..self.rows.long).step_by(PIECE) {
            let width = PIECE.min(self.rows.long - piece);
            // SAFETY: promised by the caller.
            let lanes = unsafe { self.measure_piece::<S>(round, piece, width) };
            for (lane, m) in lanes.iter().enumerate() {
                let part = &mut parts[(piece + lane) % self.rows.c];
                *part = part.merge(m);
            }
        }
    }

    /// The measurements of every lane of a piece of the rows.
    ///
    /// Safety: as in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn measure_piece<S: Simd>(
        &mut self,
        round: usize,
        piece: usize,
        width: usize,
    ) -> Vec<P::Measure> {
        let row_count = self.span.len.div_ceil(self.rows.long);
        let k = self.coefficients(piece, width);
        let mut totals = vec![P::Measure::default(); width];
        // SAFETY: promised by the caller.
        let mut shifts = unsafe { self.shifts::<S>(round, piece, width) };
        let mut sums = [(); 4].map(|_| vec![T::Acc::default(); width]);
        for block in (0..row_count).step_by(ROWS) {
            let rows = block..row_count.min(block + ROWS);
            for sums in &mut sums[..2 * P::Measure::STREAMS] {
                sums.fill(T::Acc::default());
            }
            for row in rows.clone() {
                let span = self.row(row, piece, width);
                if span.len > 0 {
                    // SAFETY: promised by the caller.
                    let streams = unsafe { self.pass.load::<S, _>(round, span, k, self.scratch) };
                    add_row::<S, _, P::Measure>(&mut sums, &shifts, streams);
                }
            }
            let last = self.row(rows.end - 1, piece, width);
            merge(&mut totals, &mut shifts, &sums, rows.len(), last.len);
        }
        totals
    }

    /// The means of the first rows, for every lane.
    ///
    /// Safety: as in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn shifts<S: Simd>(
        &mut self,
        round: usize,
        piece: usize,
        width: usize,
    ) -> [Vec<T::Acc>; 2] {
        let k = self.coefficients(piece, width);
        let mut shifts = [(); 2].map(|_| vec![T::Acc::default(); width]);
        // Whole rows, or the only one there is.
        let whole = (self.span.len.div_ceil(self.rows.long) - 1).clamp(1, SHIFT_ROWS);
        let weight = T::Acc::from_f64(1. / whole as f64);
        for row in 0..whole {
            let span = self.row(row, piece, width);
            // SAFETY: promised by the caller.
            let streams = unsafe { self.pass.load::<S, _>(round, span, k, self.scratch) };
            for (shifts, values) in shifts.iter_mut().zip(streams) {
                for (shift, &value) in shifts.iter_mut().zip(values) {
                    *shift += value * weight;
                }
            }
        }
        shifts
    }

    /// Safety: as in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn write<S: Simd>(&mut self) {
        for row in (0..self.span.len).step_by(self.rows.long) {
            let end = self.rows.long.min(self.span.len - row);
            for piece in (0..end).step_by(PIECE) {
                let len = PIECE.min(end - piece);
                let (span, k) = (
                    self.span.part(row + piece, len),
                    self.coefficients(piece, len),
                );
                // SAFETY: promised by the caller.
                unsafe { self.pass.write::<S, _>(span, k, self.scratch) }
            }
        }
    }
}

/// Merges the sums of some rows, of which the last has `last` lanes, into the totals of the lanes;
/// their means are the next shifts.
#[inline(always)]
fn merge<A: Acc, M: Measure>(
    totals: &mut [M],
    shifts: &mut [Vec<A>; 2],
    sums: &[Vec<A>; 4],
    rows: usize,
    last: usize,
) {
    for (lane, total) in totals.iter_mut().enumerate() {
        let count = rows - (lane >= last) as usize;
        if count == 0 {
            continue;
        }
        let (mut shift, mut sum) = ([A::default(); 2], [0.; 4]);
        for i in 0..M::STREAMS {
            shift[i] = shifts[i][lane];
        }
        for k in 0..2 * M::STREAMS {
            sum[k] = sums[k][lane].to_f64();
        }
        *total = total.merge(&M::from_sums(count as f64, wide(shift), sum));
        let means = narrow::<A>(total.means());
        for i in 0..M::STREAMS {
            shifts[i][lane] = means[i];
        }
    }
}
