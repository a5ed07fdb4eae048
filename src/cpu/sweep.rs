//! One schedule for every pass over planes: measure a plane, finish its numbers, write a result.

use super::element::{Element, Scratch};
use super::simd::{Isa, Kernel, Simd};
use crate::plan::{CpuPlan, GROUP, SEGMENT};
use crate::shapes::Planes;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Measurements of neighbouring parts of a plane; the default is that of no part at all.
pub trait Merge: Copy + Default + Send {
    fn merge(&self, next: &Self) -> Self;
}

/// What an op does to a plane. `measure` and `write` get at most [`SEGMENT`] elements at a time,
/// and the measurements of a plane are merged in order, whatever the schedule: the result has the
/// same bits on any number of threads.
pub trait PlaneOp<T: Element>: Sync {
    /// The inputs of one plane.
    type View: Copy + Default + Sync;
    /// A value near the mean, known before the rest is measured.
    type Shift: Copy + Default;
    type Measure: Merge;
    /// What `write` needs to know of the plane.
    type Coefficients: Copy + Default + Sync;
    /// What is left of the plane for the caller.
    type Output: Copy + Default + Send;

    fn view(&self, plane: usize) -> Self::View;
    fn shift<S: Simd>(
        &self,
        view: Self::View,
        at: Range<usize>,
        ws: &mut Workspace<T>,
    ) -> Self::Shift;
    fn measure<S: Simd>(
        &self,
        view: Self::View,
        at: Range<usize>,
        shift: Self::Shift,
        ws: &mut Workspace<T>,
    ) -> Self::Measure;
    fn finish(&self, plane: usize, m: Self::Measure) -> (Self::Coefficients, Self::Output);
    fn write<S: Simd>(
        &self,
        view: Self::View,
        at: Range<usize>,
        coefficients: &Self::Coefficients,
        out: &mut [MaybeUninit<T>],
        ws: &mut Workspace<T>,
    );
}

/// Room for a chunk of x, of dy and of the result.
pub struct Workspace<T: Element> {
    pub inputs: [Scratch<T::Acc>; 2],
    pub output: Scratch<T::Acc>,
}

impl<T: Element> Workspace<T> {
    fn new() -> Self {
        Self {
            inputs: [T::scratch(), T::scratch()],
            output: T::scratch(),
        }
    }
}

/// Runs `op` over all planes and returns what each leaves; `write` is skipped without an `out`.
pub fn sweep<T: Element, O: PlaneOp<T>>(
    op: &O,
    planes: &Planes,
    mut out: Option<&mut [MaybeUninit<T>]>,
) -> Vec<O::Output> {
    let (count, spatial) = (planes.count(), planes.spatial);
    let mut outputs = vec![O::Output::default(); count];
    if planes.elements() == 0 {
        return outputs;
    }
    match CpuPlan::new(planes, rayon::current_num_threads()) {
        CpuPlan::Planes { at_once } => {
            let jobs = split(out, at_once * spatial).zip(outputs.chunks_mut(at_once));
            let jobs = jobs.enumerate().map(|(i, (out, outputs))| Job {
                first: i * at_once,
                out,
                outputs,
            });
            for_each(jobs.collect(), |job: Job<T, O>, ws| {
                Isa::best().run(WholePlanes {
                    op,
                    spatial,
                    job,
                    ws,
                })
            });
        }
        CpuPlan::Segments => {
            for (plane, output) in outputs.iter_mut().enumerate() {
                let at = plane * spatial..(plane + 1) * spatial;
                let out = out.as_deref_mut().map(|out| &mut out[at]);
                *output = plane_in_segments(op, plane, spatial, out);
            }
        }
    }
    outputs
}

/// Some planes from `first` on, with their parts of the results.
struct Job<'a, T: Element, O: PlaneOp<T>> {
    first: usize,
    out: Option<&'a mut [MaybeUninit<T>]>,
    outputs: &'a mut [O::Output],
}

/// How long a thread that has run out of jobs waits for the others awake.
const PATIENCE: Duration = Duration::from_micros(50);

/// Calls `work` for each of `jobs`, on the calling thread and on rayon's, as each gets to it.
///
/// The calling thread works too: waking another takes longer than a job.
fn for_each<T: Element, J: Send>(jobs: Vec<J>, work: impl Fn(J, &mut Workspace<T>) + Sync) {
    let helpers = rayon::current_num_threads().min(jobs.len()) - 1;
    let jobs = Mutex::new(jobs.into_iter());
    // A poisoned lock means that another thread panicked: stop, the panic is on its way.
    let next = || jobs.lock().ok()?.next();
    let run = || {
        let mut ws = Workspace::new();
        while let Some(job) = next() {
            work(job, &mut ws);
        }
    };
    if helpers == 0 {
        return run();
    }
    let busy = AtomicUsize::new(helpers);
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                run();
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        run();
        // The others are at their last job: to sleep and be woken would take longer. A thread of
        // rayon's goes on to other work instead.
        let start = Instant::now();
        let outside = rayon::current_thread_index().is_none();
        while outside && busy.load(Ordering::Acquire) > 0 && start.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
    });
}

/// The planes of a job, in groups that fit the L1 cache: each step runs over the planes of a group
/// before the next step does, so that the latencies of short sums overlap.
struct WholePlanes<'a, 'b, T: Element, O: PlaneOp<T>> {
    op: &'a O,
    spatial: usize,
    job: Job<'b, T, O>,
    ws: &'a mut Workspace<T>,
}

/// The most planes of a group.
const MOST: usize = 16;

impl<T: Element, O: PlaneOp<T>> Kernel for WholePlanes<'_, '_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            op,
            spatial,
            job,
            ws,
        } = self;
        let Job {
            first,
            mut out,
            outputs,
        } = job;
        let group = (GROUP / spatial).clamp(1, MOST);
        for start in (0..outputs.len()).step_by(group) {
            let planes = start..outputs.len().min(start + group);
            let mut views = [O::View::default(); MOST];
            let mut shifts = [O::Shift::default(); MOST];
            for (i, plane) in planes.clone().enumerate() {
                views[i] = op.view(first + plane);
                shifts[i] = op.shift::<S>(views[i], segment(0, spatial), ws);
            }
            let mut measures = [O::Measure::default(); MOST];
            for i in 0..planes.len() {
                let mut at = segment(0, spatial);
                let mut m = op.measure::<S>(views[i], at.clone(), shifts[i], ws);
                while at.end < spatial {
                    at = segment(at.end, spatial);
                    let shift = op.shift::<S>(views[i], at.clone(), ws);
                    m = m.merge(&op.measure::<S>(views[i], at.clone(), shift, ws));
                }
                measures[i] = m;
            }
            let mut coefficients = [O::Coefficients::default(); MOST];
            for (i, plane) in planes.clone().enumerate() {
                (coefficients[i], outputs[plane]) = op.finish(first + plane, measures[i]);
            }
            let Some(out) = out.as_deref_mut() else {
                continue;
            };
            for (i, plane) in planes.enumerate() {
                let out = &mut out[plane * spatial..(plane + 1) * spatial];
                let mut at = segment(0, spatial);
                while !at.is_empty() {
                    let out = &mut out[at.clone()];
                    op.write::<S>(views[i], at.clone(), &coefficients[i], out, ws);
                    at = segment(at.end, spatial);
                }
            }
        }
    }
}

fn plane_in_segments<T: Element, O: PlaneOp<T>>(
    op: &O,
    plane: usize,
    spatial: usize,
    out: Option<&mut [MaybeUninit<T>]>,
) -> O::Output {
    let view = op.view(plane);
    let mut measures = vec![O::Measure::default(); spatial.div_ceil(SEGMENT)];
    let jobs = segments(spatial).zip(&mut measures).collect();
    for_each(jobs, |(at, m): (Range<usize>, &mut O::Measure), ws| {
        *m = Isa::best().run(MeasureSegment { op, view, at, ws });
    });
    let mut whole = O::Measure::default();
    for m in &measures {
        whole = whole.merge(m);
    }
    let (coefficients, output) = op.finish(plane, whole);
    if let Some(out) = out {
        let coefficients = &coefficients;
        let jobs = segments(spatial).zip(out.chunks_mut(SEGMENT)).collect();
        for_each(
            jobs,
            |(at, out): (Range<usize>, &mut [MaybeUninit<T>]), ws| {
                Isa::best().run(WriteSegment {
                    op,
                    view,
                    at,
                    coefficients,
                    out,
                    ws,
                })
            },
        );
    }
    output
}

struct MeasureSegment<'a, T: Element, O: PlaneOp<T>> {
    op: &'a O,
    view: O::View,
    at: Range<usize>,
    ws: &'a mut Workspace<T>,
}

impl<T: Element, O: PlaneOp<T>> Kernel for MeasureSegment<'_, T, O> {
    type Output = O::Measure;

    #[inline(always)]
    fn run<S: Simd>(self) -> O::Measure {
        let Self { op, view, at, ws } = self;
        let shift = op.shift::<S>(view, at.clone(), ws);
        op.measure::<S>(view, at, shift, ws)
    }
}

struct WriteSegment<'a, T: Element, O: PlaneOp<T>> {
    op: &'a O,
    view: O::View,
    at: Range<usize>,
    coefficients: &'a O::Coefficients,
    out: &'a mut [MaybeUninit<T>],
    ws: &'a mut Workspace<T>,
}

impl<T: Element, O: PlaneOp<T>> Kernel for WriteSegment<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            op,
            view,
            at,
            coefficients,
            out,
            ws,
        } = self;
        op.write::<S>(view, at, coefficients, out, ws)
    }
}

/// Parts of `len` elements of what may be nothing.
fn split<T>(out: Option<&mut [T]>, len: usize) -> impl Iterator<Item = Option<&mut [T]>> {
    let (parts, absent) = match out {
        Some(out) => (Some(out.chunks_mut(len).map(Some)), None),
        None => (None, Some(std::iter::repeat_with(|| None))),
    };
    parts
        .into_iter()
        .flatten()
        .chain(absent.into_iter().flatten())
}

/// The segment from `start` on, empty at the end of the plane.
#[inline(always)]
fn segment(start: usize, spatial: usize) -> Range<usize> {
    start..spatial.min(start + SEGMENT)
}

fn segments(spatial: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..spatial).step_by(SEGMENT);
    starts.map(move |start| segment(start, spatial))
}
