//! One schedule for every pass over planes: measure, finish the numbers of a group, write results.

use super::channels_last;
use super::element::Element;
use super::moments::Measure;
use super::operand::Span;
use super::pass::GroupPass;
use super::pool::for_each;
use super::simd::{Isa, Simd, SimdJob};
use super::sums::{measure, measure_about, measure_short, shifts_of, short_len, write};
use crate::plan::{CpuPlan, L1_ELEMENTS, SEGMENT};
use crate::shapes::Format;
use crate::spec::NormSpec;

/// Runs `pass` over all planes and returns the share of each.
pub fn run<T: Element, P: GroupPass<T>>(pass: &P, spec: &NormSpec) -> Vec<P::Share> {
    let planes = &spec.planes;
    let mut shares = vec![P::Share::default(); planes.count()];
    if planes.elements() == 0 {
        return shares;
    }
    if spec.format == Format::ChannelsLast {
        channels_last::run(pass, spec, &mut shares);
        return shares;
    }
    let (spatial, per_group) = (planes.spatial, spec.channels_per_group);
    let threads = rayon::current_num_threads();
    match CpuPlan::new(planes, per_group, threads) {
        CpuPlan::WholeGroups { at_once } => {
            let jobs = shares.chunks_mut(at_once * per_group).enumerate();
            let jobs = jobs.map(|(i, shares)| (i * at_once * per_group, shares));
            let state = || WholeGroups::new(pass, spatial, per_group);
            for_each(threads, jobs.collect(), state, |(first, shares), groups| {
                (groups.first, groups.shares) = (first, shares);
                Isa::best().run(groups)
            });
        }
        CpuPlan::Segments => {
            for (group, shares) in shares.chunks_mut(per_group).enumerate() {
                in_segments(pass, threads, group * per_group, spatial, shares);
            }
        }
    }
    shares
}

/// The most planes of a batch, unless a group has more.
const MAX_PLANES: usize = 16;

/// A thread's work on whole groups: a batch of them goes through each step before the next step
/// begins, so that the latencies of short sums overlap.
struct WholeGroups<'a, T: Element, P: GroupPass<T>> {
    pass: &'a P,
    spatial: usize,
    /// The first plane of the job, and the shares of all of its planes.
    first: usize,
    shares: &'a mut [P::Share],
    /// Of each plane of a batch its shifts, measurements and coefficients.
    shifts: Vec<[T::Acc; 2]>,
    measures: Vec<P::Measure>,
    coefficients: Vec<P::Coefficients<T::Acc>>,
}

impl<'a, T: Element, P: GroupPass<T>> WholeGroups<'a, T, P> {
    /// Batches of as many groups as fit the L1 cache.
    fn new(pass: &'a P, spatial: usize, per_group: usize) -> Self {
        let groups =
            (L1_ELEMENTS / (spatial * per_group)).clamp(1, (MAX_PLANES / per_group).max(1));
        let planes = groups * per_group;
        Self {
            pass,
            spatial,
            first: 0,
            shares: &mut [],
            shifts: vec![[T::Acc::default(); 2]; planes],
            measures: vec![P::Measure::default(); planes],
            coefficients: vec![P::Coefficients::default(); planes],
        }
    }
}

impl<T: Element, P: GroupPass<T>> SimdJob for &mut WholeGroups<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        if self.pass.is_plain() {
            self.all::<S, true>();
        } else {
            self.all::<S, false>();
        }
    }
}

impl<T: Element, P: GroupPass<T>> WholeGroups<'_, T, P> {
    #[inline(always)]
    fn all<S: Simd, const PLAIN: bool>(&mut self) {
        let WholeGroups {
            pass,
            spatial,
            shifts,
            measures,
            coefficients,
            ..
        } = self;
        let (pass, spatial, mut first) = (*pass, *spatial, self.first);
        let all = std::mem::take(&mut self.shares);
        let mut spans = Spans::new(pass, spatial, first, all.len());
        let begin = spatial.min(SEGMENT);
        for shares in all.chunks_mut(measures.len()) {
            let planes = shares.len();
            let measures = &mut measures[..planes];
            let coefficients = &mut coefficients[..planes];
            for round in 0..pass.rounds() {
                if pass.measures(round) && spatial <= short_len::<S, T>() {
                    for i in 0..planes {
                        let (of, range) = spans.of(first + i, spatial);
                        let k = coefficients[i];
                        // SAFETY: jobs are of different planes, and this one loads no element that
                        // it has written. So here and below.
                        measures[i] =
                            unsafe { measure_short::<S, _, _, PLAIN>(pass, round, of, range, k) };
                    }
                } else if pass.measures(round) {
                    for i in 0..planes {
                        let (of, range) = spans.of(first + i, begin);
                        let k = coefficients[i];
                        // SAFETY: as above, here and below.
                        shifts[i] =
                            unsafe { shifts_of::<S, _, _, PLAIN>(pass, round, of, range, k) };
                    }
                    for i in 0..planes {
                        let (of, range) = spans.of(first + i, begin);
                        let (k, shift) = (coefficients[i], shifts[i]);
                        // SAFETY: as above, here and below.
                        let mut m = unsafe {
                            measure_about::<S, _, _, PLAIN>(pass, round, of, range, k, shift)
                        };
                        for start in (SEGMENT..spatial).step_by(SEGMENT) {
                            let mut next = P::Measure::default();
                            S::call(SegmentJob {
                                pass,
                                span: segment(first + i, start, spatial),
                                coefficients: k,
                                measured: Some((round, &mut next)),
                            });
                            m = m.merge(&next);
                        }
                        measures[i] = m;
                    }
                }
                // SAFETY: as above, and groups are whole.
                unsafe { pass.finish(round, first, measures, coefficients, shares) }
            }
            if pass.writes() {
                // What was measured last is still in a cache; where all is, in the order of memory.
                let in_cache = planes * spatial <= L1_ELEMENTS;
                for i in 0..planes {
                    let i = if in_cache { i } else { planes - 1 - i };
                    let (of, range) = spans.of(first + i, spatial);
                    // SAFETY: as above.
                    unsafe { write::<S, _, _, PLAIN>(pass, of, range, coefficients[i]) }
                }
            }
            first += planes;
        }
        // Once, and not after every plane: it waits until all stores are in memory.
        S::fence();
    }
}

/// Where the elements of a job's planes are: in one span, if they can be. A span of its own for each plane
/// took a fifth of the instructions, with AVX2, where a plane has 49 elements.
struct Spans<'a, T: Element, P: GroupPass<T> + 'a> {
    pass: &'a P,
    spatial: usize,
    adjacent: bool,
    /// The first plane of the span.
    first: usize,
    tensors: P::Tensors<'a>,
}

impl<'a, T: Element, P: GroupPass<T>> Spans<'a, T, P> {
    #[inline(always)]
    fn new(pass: &'a P, spatial: usize, first: usize, planes: usize) -> Self {
        let adjacent = pass.are_adjacent();
        let planes = if adjacent { planes } else { 1 };
        Self {
            pass,
            spatial,
            adjacent,
            first,
            tensors: pass.tensors(plane(first, planes * spatial)),
        }
    }

    /// A span with the first `len` elements of a plane, and their range in it.
    #[inline(always)]
    fn of(&mut self, index: usize, len: usize) -> (&P::Tensors<'a>, [usize; 2]) {
        let start = if self.adjacent {
            (index - self.first) * self.spatial
        } else {
            self.tensors = self.pass.tensors(plane(index, self.spatial));
            0
        };
        (&self.tensors, [start, start + len])
    }
}

/// The planes from `first` on, one group, by all threads.
fn in_segments<T: Element, P: GroupPass<T>>(
    pass: &P,
    threads: usize,
    first: usize,
    spatial: usize,
    shares: &mut [P::Share],
) {
    let planes = shares.len();
    let segments = spatial.div_ceil(SEGMENT);
    let mut coefficients = vec![P::Coefficients::default(); planes];
    let mut parts = vec![P::Measure::default(); planes * segments];
    let run = |index, coefficients: &[_], measured: Option<(usize, &mut _)>| {
        let plane = index / segments;
        Isa::best().run(SegmentJob {
            pass,
            span: segment(first + plane, index % segments * SEGMENT, spatial),
            coefficients: coefficients[plane],
            measured,
        });
    };
    for round in 0..pass.rounds() {
        if pass.measures(round) {
            let work = |(index, part): (usize, &mut P::Measure), _: &mut ()| {
                run(index, &coefficients, Some((round, part)));
            };
            let jobs = parts.iter_mut().enumerate().collect();
            for_each(threads, jobs, || (), work);
        }
        let mut whole = vec![P::Measure::default(); planes];
        for (whole, parts) in whole.iter_mut().zip(parts.chunks(segments)) {
            for part in parts {
                *whole = whole.merge(part);
            }
        }
        // SAFETY: the jobs have ended, and the groups are whole.
        unsafe { pass.finish(round, first, &whole, &mut coefficients, shares) }
    }
    if pass.writes() {
        let work = |index, _: &mut ()| run(index, &coefficients, None);
        for_each(threads, (0..planes * segments).collect(), || (), work);
    }
}

#[inline(always)]
fn plane(plane: usize, spatial: usize) -> Span {
    let (start, len) = (0, spatial);
    Span { plane, start, len }
}

/// The segment of a plane that begins at `start`, empty at the end of the plane.
#[inline(always)]
fn segment(plane: usize, start: usize, spatial: usize) -> Span {
    let len = SEGMENT.min(spatial - start);
    Span { plane, start, len }
}

struct SegmentJob<'a, T: Element, P: GroupPass<T>> {
    pass: &'a P,
    span: Span,
    coefficients: P::Coefficients<T::Acc>,
    /// The round to measure for and the result; or `None` to write.
    measured: Option<(usize, &'a mut P::Measure)>,
}

impl<T: Element, P: GroupPass<T>> SimdJob for SegmentJob<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (pass, k) = (self.pass, self.coefficients);
        let range = [0, self.span.len];
        let tensors = &pass.tensors(self.span);
        // SAFETY: the jobs that run at a time are of different segments, and either measure or
        // write.
        unsafe {
            match self.measured {
                Some((round, to)) => {
                    *to = measure::<S, _, _, false>(pass, round, tensors, range, k);
                }
                None => {
                    write::<S, _, _, false>(pass, tensors, range, k);
                    S::fence();
                }
            }
        }
    }
}
