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
use super::simd::Simd;
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

impl<'a, T: Element> PlaneOp<T> for Backward<'a, T> {
    /// x and dy.
    type View = [&'a [T]; 2];
    type Shift = (T::Acc, T::Acc);
    type Measure = CoMoments;
    type Coefficients = Coefficients<T::Acc>;
    type Output = ParamGrad;

    #[inline(always)]
    fn view(&self, plane: usize) -> Self::View {
        [self.x.plane(plane), self.dy.plane(plane)]
    }

    #[inline(always)]
    fn shift<S: Simd>(
        &self,
        [x, dy]: Self::View,
        at: Range<usize>,
        ws: &mut Workspace<T>,
    ) -> Self::Shift {
        let [scratch_x, scratch_dy] = &mut ws.inputs;
        let mean = near_mean::<S, T>(&x[at.clone()], scratch_x);
        (mean, near_mean::<S, T>(&dy[at], scratch_dy))
    }

    #[inline(always)]
    fn measure<S: Simd>(
        &self,
        [x, dy]: Self::View,
        at: Range<usize>,
        shift: Self::Shift,
        ws: &mut Workspace<T>,
    ) -> CoMoments {
        CoMoments::of::<S, T>(&x[at.clone()], &dy[at], shift, &mut ws.inputs)
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
    fn write<S: Simd>(
        &self,
        [x, dy]: Self::View,
        at: Range<usize>,
        k: &Self::Coefficients,
        out: &mut [MaybeUninit<T>],
        ws: &mut Workspace<T>,
    ) {
        let [scratch_x, scratch_dy] = &mut ws.inputs;
        let chunks = x[at.clone()].chunks(CHUNK).zip(dy[at].chunks(CHUNK));
        for ((x, dy), dx) in chunks.zip(out.chunks_mut(CHUNK)) {
            let (x, dy) = (T::widen::<S>(x, scratch_x), T::widen::<S>(dy, scratch_dy));
            let wide = T::room(dx, &mut ws.output);
            for ((dx, &x), &dy) in wide.iter_mut().zip(x).zip(dy) {
                let value = S::mul_add(k.mean - x, k.slope, dy - k.dy_mean);
                dx.write(S::mul_add(value, k.scale, k.shift));
            }
            T::narrow::<S>(dx, &ws.output);
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
