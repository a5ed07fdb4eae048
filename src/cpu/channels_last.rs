//! The schedule for channels-last tensors: as `schedule.rs`, by all threads on some samples at a
//! time, whose segments are rows of channels.

use super::element::Element;
use super::moments::Measure;
use super::pass::GroupPass;
use super::pool::for_each;
use super::rows::{RowLayout, RowsJob};
use super::simd::Isa;
use crate::plan::SEGMENT;
use crate::spec::NormSpec;

/// Samples taken through each step together, in elements for each thread.
const BATCH: usize = 2 * SEGMENT;

/// Planes whose segments a task merges.
const MERGED: usize = 64;

pub fn run<T: Element, P: GroupPass<T>>(pass: &P, spec: &NormSpec, shares: &mut [P::Share]) {
    let planes = &spec.planes;
    let rows = RowLayout::new(planes.c, planes.spatial);
    let threads = rayon::current_num_threads();
    let each_alone = planes.n.is_multiple_of(threads) || planes.n >= 4 * threads;
    if each_alone && rows.elements() >= BATCH {
        // Nobody waits for another, which took a sixth of the time of 8x256x64x64 in f16 on two threads.
        let jobs = shares.chunks_mut(planes.c).enumerate().collect();
        let work =
            |(sample, shares): (usize, &mut [_]), _: &mut ()| batch(pass, 1, &rows, sample, shares);
        return for_each(threads, jobs, || (), work);
    }
    let at_once = BATCH * threads / rows.elements();
    let at_once = at_once.clamp(1, planes.n);
    for (i, shares) in shares.chunks_mut(at_once * planes.c).enumerate() {
        batch(pass, threads, &rows, i * at_once, shares);
    }
}

/// The samples from `first` on, by so many threads: `shares` has C for each.
fn batch<T: Element, P: GroupPass<T>>(
    pass: &P,
    threads: usize,
    rows: &RowLayout,
    first: usize,
    shares: &mut [P::Share],
) {
    let (c, segments) = (rows.c, rows.segments());
    let samples = shares.len() / c;
    let mut coefficients = vec![P::Coefficients::default(); shares.len()];
    // For each sample an array of every coefficient, the channels repeated over a long row.
    let mut lanes = vec![vec![T::Acc::default(); P::COEFFICIENTS * rows.long]; samples];
    let mut parts = vec![P::Measure::default(); samples * segments * c];
    let run = |index: usize, lanes: &[Vec<_>], measured: Option<(usize, &mut _)>| {
        let sample = index / segments;
        Isa::best().run(RowsJob {
            pass,
            rows,
            span: rows.span(first + sample, index % segments),
            lanes: &lanes[sample],
            measured,
        });
    };
    for round in 0..pass.rounds() {
        if pass.measures(round) {
            let work = |(index, part): (usize, &mut [P::Measure]), _: &mut ()| {
                run(index, &lanes, Some((round, part)));
            };
            let jobs = parts.chunks_mut(c).enumerate().collect();
            for_each(threads, jobs, || (), work);
        }
        let mut whole = vec![P::Measure::default(); shares.len()];
        let merge = |(index, whole): (usize, &mut [P::Measure]), _: &mut ()| {
            let first = index * MERGED;
            let mut count = 0.;
            for segment in 0..segments {
                // The channels of a segment have as many values each, in every sample.
                let more = parts[segment * c].x().n;
                count += more;
                let share = more / count;
                for (plane, whole) in (first..).zip(whole.iter_mut()) {
                    let part = &parts[(plane / c * segments + segment) * c + plane % c];
                    *whole = if segment == 0 {
                        *part
                    } else {
                        whole.merge_with(part, share)
                    };
                }
            }
        };
        let jobs = whole.chunks_mut(MERGED).enumerate().collect();
        for_each(threads, jobs, || (), merge);
        // SAFETY: the jobs have ended, and the groups of a sample are whole.
        unsafe { pass.finish(round, first * c, &whole, &mut coefficients, shares) }
        for (lanes, channels) in lanes.iter_mut().zip(coefficients.chunks(c)) {
            repeat::<T, P>(channels, rows.long, lanes);
        }
    }
    if pass.writes() {
        let work = |index, _: &mut ()| run(index, &lanes, None);
        for_each(threads, (0..samples * segments).collect(), || (), work);
    }
}

/// Fills `lanes` with `long` of each coefficient.
fn repeat<T: Element, P: GroupPass<T>>(
    channels: &[P::Coefficients<T::Acc>],
    long: usize,
    lanes: &mut [T::Acc],
) {
    for lane in 0..long {
        let mut fields = lanes[lane..].iter_mut().step_by(long);
        P::map(channels[lane % channels.len()], |v| {
            if let Some(field) = fields.next() {
                *field = v;
            }
            v
        });
    }
}
