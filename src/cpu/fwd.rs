//! `y = (x - mean) * rstd * weight + bias`

use super::element::{Acc, Element, CHUNK};
use super::moments::{near_mean, Moments};
use super::sweep::{sweep, PlaneOp, Workspace};
use super::{Input, Params};
use crate::shapes::Planes;
use std::mem::MaybeUninit;
use std::ops::Range;

struct Forward<'a, T> {
    x: Input<'a, T>,
    params: &'a Params,
    eps: f64,
}

/// `y = (x - mean) * scale + shift`. What an f32 `mean` leaves out of the mean, times `scale`, is
/// part of `shift`: at a mean of 1e4 and a deviation of 1e-2 that is up to 5 % of a deviation.
#[derive(Clone, Copy, Default)]
struct Coefficients<A> {
    mean: A,
    scale: A,
    shift: A,
}

impl<T: Element> PlaneOp<T> for Forward<'_, T> {
    type Shift = T::Acc;
    type Measure = Moments;
    type Coefficients = Coefficients<T::Acc>;
    type Output = ();

    #[inline(always)]
    fn shift(&self, plane: usize, at: Range<usize>, ws: &mut Workspace<T>) -> T::Acc {
        near_mean(&self.x.plane(plane)[at], &mut ws.inputs[0])
    }

    #[inline(always)]
    fn measure(
        &self,
        plane: usize,
        at: Range<usize>,
        shift: T::Acc,
        ws: &mut Workspace<T>,
    ) -> Moments {
        Moments::of(&self.x.plane(plane)[at], shift, &mut ws.inputs[0])
    }

    #[inline(always)]
    fn finish(&self, plane: usize, m: Moments) -> (Self::Coefficients, ()) {
        let scale = self.params.weight(plane) / (m.var() + self.eps).sqrt();
        let (mean, rest) = split(m.mean);
        let coefficients = Coefficients {
            mean,
            scale: Acc::from_f64(scale),
            shift: Acc::from_f64(self.params.bias(plane) - rest * scale),
        };
        (coefficients, ())
    }

    #[inline(always)]
    fn write(
        &self,
        plane: usize,
        at: Range<usize>,
        k: &Self::Coefficients,
        out: &mut [MaybeUninit<T>],
        ws: &mut Workspace<T>,
    ) {
        let x = &self.x.plane(plane)[at];
        for (x, y) in x.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
            let x = T::widen(x, &mut ws.inputs[0]);
            T::fill(
                y,
                &mut ws.output,
                #[inline(always)]
                |y| {
                    for (y, &x) in y.iter_mut().zip(x) {
                        y.write((x - k.mean) * k.scale + k.shift);
                    }
                },
            );
        }
    }
}

/// `v` as a number of the accumulator's type and what that leaves out.
#[inline(always)]
pub fn split<A: Acc>(v: f64) -> (A, f64) {
    let high = A::from_f64(v);
    (high, v - high.to_f64())
}

pub fn forward<T: Element>(x: Input<T>, planes: &Planes, params: &Params, eps: f64) -> Vec<T> {
    super::collect(planes.elements(), |out| {
        sweep(&Forward { x, params, eps }, planes, Some(out));
    })
}

/// The biased variance and the mean of every plane: all means, then all variances.
pub fn stats<T: Element>(x: Input<T>, planes: &Planes) -> Vec<T::Acc> {
    let moments = sweep(&Stats(x), planes, None);
    let means = moments.iter().map(|m| m.mean);
    let vars = moments.iter().map(|m| m.var());
    means.chain(vars).map(Acc::from_f64).collect()
}

struct Stats<'a, T>(Input<'a, T>);

impl<T: Element> PlaneOp<T> for Stats<'_, T> {
    type Shift = T::Acc;
    type Measure = Moments;
    type Coefficients = ();
    type Output = Moments;

    #[inline(always)]
    fn shift(&self, plane: usize, at: Range<usize>, ws: &mut Workspace<T>) -> T::Acc {
        near_mean(&self.0.plane(plane)[at], &mut ws.inputs[0])
    }

    #[inline(always)]
    fn measure(
        &self,
        plane: usize,
        at: Range<usize>,
        shift: T::Acc,
        ws: &mut Workspace<T>,
    ) -> Moments {
        Moments::of(&self.0.plane(plane)[at], shift, &mut ws.inputs[0])
    }

    #[inline(always)]
    fn finish(&self, _: usize, m: Moments) -> ((), Moments) {
        ((), m)
    }

    fn write(
        &self,
        _: usize,
        _: Range<usize>,
        _: &(),
        _: &mut [MaybeUninit<T>],
        _: &mut Workspace<T>,
    ) {
    }
}
