//! `y = (x - mean) * rstd * weight + bias`

use super::element::{Acc, Element, CHUNK};
use super::moments::{near_mean, Moments};
use super::simd::Simd;
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

/// The mean and the biased variance of a plane.
#[derive(Clone, Copy, Default)]
struct Stats<A> {
    mean: A,
    var: A,
}

impl<'a, T: Element> PlaneOp<T> for Forward<'a, T> {
    type View = &'a [T];
    type Shift = T::Acc;
    type Measure = Moments;
    type Coefficients = Coefficients<T::Acc>;
    type Output = Stats<T::Acc>;

    #[inline(always)]
    fn view(&self, plane: usize) -> &'a [T] {
        self.x.plane(plane)
    }

    #[inline(always)]
    fn shift<S: Simd>(&self, x: &[T], at: Range<usize>, ws: &mut Workspace<T>) -> T::Acc {
        near_mean::<S, T>(&x[at], &mut ws.inputs[0])
    }

    #[inline(always)]
    fn measure<S: Simd>(
        &self,
        x: &[T],
        at: Range<usize>,
        shift: T::Acc,
        ws: &mut Workspace<T>,
    ) -> Moments {
        Moments::of::<S, T>(&x[at], shift, &mut ws.inputs[0])
    }

    #[inline(always)]
    fn finish(&self, plane: usize, m: Moments) -> (Self::Coefficients, Self::Output) {
        let var = m.var();
        let scale = self.params.weight(plane) / (var + self.eps).sqrt();
        let (mean, rest) = split(m.mean);
        let coefficients = Coefficients {
            mean,
            scale: Acc::from_f64(scale),
            shift: Acc::from_f64(self.params.bias(plane) - rest * scale),
        };
        let var = Acc::from_f64(var);
        (coefficients, Stats { mean, var })
    }

    #[inline(always)]
    fn write<S: Simd>(
        &self,
        x: &[T],
        at: Range<usize>,
        k: &Self::Coefficients,
        out: &mut [MaybeUninit<T>],
        ws: &mut Workspace<T>,
    ) {
        for (x, y) in x[at].chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
            let x = T::widen::<S>(x, &mut ws.inputs[0]);
            let wide = T::room(y, &mut ws.output);
            for (y, &x) in wide.iter_mut().zip(x) {
                y.write(S::mul_add(x - k.mean, k.scale, k.shift));
            }
            T::narrow::<S>(y, &ws.output);
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

/// The mean and the biased variance of every plane: all means, then all variances.
pub fn stats<T: Element>(x: Input<T>, planes: &Planes) -> Vec<T::Acc> {
    let (params, eps) = (&Params::default(), 0.);
    let stats = sweep(&Forward { x, params, eps }, planes, None);
    let vars = stats.iter().map(|s| s.var);
    stats.iter().map(|s| s.mean).chain(vars).collect()
}
