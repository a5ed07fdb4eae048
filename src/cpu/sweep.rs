//! One schedule for every pass over planes: measure, finish the numbers of a set, write results.

use super::element::Element;
use super::moments::Measure;
use super::pool::for_each;
use super::rows;
use super::run::{MeasureRun, Run, WriteRun};
use super::set_op::{SetOp, Workspace};
use super::simd::{Isa, Kernel, Simd};
use crate::plan::{CpuPlan, L1_ELEMENTS, SEGMENT};
use crate::shapes::Format;
use crate::spec::NormSpec;
use std::ops::Range;

/// Runs `op` over all planes and returns what each leaves.
pub fn sweep<T, O, const I: usize, const K: usize, const F: usize>(
    op: &O,
    spec: &NormSpec,
) -> Vec<O::Share>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    let planes = &spec.planes;
    let mut shares = vec![O::Share::default(); planes.count()];
    if planes.elements() == 0 {
        return shares;
    }
    if spec.format == Format::ChannelsLast {
        rows::sweep(op, spec, &mut shares);
        return shares;
    }
    let (spatial, per_set) = (planes.spatial, spec.channels_per_group);
    match CpuPlan::new(planes, per_set, rayon::current_num_threads()) {
        CpuPlan::Sets { at_once } => {
            let jobs = shares.chunks_mut(at_once * per_set).enumerate();
            let jobs = jobs.map(|(i, shares)| (i * at_once * per_set, shares));
            let state = || Batch::new(op, spatial, per_set);
            for_each(jobs.collect(), state, |(first, shares), batch| {
                Isa::best().run(WholeSets {
                    op,
                    batch,
                    first,
                    shares,
                })
            });
        }
        CpuPlan::Segments => {
            for (set, shares) in shares.chunks_mut(per_set).enumerate() {
                in_segments(op, set * per_set, spatial, shares);
            }
        }
    }
    shares
}

/// The most planes of a batch of sets.
const MOST: usize = 16;

/// The numbers of the planes that a thread has in hand.
struct Batch<T: Element, M, const I: usize, const F: usize> {
    spatial: usize,
    shifts: Vec<[T::Acc; I]>,
    measures: Vec<M>,
    coefficients: Vec<[T::Acc; F]>,
    ws: Workspace<T>,
}

impl<T: Element, M: Copy + Default, const I: usize, const F: usize> Batch<T, M, I, F> {
    /// Room for as many sets as fit the L1 cache: each step runs over the planes of a batch before
    /// the next step does, so that the latencies of short sums overlap.
    fn new<O, const K: usize>(op: &O, spatial: usize, per_set: usize) -> Self
    where
        O: SetOp<T, I, K, F, Measure = M>,
        M: Measure<I, K>,
    {
        let sets = (L1_ELEMENTS / (spatial * per_set)).clamp(1, (MOST / per_set).max(1));
        let planes = sets * per_set;
        Self {
            spatial,
            shifts: vec![[T::Acc::default(); I]; planes],
            measures: vec![M::default(); planes],
            coefficients: vec![[T::Acc::default(); F]; planes],
            ws: op.workspace(),
        }
    }
}

/// The sets of the planes from `first` on, as many as there are `shares`.
struct WholeSets<'a, T: Element, O, M, R, const I: usize, const K: usize, const F: usize> {
    op: &'a O,
    batch: &'a mut Batch<T, M, I, F>,
    first: usize,
    shares: &'a mut [R],
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel
    for WholeSets<'_, T, O, O::Measure, O::Share, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (op, mut first) = (self.op, self.first);
        let Batch {
            spatial,
            shifts,
            measures,
            coefficients,
            ws,
        } = self.batch;
        let spatial = *spatial;
        for shares in self.shares.chunks_mut(measures.len()) {
            let planes = shares.len();
            let measures = &mut measures[..planes];
            let coefficients = &mut coefficients[..planes];
            for round in 0..op.rounds() {
                if op.measures(round) {
                    for i in 0..planes {
                        let run = Run::of_plane(first + i, segment(0, spatial), coefficients[i]);
                        shifts[i] = run.shift::<S, T, O, I, K>(op, round, ws);
                    }
                    for i in 0..planes {
                        let mut at = segment(0, spatial);
                        let run = Run::of_plane(first + i, at.clone(), coefficients[i]);
                        let mut m = run.measure::<S, T, O, I, K>(op, round, shifts[i], ws);
                        while at.end < spatial {
                            at = segment(at.end, spatial);
                            let run = Run::of_plane(first + i, at.clone(), coefficients[i]);
                            let shift = run.shift::<S, T, O, I, K>(op, round, ws);
                            m = m.merge(&run.measure::<S, T, O, I, K>(op, round, shift, ws));
                        }
                        measures[i] = m;
                    }
                }
                op.finish(round, first, measures, coefficients, shares);
            }
            if op.writes() {
                for (i, &k) in coefficients.iter().enumerate().rev() {
                    let run = Run::of_plane(first + i, 0..spatial, k);
                    // SAFETY: the job has these planes to itself.
                    unsafe { run.write::<S, T, O, I, K>(op, ws) }
                }
            }
            first += planes;
        }
    }
}

/// The planes from `first` on, one set, by all threads.
fn in_segments<T, O, const I: usize, const K: usize, const F: usize>(
    op: &O,
    first: usize,
    spatial: usize,
    shares: &mut [O::Share],
) where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    let planes = shares.len();
    let segments = spatial.div_ceil(SEGMENT);
    let mut coefficients = vec![[T::Acc::default(); F]; planes];
    let mut parts = vec![O::Measure::default(); planes * segments];
    let run = |job: usize, coefficients: &[[T::Acc; F]]| {
        let (plane, at) = (job / segments, segment(job % segments * SEGMENT, spatial));
        Run::of_plane(first + plane, at, coefficients[plane])
    };
    for round in 0..op.rounds() {
        if op.measures(round) {
            let jobs = parts.iter_mut().enumerate().collect();
            let work = |(job, part): (usize, &mut O::Measure), ws: &mut Workspace<T>| {
                let run = run(job, &coefficients);
                *part = Isa::best().run(MeasureRun { op, round, run, ws });
            };
            for_each(jobs, || op.workspace(), work);
        }
        let mut whole = vec![O::Measure::default(); planes];
        for (whole, parts) in whole.iter_mut().zip(parts.chunks(segments)) {
            for part in parts {
                *whole = whole.merge(part);
            }
        }
        op.finish(round, first, &whole, &mut coefficients, shares);
    }
    if op.writes() {
        let jobs = (0..planes * segments).collect();
        let work = |job: usize, ws: &mut Workspace<T>| {
            let run = run(job, &coefficients);
            Isa::best().run(WriteRun { op, run, ws });
        };
        for_each(jobs, || op.workspace(), work);
    }
}

/// The segment from `start` on, empty at the end of the plane.
#[inline(always)]
fn segment(start: usize, spatial: usize) -> Range<usize> {
    start..spatial.min(start + SEGMENT)
}
