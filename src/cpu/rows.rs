//! The schedule for channels-last tensors: the lanes of a row are the channels of one place.
//!
//! Rows of few channels are taken several at once, as one long row in which the channels repeat,
//! so that every loop has enough lanes.

use super::element::{Acc, Element};
use super::moments::Measure;
use super::operand::Place;
use super::pool::for_each;
use super::set_op::{SetOp, Workspace};
use super::simd::{Isa, Kernel, Simd};
use super::sums::{add_row, wide};
use crate::plan::SEGMENT;
use crate::spec::NormSpec;

/// Lanes that are summed side by side: 1 KiB of f32 for every sum and shift, all in an L1.
const LANES: usize = 256;
/// Rows summed in the accumulator's type before they are merged in f64, as in a plane's chunk.
const ROWS: usize = 64;
/// Rows that a shift is the mean of: a shift some deviations off would cost the variance bits.
const SHIFT_ROWS: usize = 8;
/// Samples taken through each step together, in elements for each thread.
const BATCH: usize = 2 * SEGMENT;

pub fn sweep<T, O, const I: usize, const K: usize, const F: usize>(
    op: &O,
    spec: &NormSpec,
    shares: &mut [O::Share],
) where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    let planes = &spec.planes;
    let rows = Rows::new(planes.c, planes.spatial);
    let at_once = BATCH * rayon::current_num_threads() / rows.elements();
    let at_once = at_once.clamp(1, planes.n);
    for (i, shares) in shares.chunks_mut(at_once * planes.c).enumerate() {
        batch(op, &rows, i * at_once, shares);
    }
}

/// How a sample is cut into long rows and those into segments.
struct Rows {
    c: usize,
    spatial: usize,
    /// Elements of a long row, a multiple of `c`.
    long: usize,
    /// Elements of a segment, a multiple of `long`.
    segment: usize,
}

impl Rows {
    fn new(c: usize, spatial: usize) -> Self {
        let long = c * (LANES / c).max(1);
        let segment = long * (SEGMENT / long).max(1);
        Self {
            c,
            spatial,
            long,
            segment,
        }
    }

    /// Of a sample.
    fn elements(&self) -> usize {
        self.c * self.spatial
    }

    fn segments(&self) -> usize {
        self.elements().div_ceil(self.segment)
    }

    fn run(&self, sample: usize, segment: usize) -> Run {
        let start = segment * self.segment;
        Run {
            start: sample * self.elements() + start,
            len: self.segment.min(self.elements() - start),
            long: self.long,
            c: self.c,
        }
    }
}

/// Whole rows of one sample.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    len: usize,
    long: usize,
    c: usize,
}

/// The samples from `first` on: `shares` has C for each.
fn batch<T, O, const I: usize, const K: usize, const F: usize>(
    op: &O,
    rows: &Rows,
    first: usize,
    shares: &mut [O::Share],
) where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    let (c, segments) = (rows.c, rows.segments());
    let samples = shares.len() / c;
    // One array of coefficients per field, the channels repeated over a long row.
    let mut lanes = vec![[(); F].map(|_| vec![T::Acc::default(); rows.long]); samples];
    let mut coefficients = vec![[T::Acc::default(); F]; shares.len()];
    let mut parts = vec![O::Measure::default(); samples * segments * c];
    let run = |job: usize| {
        (
            job / segments,
            rows.run(first + job / segments, job % segments),
        )
    };
    for round in 0..op.rounds() {
        if op.measures(round) {
            let jobs = parts.chunks_mut(c).enumerate().collect();
            let work = |(job, parts): (usize, &mut [O::Measure]), ws: &mut Workspace<T>| {
                let (sample, run) = run(job);
                let lanes = &lanes[sample];
                Isa::best().run(MeasureRows {
                    op,
                    round,
                    run,
                    lanes,
                    parts,
                    ws,
                });
            };
            for_each(jobs, || op.workspace(), work);
        }
        let mut whole = vec![O::Measure::default(); shares.len()];
        for (whole, parts) in whole.chunks_mut(c).zip(parts.chunks(segments * c)) {
            for (i, part) in parts.iter().enumerate() {
                whole[i % c] = whole[i % c].merge(part);
            }
        }
        op.finish(round, first * c, &whole, &mut coefficients, shares);
        for (lanes, k) in lanes.iter_mut().zip(coefficients.chunks(c)) {
            for (f, lanes) in lanes.iter_mut().enumerate() {
                for (lane, value) in lanes.iter_mut().enumerate() {
                    *value = k[lane % c][f];
                }
            }
        }
    }
    if op.writes() {
        let work = |job: usize, ws: &mut Workspace<T>| {
            let (sample, run) = run(job);
            let lanes = &lanes[sample];
            Isa::best().run(WriteRows { op, run, lanes, ws });
        };
        for_each((0..samples * segments).collect(), || op.workspace(), work);
    }
}

struct MeasureRows<'a, T: Element, O, M, const I: usize, const K: usize, const F: usize> {
    op: &'a O,
    round: usize,
    run: Run,
    lanes: &'a [Vec<T::Acc>; F],
    /// One for each channel.
    parts: &'a mut [M],
    ws: &'a mut Workspace<T>,
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel
    for MeasureRows<'_, T, O, O::Measure, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            op,
            round,
            run,
            parts,
            ws,
            ..
        } = self;
        parts.fill(O::Measure::default());
        let row_count = run.len.div_ceil(run.long);
        for piece in (0..run.long).step_by(LANES) {
            let width = LANES.min(run.long - piece);
            let k = piece_of(self.lanes, piece, width);
            let mut totals = vec![O::Measure::default(); width];
            let mut shifts = [(); I].map(|_| vec![T::Acc::default(); width]);
            for block in (0..row_count).step_by(ROWS) {
                let rows = block..row_count.min(block + ROWS);
                // The last long row may be cut short, at the end of a place.
                let lanes_of =
                    |row: usize| width.min((run.len - row * run.long).saturating_sub(piece));
                if block == 0 {
                    // Whole rows, or the only one there is.
                    let whole = (row_count - 1).clamp(1, SHIFT_ROWS);
                    let share = T::Acc::from_f64(1. / whole as f64);
                    for row in 0..whole {
                        let place = Place::Row(run.start + row * run.long + piece);
                        let streams = op.load::<S, _>(round, place, lanes_of(row), k, ws);
                        for (shifts, values) in shifts.iter_mut().zip(streams) {
                            for (shift, &value) in shifts.iter_mut().zip(values) {
                                *shift += value * share;
                            }
                        }
                    }
                }
                let mut sums = [(); K].map(|_| vec![T::Acc::default(); width]);
                for row in rows.clone() {
                    let len = lanes_of(row);
                    if len > 0 {
                        let place = Place::Row(run.start + row * run.long + piece);
                        let streams = op.load::<S, _>(round, place, len, k, ws);
                        add_row::<S, T::Acc, O::Measure, I, K>(&mut sums, &shifts, streams);
                    }
                }
                // Only the last long row is ever short.
                let last = lanes_of(rows.end - 1);
                for lane in 0..width {
                    let count = rows.len() - (lane >= last) as usize;
                    if count == 0 {
                        continue;
                    }
                    let (mut shift, mut sum) = ([T::Acc::default(); I], [T::Acc::default(); K]);
                    for i in 0..I {
                        shift[i] = shifts[i][lane];
                    }
                    for k in 0..K {
                        sum[k] = sums[k][lane];
                    }
                    let part = O::Measure::from_sums(count as f64, wide(shift), wide(sum));
                    totals[lane] = totals[lane].merge(&part);
                    let means = totals[lane].means();
                    for i in 0..I {
                        shifts[i][lane] = Acc::from_f64(means[i]);
                    }
                }
            }
            for (lane, total) in totals.iter().enumerate() {
                let part = &mut parts[(piece + lane) % run.c];
                *part = part.merge(total);
            }
        }
    }
}

/// The coefficients of some lanes.
#[inline(always)]
fn piece_of<A, const F: usize>(lanes: &[Vec<A>; F], start: usize, len: usize) -> [&[A]; F] {
    let mut k = [&lanes[0][..0]; F];
    for (k, lanes) in k.iter_mut().zip(lanes) {
        *k = &lanes[start..start + len];
    }
    k
}

struct WriteRows<'a, T: Element, O, const I: usize, const K: usize, const F: usize> {
    op: &'a O,
    run: Run,
    lanes: &'a [Vec<T::Acc>; F],
    ws: &'a mut Workspace<T>,
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel for WriteRows<'_, T, O, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let run = self.run;
        for row in (0..run.len).step_by(run.long) {
            let end = run.long.min(run.len - row);
            for piece in (0..end).step_by(LANES) {
                let len = LANES.min(end - piece);
                let k = piece_of(self.lanes, piece, len);
                let place = Place::Row(run.start + row + piece);
                // SAFETY: each segment is the job of one thread.
                unsafe { self.op.write::<S, _>(place, len, k, self.ws) }
            }
        }
    }
}
