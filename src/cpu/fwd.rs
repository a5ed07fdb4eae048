//! `y = (x - mean) * rstd * weight + bias`

use super::element::{Acc, Element, CHUNK};
use super::moments::Moments;
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

/// `((x - mean) - rest) * scale + bias`, where `mean + rest` is the mean beyond an f32's digits.
struct Coefficients<A> {
    mean: A,
    rest: A,
    scale: A,
    bias: A,
}

impl<T: Element> PlaneOp<T> for Forward<'_, T> {
    type Measure = Moments;
    type Coefficients = Coefficients<T::Acc>;
    type Output = ();

    #[inline(always)]
    fn measure(&self, plane: usize, at: Range<usize>, ws: &mut Workspace<T>) -> Moments {
        Moments::of(&self.x.plane(plane)[at], &mut ws.inputs[0])
    }

    fn finish(&self, plane: usize, m: Moments) -> (Self::Coefficients, ()) {
        let scale = self.params.weight(plane) / (m.var() + self.eps).sqrt();
        let (mean, rest) = split(m.mean);
        let coefficients = Coefficients {
            mean,
            rest,
            scale: Acc::from_f64(scale),
            bias: Acc::from_f64(self.params.bias(plane)),
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
            T::fill(y, &mut ws.output, |y| {
                for (y, &x) in y.iter_mut().zip(x) {
                    y.write(((x - k.mean) - k.rest) * k.scale + k.bias);
                }
            });
        }
    }
}

/// `v` as a number of the accumulator's type and what that leaves out.
pub fn split<A: Acc>(v: f64) -> (A, A) {
    let high = A::from_f64(v);
    (high, A::from_f64(v - high.to_f64()))
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
    type Measure = Moments;
    type Coefficients = ();
    type Output = Moments;

    #[inline(always)]
    fn measure(&self, plane: usize, at: Range<usize>, ws: &mut Workspace<T>) -> Moments {
        Moments::of(&self.0.plane(plane)[at], &mut ws.inputs[0])
    }

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
