//! One schedule for every pass over planes: measure, finish the numbers of a set, write results.

use super::element::{Acc, Element, Scratch, CHUNK};
use super::moments::{for_shift, means, measure, narrow, Measure};
use super::operand::Place;
use super::pool::for_each;
use super::rows;
use super::simd::{Isa, Kernel, Simd};
use crate::args::Norm;
use crate::plan::{CpuPlan, GROUP, SEGMENT};
use crate::shapes::Format;
use std::ops::Range;

/// Numbers that go with the elements of a run: one for all, or one for each.
pub trait Lanes<A>: Copy {
    /// Those of the first `len` elements.
    fn cut(self, len: usize) -> Self;
    fn at(self, i: usize) -> A;
}

/// One number for all elements.
#[derive(Clone, Copy)]
pub struct Splat<A>(A);

impl<A: Copy> Lanes<A> for Splat<A> {
    #[inline(always)]
    fn cut(self, _: usize) -> Self {
        self
    }
    #[inline(always)]
    fn at(self, _: usize) -> A {
        self.0
    }
}

impl<A: Copy> Lanes<A> for &[A] {
    #[inline(always)]
    fn cut(self, len: usize) -> Self {
        &self[..len]
    }
    #[inline(always)]
    fn at(self, i: usize) -> A {
        self[i]
    }
}

/// What an op does to the planes of a set, which share their statistics: `I` streams of values are
/// measured by `K` sums, and `F` coefficients of each plane tell how to write its results.
///
/// The measurements of a plane are merged in order, whatever the schedule: the result has the same
/// bits on any number of threads. `load` and `write` get at most [`CHUNK`] elements.
pub trait SetOp<T: Element, const I: usize, const K: usize, const F: usize>: Sync {
    type Measure: Measure<I, K>;
    /// What is left of a plane for the caller.
    type Share: Copy + Default + Send;

    /// How often `finish` is called for a set: twice where what the second round measures depends
    /// on the coefficients of the first.
    fn rounds(&self) -> usize {
        1
    }
    /// Whether the planes are measured before a round, or its measurements are those of nothing.
    fn measures(&self, round: usize) -> bool;
    fn workspace(&self) -> Workspace<T>;

    fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        round: usize,
        place: Place,
        len: usize,
        coefficients: [V; F],
        ws: &'w mut Workspace<T>,
    ) -> [&'w [T::Acc]; I];

    /// The coefficients and shares of whole sets of planes from `first` on.
    fn finish(
        &self,
        round: usize,
        first: usize,
        measures: &[Self::Measure],
        coefficients: &mut [[T::Acc; F]],
        shares: &mut [Self::Share],
    );

    /// Whether there is anything to write.
    fn writes(&self) -> bool;
    /// # Safety
    ///
    /// No other thread has the place, and each is written once.
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        place: Place,
        len: usize,
        coefficients: [V; F],
        ws: &mut Workspace<T>,
    );
}

/// Room for a chunk of everything that a pass reads, computes and writes.
pub struct Workspace<T: Element> {
    pub reads: Reads<T>,
    /// A weight per element, read once more.
    pub beside: Scratch<T::Acc>,
    /// [`CHUNK`] gradients of the normalized values; or empty.
    pub g: Vec<T::Acc>,
    pub output: Scratch<T::Acc>,
}

/// Room for what is read, and for the values before the activation.
pub struct Reads<T: Element> {
    pub x: Scratch<T::Acc>,
    pub dy: Scratch<T::Acc>,
    /// Parameters per element, one after the other.
    pub beside: Scratch<T::Acc>,
    pub residual: Scratch<T::Acc>,
    /// [`CHUNK`] values before the activation, then their gradients; or empty.
    pub v: Vec<T::Acc>,
}

impl<T: Element> Workspace<T> {
    pub fn new(values: bool, gradients: bool) -> Self {
        let room = |wanted| vec![T::Acc::default(); if wanted { CHUNK } else { 0 }];
        Self {
            reads: Reads {
                x: T::scratch(),
                dy: T::scratch(),
                beside: T::scratch(),
                residual: T::scratch(),
                v: room(values),
            },
            beside: T::scratch(),
            g: room(gradients),
            output: T::scratch(),
        }
    }
}

/// Runs `op` over all planes and returns what each leaves.
pub fn sweep<T, O, const I: usize, const K: usize, const F: usize>(
    op: &O,
    norm: &Norm,
) -> Vec<O::Share>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    let planes = &norm.planes;
    let mut shares = vec![O::Share::default(); planes.count()];
    if planes.elements() == 0 {
        return shares;
    }
    if norm.format == Format::ChannelsLast {
        rows::sweep(op, norm, &mut shares);
        return shares;
    }
    let (spatial, per_set) = (planes.spatial, norm.channels_per_group);
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
        let sets = (GROUP / (spatial * per_set)).clamp(1, (MOST / per_set).max(1));
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

/// Adjacent elements with the same coefficients.
struct Run<A, const F: usize> {
    place: Place,
    len: usize,
    coefficients: [Splat<A>; F],
}

impl<A: Acc, const F: usize> Run<A, F> {
    #[inline(always)]
    fn of_plane(plane: usize, at: Range<usize>, coefficients: [A; F]) -> Self {
        let len = at.len();
        let place = Place::Plane {
            plane,
            at: at.start,
        };
        Self {
            place,
            len,
            coefficients: coefficients.map(Splat),
        }
    }

    /// Values near the means of the streams at the start of the run.
    #[inline(always)]
    fn shift<S, T, O, const I: usize, const K: usize>(
        &self,
        op: &O,
        round: usize,
        ws: &mut Workspace<T>,
    ) -> [T::Acc; I]
    where
        S: Simd,
        T: Element<Acc = A>,
        O: SetOp<T, I, K, F>,
    {
        let len = for_shift(self.len.min(CHUNK));
        means(op.load::<S, _>(round, self.place, len, self.coefficients, ws))
    }

    #[inline(always)]
    fn measure<S, T, O, const I: usize, const K: usize>(
        &self,
        op: &O,
        round: usize,
        mut shifts: [T::Acc; I],
        ws: &mut Workspace<T>,
    ) -> O::Measure
    where
        S: Simd,
        T: Element<Acc = A>,
        O: SetOp<T, I, K, F>,
    {
        let mut total = O::Measure::default();
        for at in (0..self.len).step_by(CHUNK) {
            let (place, len) = (self.place.plus(at), CHUNK.min(self.len - at));
            let streams = op.load::<S, _>(round, place, len, self.coefficients, ws);
            total = total.merge(&measure::<S, A, O::Measure, I, K>(streams, shifts));
            shifts = narrow(total.means());
        }
        total
    }

    /// # Safety
    ///
    /// As [`SetOp::write`].
    #[inline(always)]
    unsafe fn write<S, T, O, const I: usize, const K: usize>(&self, op: &O, ws: &mut Workspace<T>)
    where
        S: Simd,
        T: Element<Acc = A>,
        O: SetOp<T, I, K, F>,
    {
        // From the end: what was measured last is still in a cache.
        let mut end = self.len;
        while end > 0 {
            let at = (end - 1) / CHUNK * CHUNK;
            let (place, len) = (self.place.plus(at), end - at);
            end = at;
            // SAFETY: promised by the caller.
            unsafe { op.write::<S, _>(place, len, self.coefficients, ws) }
        }
    }
}

struct MeasureRun<'a, T: Element, O, const I: usize, const K: usize, const F: usize> {
    op: &'a O,
    round: usize,
    run: Run<T::Acc, F>,
    ws: &'a mut Workspace<T>,
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel for MeasureRun<'_, T, O, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = O::Measure;

    #[inline(always)]
    fn run<S: Simd>(self) -> O::Measure {
        let (op, round, ws) = (self.op, self.round, self.ws);
        let shifts = self.run.shift::<S, T, O, I, K>(op, round, ws);
        self.run.measure::<S, T, O, I, K>(op, round, shifts, ws)
    }
}

struct WriteRun<'a, T: Element, O, const I: usize, const K: usize, const F: usize> {
    op: &'a O,
    run: Run<T::Acc, F>,
    ws: &'a mut Workspace<T>,
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel for WriteRun<'_, T, O, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: each segment is the job of one thread.
        unsafe { self.run.write::<S, T, O, I, K>(self.op, self.ws) }
    }
}

/// The segment from `start` on, empty at the end of the plane.
#[inline(always)]
fn segment(start: usize, spatial: usize) -> Range<usize> {
    start..spatial.min(start + SEGMENT)
}
