//! What is measured of the channels of a segment.

#![allow(clippy::needless_range_loop)] // Lanes are counted alike in several arrays.

use super::{BLOCK, PIECE, RowsJob};
use crate::cpu::element::{Acc, Element, Register};
use crate::cpu::moments::{FIELDS, Measure};
use crate::cpu::pass::GroupPass;
use crate::cpu::simd::Simd;
use crate::cpu::sums::{narrow, wide};
use crate::cpu::vector::{Part, Vector};
use std::ops::Range;

/// Rows summed in the accumulator's type before they are merged in f64, as in a plane's chunk.
const ROWS: usize = 64;
/// Rows that a shift is the mean of: a shift some deviations off would cost the variance bits.
const SHIFT_ROWS: usize = 8;

/// Lanes of all rows, from `start` on, and what is measured of them: an array for each number, so that
/// loops over lanes are computed in registers.
struct Piece<T: Element> {
    start: usize,
    shifts: [[T::Acc; PIECE]; 2],
    sums: [[T::Acc; PIECE]; 4],
    /// The fields of the measurements of the rows so far.
    totals: [[f64; PIECE]; FIELDS],
}

impl<T: Element, P: GroupPass<T>> RowsJob<'_, T, P> {
    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    pub(super) unsafe fn measure<S: Simd>(&self, round: usize, parts: &mut [P::Measure]) {
        parts.fill(P::Measure::default());
        for start in (0..self.rows.long).step_by(PIECE) {
            let width = PIECE.min(self.rows.long - start);
            // SAFETY: promised by the caller.
            unsafe { self.measure_piece::<S>(round, start, width, parts) };
        }
    }

    /// Merges the measurements of a piece of all rows into those of its channels.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn measure_piece<S: Simd>(
        &self,
        round: usize,
        start: usize,
        width: usize,
        parts: &mut [P::Measure],
    ) {
        let tensors = &self.pass.tensors(self.span);
        let mut piece = Piece::<T> {
            start,
            shifts: [[T::Acc::default(); PIECE]; 2],
            sums: [[T::Acc::default(); PIECE]; 4],
            totals: [[0.; PIECE]; FIELDS],
        };
        let whole = self.span.len / self.rows.long;
        // The lanes of the last row of the sample, which may be short.
        let last = self.span.len - whole * self.rows.long;
        let last = last.saturating_sub(start).min(width);
        // Whole rows, or the only one there is.
        let for_shift = whole.clamp(1, SHIFT_ROWS);
        let there = if whole == 0 { last } else { width };
        // SAFETY: promised by the caller, so here and below.
        unsafe { self.sum::<S>(round, tensors, 0..for_shift, there, &mut piece) };
        piece.shift_to_means::<P::Measure>(width, for_shift);
        for first in (0..whole).step_by(ROWS) {
            let rows = first..whole.min(first + ROWS);
            // SAFETY: as above.
            unsafe { self.sum::<S>(round, tensors, rows.clone(), width, &mut piece) };
            piece.merge::<P::Measure>(width, rows);
        }
        if last > 0 {
            let rows = whole..whole + 1;
            // SAFETY: as above.
            unsafe { self.sum::<S>(round, tensors, rows.clone(), last, &mut piece) };
            piece.merge::<P::Measure>(last, rows);
        }
        let mut channel = start % self.rows.c;
        for lane in 0..width {
            parts[channel] = parts[channel].merge(&piece.total(lane));
            channel += 1;
            if channel == self.rows.c {
                channel = 0;
            }
        }
    }

    /// The sums of some rows in the first `width` lanes of a piece, less its shifts.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for these rows.
    #[inline(always)]
    unsafe fn sum<S: Simd>(
        &self,
        round: usize,
        tensors: &P::Tensors<'_>,
        rows: Range<usize>,
        width: usize,
        piece: &mut Piece<T>,
    ) {
        for sums in &mut piece.sums[..2 * P::Measure::STREAMS] {
            sums.fill(T::Acc::default());
        }
        for first in rows.clone().step_by(BLOCK) {
            let rows = first..rows.end.min(first + BLOCK);
            // SAFETY: promised by the caller.
            unsafe { self.sum_block::<S>(round, tensors, &rows, width, piece) };
        }
    }

    /// Adds the rows of a block to the sums of a piece's first `width` lanes.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for these rows.
    #[inline(always)]
    unsafe fn sum_block<S: Simd>(
        &self,
        round: usize,
        tensors: &P::Tensors<'_>,
        rows: &Range<usize>,
        width: usize,
        piece: &mut Piece<T>,
    ) {
        let (lanes, whole) = (Register::<S, T>::LEN, Part::Whole);
        let mut lane = 0;
        // SAFETY: promised by the caller; the registers are of lanes of the piece.
        unsafe {
            if P::Measure::STREAMS == 1 {
                while lane + 4 * lanes <= width {
                    self.sum_columns::<S, 4>(round, tensors, rows, lane, whole, piece);
                    lane += 4 * lanes;
                }
            }
            while lane + 2 * lanes <= width {
                self.sum_columns::<S, 2>(round, tensors, rows, lane, whole, piece);
                lane += 2 * lanes;
            }
            while lane < width {
                let part = match width - lane {
                    left if left < lanes => Part::First(left),
                    _ => whole,
                };
                self.sum_columns::<S, 1>(round, tensors, rows, lane, part, piece);
                lane += lanes;
            }
        }
    }

    /// [`sum_block`](Self::sum_block) of `N` registers.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for these rows; the piece has the lanes.
    #[inline(always)]
    unsafe fn sum_columns<S: Simd, const N: usize>(
        &self,
        round: usize,
        tensors: &P::Tensors<'_>,
        rows: &Range<usize>,
        lane: usize,
        part: Part,
        piece: &mut Piece<T>,
    ) {
        let zero = Register::<S, T>::default();
        let (mut all, mut shift) = ([[zero; 4]; N], [[zero; 2]; N]);
        let mut k = [P::Coefficients::default(); N];
        let width = Register::<S, T>::LEN;
        for n in 0..N {
            let lane = lane + n * width;
            // SAFETY: the piece has the lanes; the job runs where it may.
            unsafe {
                k[n] = self.coefficients::<S>(piece.start + lane, part);
                for i in 0..P::Measure::STREAMS {
                    shift[n][i] = Vector::load(piece.shifts[i][lane..].as_ptr(), part);
                }
                for i in 0..2 * P::Measure::STREAMS {
                    all[n][i] = Vector::load(piece.sums[i][lane..].as_ptr(), part);
                }
            }
        }
        for row in rows.clone() {
            let at = row * self.rows.long + piece.start + lane;
            self.prefetch::<S>(tensors, at, N * width, false);
            for n in 0..N {
                let at = at + n * width;
                // SAFETY: promised by the caller.
                let [x, g] = unsafe { self.pass.load::<S, false>(round, tensors, at, part, &k[n]) };
                all[n] = P::Measure::step(all[n], [x - shift[n][0], g - shift[n][1]]);
            }
        }
        for n in 0..N {
            let lane = lane + n * width;
            for i in 0..2 * P::Measure::STREAMS {
                // SAFETY: as for the shifts.
                unsafe { all[n][i].store(piece.sums[i][lane..].as_mut_ptr(), part) };
            }
        }
    }
}

impl<T: Element> Piece<T> {
    /// Makes the means of the first rows, whose sums these are, the shifts.
    #[inline(always)]
    fn shift_to_means<M: Measure>(&mut self, width: usize, rows: usize) {
        for i in 0..M::STREAMS {
            for lane in 0..width.min(PIECE) {
                let mean = self.sums[2 * i][lane].to_f64() / rows as f64;
                self.shifts[i][lane] = T::Acc::from_f64(mean);
            }
        }
    }

    /// Merges the sums of `rows` into the totals of the first `width` lanes, which are of all rows before
    /// them; the means are the next shifts.
    #[inline(always)]
    fn merge<M: Measure>(&mut self, width: usize, rows: Range<usize>) {
        // A branch outside the loop: with it inside, lanes were merged one by one.
        if rows.start == 0 {
            self.merge_lanes::<M, true>(width, rows);
        } else {
            self.merge_lanes::<M, false>(width, rows);
        }
    }

    #[inline(always)]
    fn merge_lanes<M: Measure, const FIRST: bool>(&mut self, width: usize, rows: Range<usize>) {
        let count = rows.len() as f64;
        let share = count / rows.end as f64;
        for lane in 0..width.min(PIECE) {
            let (mut shift, mut sum) = ([T::Acc::default(); 2], [0.; 4]);
            for i in 0..M::STREAMS {
                shift[i] = self.shifts[i][lane];
            }
            for k in 0..2 * M::STREAMS {
                sum[k] = self.sums[k][lane].to_f64();
            }
            let mut total = M::from_sums(count, wide(shift), sum);
            if !FIRST {
                total = self.total::<M>(lane).merge_with(&total, share);
            }
            let fields = total.fields();
            for i in 0..1 + 2 * M::STREAMS {
                self.totals[i][lane] = fields[i];
            }
            let means = narrow::<T::Acc>(total.means());
            for i in 0..M::STREAMS {
                self.shifts[i][lane] = means[i];
            }
        }
    }

    /// The measurement of a lane.
    #[inline(always)]
    fn total<M: Measure>(&self, lane: usize) -> M {
        let mut fields = [0.; FIELDS];
        for i in 0..1 + 2 * M::STREAMS {
            fields[i] = self.totals[i][lane];
        }
        M::from_fields(fields)
    }
}
