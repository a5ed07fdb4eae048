//! One schedule for every pass over planes: measure a plane, finish its numbers, write a result.

use super::element::{Element, Scratch};
use super::simd::Isa;
use crate::plan::{CpuPlan, SEGMENT};
use crate::shapes::Planes;
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Measurements of neighbouring parts of a plane; the default is that of no part at all.
pub trait Merge: Default + Send {
    fn merge(&self, next: &Self) -> Self;
}

/// What an op does to a plane. `measure` and `write` get at most [`SEGMENT`] elements at a time,
/// and the measurements of a plane are merged in order, whatever the schedule: the result has the
/// same bits on any number of threads.
pub trait PlaneOp<T: Element>: Sync {
    type Measure: Merge;
    /// What `write` needs to know of the plane.
    type Coefficients: Sync;
    /// What is left of the plane for the caller.
    type Output: Send;

    fn measure(&self, plane: usize, at: Range<usize>, scratch: &mut Workspace<T>) -> Self::Measure;
    fn finish(&self, plane: usize, m: Self::Measure) -> (Self::Coefficients, Self::Output);
    fn write(
        &self,
        plane: usize,
        at: Range<usize>,
        coefficients: &Self::Coefficients,
        out: &mut [MaybeUninit<T>],
        scratch: &mut Workspace<T>,
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

/// Runs `op` over all planes; `write` is skipped where `out` is `None`.
pub fn sweep<T: Element, O: PlaneOp<T>>(
    op: &O,
    planes: &Planes,
    out: Option<&mut [MaybeUninit<T>]>,
) -> Vec<O::Output> {
    let (count, spatial) = (planes.count(), planes.spatial);
    if count == 0 {
        return Vec::new();
    }
    let threads = rayon::current_num_threads();
    // Outputs are handed out plane by plane; `None` stands for a plane that is only measured.
    let mut outs: Vec<Option<&mut [MaybeUninit<T>]>> = match out {
        Some(out) if spatial > 0 => out.chunks_mut(spatial).map(Some).collect(),
        _ => (0..count).map(|_| None).collect(),
    };
    match CpuPlan::new(planes, threads) {
        CpuPlan::Planes { at_once } => outs
            .par_iter_mut()
            .enumerate()
            .with_min_len(at_once)
            .map_init(Workspace::new, |ws, (plane, out)| {
                Isa::best().run(|| one_plane(op, plane, spatial, out.as_deref_mut(), ws))
            })
            .collect(),
        CpuPlan::Segments => outs
            .iter_mut()
            .enumerate()
            .map(|(plane, out)| plane_in_segments(op, plane, spatial, out.as_deref_mut()))
            .collect(),
    }
}

#[inline(always)]
fn one_plane<T: Element, O: PlaneOp<T>>(
    op: &O,
    plane: usize,
    spatial: usize,
    out: Option<&mut [MaybeUninit<T>]>,
    ws: &mut Workspace<T>,
) -> O::Output {
    let m = segments(spatial).fold(O::Measure::default(), |m, at| {
        m.merge(&op.measure(plane, at, ws))
    });
    let (coefficients, output) = op.finish(plane, m);
    if let Some(out) = out {
        for at in segments(spatial) {
            op.write(plane, at.clone(), &coefficients, &mut out[at], ws);
        }
    }
    output
}

fn plane_in_segments<T: Element, O: PlaneOp<T>>(
    op: &O,
    plane: usize,
    spatial: usize,
    out: Option<&mut [MaybeUninit<T>]>,
) -> O::Output {
    let all: Vec<_> = segments(spatial).collect();
    let measures: Vec<O::Measure> = all
        .par_iter()
        .map_init(Workspace::new, |ws, at| {
            Isa::best().run(|| op.measure(plane, at.clone(), ws))
        })
        .collect();
    let m = measures
        .iter()
        .fold(O::Measure::default(), |m, next| m.merge(next));
    let (coefficients, output) = op.finish(plane, m);
    if let Some(out) = out {
        all.par_iter()
            .zip(out.par_chunks_mut(SEGMENT))
            .for_each_init(Workspace::new, |ws, (at, out)| {
                Isa::best().run(|| op.write(plane, at.clone(), &coefficients, out, ws))
            });
    }
    output
}

fn segments(spatial: usize) -> impl Iterator<Item = Range<usize>> {
    (0..spatial)
        .step_by(SEGMENT)
        .map(move |start| start..spatial.min(start + SEGMENT))
}
