//! Segments of a channels-last sample, row by row: the lanes of a row are the channels of one place.
//!
//! Rows of few channels are taken several at once, as one long row in which the channels repeat,
//! so that every loop has enough lanes.

#![allow(clippy::needless_range_loop)] // Lanes are counted alike in several arrays.

use super::element::{Acc, Element, Register};
use super::moments::Measure;
use super::operand::Span;
use super::pass::GroupPass;
use super::simd::{Simd, SimdJob};
use super::sums::{narrow, wide};
use super::vector::{Part, Vector};
use crate::plan::SEGMENT;
use std::ops::Range;

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

/// Numbers of the lanes of a piece.
type Numbers<T> = [<T as Element>::Acc; PIECE];

/// The most coefficients of a plane.
pub const FIELDS: usize = 7;

/// Some lanes of a long row: the first one, and how many.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    width: usize,
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
                None if self.pass.is_plain() => self.write::<S, true>(),
                None => self.write::<S, false>(),
            }
        }
    }
}

impl<'a, T: Element, P: GroupPass<T>> RowsJob<'a, T, P> {
    /// The coefficients of the lanes from `lane` on, in registers.
    #[inline(always)]
    fn coefficients<S: Simd>(&self, lane: usize, part: Part) -> P::Coefficients<Register<S, T>> {
        let mut registers = [Register::<S, T>::default(); FIELDS];
        let fields = self.lanes.chunks_exact(self.rows.long);
        for (register, field) in registers.iter_mut().zip(fields) {
            // SAFETY: a row has no more lanes than the array, and the job runs on a processor with the
            // instructions of `S`.
            *register = unsafe { Vector::load(field[lane..].as_ptr(), part) };
        }
        // The closure may be compiled apart, and so for the baseline: it loads nothing.
        let mut registers = registers.into_iter();
        P::map(P::Coefficients::<T::Acc>::default(), |_| {
            registers.next().unwrap_or_default()
        })
    }

    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn measure<S: Simd>(&self, round: usize, parts: &mut [P::Measure]) {
        parts.fill(P::Measure::default());
        for start in (0..self.rows.long).step_by(PIECE) {
            let width = PIECE.min(self.rows.long - start);
            // SAFETY: promised by the caller.
            unsafe { self.measure_piece::<S>(round, Piece { start, width }, parts) };
        }
    }

    /// Merges the measurements of a piece of all rows into those of its channels.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn measure_piece<S: Simd>(&self, round: usize, piece: Piece, parts: &mut [P::Measure]) {
        let (tensors, long) = (self.pass.tensors(self.span), self.rows.long);
        let whole = self.span.len / long;
        let mut totals = [P::Measure::default(); PIECE];
        let mut shifts = [[T::Acc::default(); PIECE]; 2];
        let mut sums = [[T::Acc::default(); PIECE]; 4];
        let last = (self.span.len - whole * long).saturating_sub(piece.start);
        // Whole rows, or the only one there is.
        let for_shift = whole.clamp(1, SHIFT_ROWS);
        let there = Piece {
            width: if whole == 0 {
                last.min(piece.width)
            } else {
                piece.width
            },
            ..piece
        };
        // SAFETY: promised by the caller, so here and below.
        unsafe { self.sum::<S>(round, &tensors, 0..for_shift, there, &shifts, &mut sums) };
        for i in 0..P::Measure::STREAMS {
            for lane in 0..piece.width {
                let mean = sums[2 * i][lane].to_f64() / for_shift as f64;
                shifts[i][lane] = T::Acc::from_f64(mean);
            }
        }
        for first in (0..whole).step_by(ROWS) {
            let rows = first..whole.min(first + ROWS);
            // SAFETY: as above.
            unsafe { self.sum::<S>(round, &tensors, rows.clone(), piece, &shifts, &mut sums) };
            let share = rows.len() as f64 / rows.end as f64;
            let count = rows.len() as f64;
            merge::<T, _>(&mut totals[..piece.width], &mut shifts, &sums, count, share);
        }
        // The last row of the sample, which may be short.
        if last > 0 {
            let width = last.min(piece.width);
            let piece = Piece { width, ..piece };
            // SAFETY: as above.
            unsafe { self.sum::<S>(round, &tensors, whole..whole + 1, piece, &shifts, &mut sums) };
            let share = 1. / (whole + 1) as f64;
            merge::<T, _>(&mut totals[..width], &mut shifts, &sums, 1., share);
        }
        for (lane, total) in totals.iter().enumerate().take(piece.width) {
            let part = &mut parts[(piece.start + lane) % self.rows.c];
            *part = part.merge(total);
        }
    }

    /// The sums of some rows in every lane of a piece, less its shifts.
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
        piece: Piece,
        shifts: &[Numbers<T>; 2],
        sums: &mut [Numbers<T>; 4],
    ) {
        let lanes = Register::<S, T>::LEN;
        let mut lane = 0;
        // SAFETY: promised by the caller; the registers are of lanes of the piece.
        unsafe {
            if P::Measure::STREAMS == 1 {
                while lane + 4 * lanes <= piece.width {
                    self.columns::<S, 4>(
                        round,
                        tensors,
                        &rows,
                        piece.start,
                        lane,
                        Part::Whole,
                        shifts,
                        sums,
                    );
                    lane += 4 * lanes;
                }
            }
            while lane + 2 * lanes <= piece.width {
                self.columns::<S, 2>(
                    round,
                    tensors,
                    &rows,
                    piece.start,
                    lane,
                    Part::Whole,
                    shifts,
                    sums,
                );
                lane += 2 * lanes;
            }
            while lane < piece.width {
                let part = match piece.width - lane {
                    left if left < lanes => Part::First(left),
                    _ => Part::Whole,
                };
                self.columns::<S, 1>(round, tensors, &rows, piece.start, lane, part, shifts, sums);
                lane += lanes;
            }
        }
    }

    /// [`sum`](Self::sum) of `N` registers.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for these rows; the piece has the lanes.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn columns<S: Simd, const N: usize>(
        &self,
        round: usize,
        tensors: &P::Tensors<'_>,
        rows: &Range<usize>,
        start: usize,
        lane: usize,
        part: Part,
        shifts: &[Numbers<T>; 2],
        sums: &mut [Numbers<T>; 4],
    ) {
        let zero = Register::<S, T>::default();
        let (mut all, mut shift) = ([[zero; 4]; N], [[zero; 2]; N]);
        let mut k = [P::Coefficients::default(); N];
        let width = Register::<S, T>::LEN;
        for n in 0..N {
            let lane = lane + n * width;
            k[n] = self.coefficients::<S>(start + lane, part);
            for i in 0..P::Measure::STREAMS {
                // SAFETY: the piece has the lanes; the job runs where it may.
                shift[n][i] = unsafe { Vector::load(shifts[i][lane..].as_ptr(), part) };
            }
        }
        for row in rows.clone() {
            for n in 0..N {
                let at = row * self.rows.long + start + lane + n * width;
                // SAFETY: promised by the caller.
                let [x, g] = unsafe { self.pass.load::<S, false>(round, tensors, at, part, &k[n]) };
                all[n] = P::Measure::step(all[n], [x - shift[n][0], g - shift[n][1]]);
            }
        }
        for n in 0..N {
            let lane = lane + n * width;
            for i in 0..2 * P::Measure::STREAMS {
                // SAFETY: as for the shifts.
                unsafe { all[n][i].store(sums[i][lane..].as_mut_ptr(), part) };
            }
        }
    }

    /// Writes column by column, so that the coefficients stay in registers over all rows.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn write<S: Simd, const PLAIN: bool>(&self) {
        let (tensors, long) = (self.pass.tensors(self.span), self.rows.long);
        let width = Register::<S, T>::LEN;
        let streams = self.pass.streams_after(&tensors, 0, width) == Some(0) && long % width == 0;
        let mut lane = 0;
        // SAFETY: promised by the caller.
        unsafe {
            if P::Measure::STREAMS * Register::<S, T>::REGISTERS == 1 {
                while lane + 4 * width <= long {
                    self.write_columns::<S, 4, PLAIN>(&tensors, lane, streams);
                    lane += 4 * width;
                }
            }
            while lane + 2 * width <= long {
                self.write_columns::<S, 2, PLAIN>(&tensors, lane, streams);
                lane += 2 * width;
            }
            while lane < long {
                self.write_columns::<S, 1, PLAIN>(&tensors, lane, streams);
                lane += width;
            }
        }
        if streams {
            S::fence();
        }
    }

    /// Writes `N` registers of every row, or what there is of them.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    unsafe fn write_columns<S: Simd, const N: usize, const PLAIN: bool>(
        &self,
        tensors: &P::Tensors<'_>,
        lane: usize,
        streams: bool,
    ) {
        let (long, width) = (self.rows.long, Register::<S, T>::LEN);
        let part = |end: usize, at: usize| match end.saturating_sub(at) {
            0 => None,
            left if left < width => Some(Part::First(left)),
            _ => Some(Part::Whole),
        };
        let mut k = [P::Coefficients::default(); N];
        for n in 0..N {
            let lane = lane + n * width;
            k[n] = self.coefficients::<S>(lane, part(long, lane).unwrap_or(Part::Whole));
        }
        let whole = self.span.len / long * long;
        let mut row = 0;
        if lane + N * width <= long {
            while row < whole {
                for n in 0..N {
                    let at = row + lane + n * width;
                    // SAFETY: promised by the caller, so here and below.
                    unsafe {
                        self.pass
                            .write::<S, PLAIN>(tensors, at, Part::Whole, &k[n], streams)
                    };
                }
                row += long;
            }
        }
        // What is less than a register, and the last row of a sample, which may be short.
        while row < self.span.len {
            let end = (row + long).min(self.span.len);
            for n in 0..N {
                let at = row + lane + n * width;
                if let Some(part) = part(end, at) {
                    // SAFETY: as above.
                    unsafe { self.pass.write::<S, PLAIN>(tensors, at, part, &k[n], false) };
                }
            }
            row += long;
        }
    }
}

/// Merges the sums of `count` rows, `share` of all so far, into the totals of the lanes; their means
/// are the next shifts.
#[inline(always)]
fn merge<T: Element, M: Measure>(
    totals: &mut [M],
    shifts: &mut [Numbers<T>; 2],
    sums: &[Numbers<T>; 4],
    count: f64,
    share: f64,
) {
    for (lane, total) in totals.iter_mut().enumerate() {
        let (mut shift, mut sum) = ([T::Acc::default(); 2], [0.; 4]);
        for i in 0..M::STREAMS {
            shift[i] = shifts[i][lane];
        }
        for k in 0..2 * M::STREAMS {
            sum[k] = sums[k][lane].to_f64();
        }
        let next = M::from_sums(count, wide(shift), sum);
        *total = if share == 1. {
            next
        } else {
            total.merge_with(&next, share)
        };
        let means = narrow::<T::Acc>(total.means());
        for i in 0..M::STREAMS {
            shifts[i][lane] = means[i];
        }
    }
}
