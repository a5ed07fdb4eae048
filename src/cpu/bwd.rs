//! The gradients of `y = xhat * weight + bias`, with `xhat = (x - mean) * rstd`:
//!
//! ```text
//! dx      = weight * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))
//! dweight = sum(dy * xhat)
//! dbias   = sum(dy)
//! ```
//!
//! `mean(dy * xhat)` is `rstd / S * sum((x - mean) * (dy - mean(dy)))`: both factors centred, so
//! that a large mean of either cancels before it is multiplied.

use super::element::{Acc, Element, CHUNK};
use super::fwd::split;
use super::moments::{near_mean, CoMoments};
use super::sweep::{sweep, PlaneOp, Workspace};
use super::{Input, Params};
use crate::shapes::Planes;
use std::mem::MaybeUninit;
use std::ops::Range;

struct Backward<'a, T> {
    x: Input<'a, T>,
    dy: Input<'a, T>,
    params: &'a Params,
    eps: f64,
}

/// `dx = ((dy - dy_mean) - (x - mean) * slope) * scale + shift`, where `shift` is what the rounded
/// means leave out.
#[derive(Clone, Copy, Default)]
struct Coefficients<A> {
    mean: A,
    dy_mean: A,
    slope: A,
    scale: A,
    shift: A,
}

/// What one plane adds to the gradients of its weight and bias.
#[derive(Clone, Copy, Default)]
pub struct ParamGrad {
    pub weight: f64,
    pub bias: f64,
}

impl<T: Element> PlaneOp<T> for Backward<'_, T> {
    type Shift = (T::Acc, T::Acc);
    type Measure = CoMoments;
    type Coefficients = Coefficients<T::Acc>;
    type Output = ParamGrad;

    #[inline(always)]
    fn shift(&self, plane: usize, at: Range<usize>, ws: &mut Workspace<T>) -> Self::Shift {
        let (x, dy) = (self.x.plane(plane), self.dy.plane(plane));
        let [scratch_x, scratch_dy] = &mut ws.inputs;
        let mean = near_mean(&x[at.clone()], scratch_x);
        (mean, near_mean(&dy[at], scratch_dy))
    }

    #[inline(always)]
    fn measure(
        &self,
        plane: usize,
        at: Range<usize>,
        shift: Self::Shift,
        ws: &mut Workspace<T>,
    ) -> CoMoments {
        let (x, dy) = (self.x.plane(plane), self.dy.plane(plane));
        CoMoments::of(&x[at.clone()], &dy[at], shift, &mut ws.inputs)
    }

    #[inline(always)]
    fn finish(&self, plane: usize, m: CoMoments) -> (Self::Coefficients, ParamGrad) {
        let rstd = 1. / (m.x.var() + self.eps).sqrt();
        let (mean, rest) = split::<T::Acc>(m.x.mean);
        let (dy_mean, dy_rest) = split::<T::Acc>(m.g_mean);
        let slope = rstd * rstd * (m.cross / m.x.n);
        let scale = self.params.weight(plane) * rstd;
        let coefficients = Coefficients {
            mean,
            dy_mean,
            slope: Acc::from_f64(slope),
            scale: Acc::from_f64(scale),
            shift: Acc::from_f64((rest * slope - dy_rest) * scale),
        };
        let grad = ParamGrad {
            weight: rstd * m.cross,
            bias: m.x.n * m.g_mean,
        };
        (coefficients, grad)
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
        let (x, dy) = (&self.x.plane(plane)[at.clone()], &self.dy.plane(plane)[at]);
        let [scratch_x, scratch_dy] = &mut ws.inputs;
        let chunks = x.chunks(CHUNK).zip(dy.chunks(CHUNK));
        for ((x, dy), dx) in chunks.zip(out.chunks_mut(CHUNK)) {
            let (x, dy) = (T::widen(x, scratch_x), T::widen(dy, scratch_dy));
            T::fill(
                dx,
                &mut ws.output,
                #[inline(always)]
                |dx| {
                    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                        let value = (dy - k.dy_mean) - (x - k.mean) * k.slope;
                        dx.write(value * k.scale + k.shift);
                    }
                },
            );
        }
    }
}

/// dx (where asked for) and every plane's share of the gradients of weight and bias.
pub fn backward<T: Element>(
    x: Input<T>,
    dy: Input<T>,
    planes: &Planes,
    params: &Params,
    eps: f64,
    want_dx: bool,
) -> (Option<Vec<T>>, Vec<ParamGrad>) {
    let op = Backward { x, dy, params, eps };
    if !want_dx {
        return (None, sweep(&op, planes, None));
    }
    let mut grads = Vec::new();
    let dx = super::collect(planes.elements(), |out| {
        grads = sweep(&op, planes, Some(out))
    });
    (Some(dx), grads)
}
