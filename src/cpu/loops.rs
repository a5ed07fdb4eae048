//! Loops over the slices of a chunk, in the type of the accumulators.
//!
//! Each is a job, run by [`Simd::call`]: compiled once for f32 and once for f64, where the schedules are
//! compiled for four dtypes and use it in several places. A call takes up to 50 instructions, 4 % of a
//! plane of 7x7. The commonest loops are spared it: [`Values`] of x alone, here, and dx, in `bwd.rs`.

use super::activation::{pull_back, with_activation};
use super::element::{Acc, written};
use super::pass::Lanes;
use super::simd::{Simd, SimdJob};
use crate::spec::Activation;
use std::mem::MaybeUninit;

/// `v = (x - mean) * scale + shift`
#[derive(Debug, Clone, Copy, Default)]
pub struct Affine<V> {
    pub mean: V,
    pub scale: V,
    pub shift: V,
}

impl<V> Affine<V> {
    #[inline(always)]
    pub fn map<W>(self, mut f: impl FnMut(V) -> W) -> Affine<W> {
        Affine {
            mean: f(self.mean),
            scale: f(self.scale),
            shift: f(self.shift),
        }
    }

    /// `out = f(v + residual)`
    #[inline(always)]
    fn write<'o, S: Simd, A: Acc>(
        self,
        x: &[A],
        residual: Option<&[A]>,
        out: &'o mut [MaybeUninit<A>],
        f: impl Fn(A) -> A,
    ) -> &'o mut [A]
    where
        V: Lanes<A>,
    {
        let len = x.len();
        let out = &mut out[..len];
        let (mean, scale, shift) = (self.mean.cut(len), self.scale.cut(len), self.shift.cut(len));
        match residual {
            None => {
                for i in 0..len {
                    out[i].write(f(S::mul_add(x[i] - mean.at(i), scale.at(i), shift.at(i))));
                }
            }
            Some(residual) => {
                let residual = &residual[..len];
                for i in 0..len {
                    let v = S::mul_add(x[i] - mean.at(i), scale.at(i), shift.at(i));
                    out[i].write(f(v + residual[i]));
                }
            }
        }
        // SAFETY: the loop has written every element.
        unsafe { written(out) }
    }
}

/// `out = activation(((x - mean) * scale + shift) * (weight + weight_offset) + bias + residual)`
///
/// The output of the job is `out`, written.
pub struct Values<'a, 'o, A, V> {
    pub x: &'a [A],
    pub k: Affine<V>,
    /// A weight and a bias per element.
    pub weight: Option<&'a [A]>,
    pub weight_offset: f64,
    pub bias: Option<&'a [A]>,
    pub residual: Option<&'a [A]>,
    pub activation: Activation,
    pub out: &'o mut [MaybeUninit<A>],
}

impl<A: Acc, V: Lanes<A>> Values<'_, '_, A, V> {
    /// Runs the job, as a part of the caller where there is nothing but x.
    #[inline(always)]
    pub fn write<S: Simd>(self) {
        let alone = self.residual.is_none() && self.activation == Activation::None;
        if alone && !self.has_params() {
            self.k.write::<S, A>(self.x, None, self.out, |v| v);
        } else {
            S::call(self);
        }
    }

    fn has_params(&self) -> bool {
        self.weight.is_some() || self.bias.is_some()
    }
}

impl<'o, A: Acc, V: Lanes<A>> SimdJob for Values<'_, 'o, A, V> {
    type Output = &'o mut [A];

    #[inline(always)]
    fn run<S: Simd>(self) -> &'o mut [A] {
        let has_params = self.has_params();
        let Self {
            x,
            k,
            residual,
            out,
            ..
        } = self;
        if !has_params {
            return with_activation!(self.activation, f => k.write::<S, A>(x, residual, out, f));
        }
        let v = k.write::<S, A>(x, None, out, |v| v);
        if let Some(weight) = self.weight {
            let offset = Acc::from_f64(self.weight_offset);
            for (v, &w) in v.iter_mut().zip(weight) {
                *v *= w + offset;
            }
        }
        if let Some(bias) = self.bias {
            for (v, &b) in v.iter_mut().zip(bias) {
                *v += b;
            }
        }
        match residual {
            None => with_activation!(self.activation, f => for v in v.iter_mut() { *v = f(*v) }),
            Some(residual) => with_activation!(
                self.activation,
                f => for (v, &r) in v.iter_mut().zip(residual) { *v = f(*v + r) }
            ),
        }
        v
    }
}

/// `v = dy * activation'(v)`
pub struct PullBack<'a, A> {
    pub activation: Activation,
    pub dy: &'a [A],
    pub v: &'a mut [A],
}

impl<A: Acc> SimdJob for PullBack<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        pull_back::<S, _>(self.activation, self.dy, self.v)
    }
}

/// `out = dv * (weight + weight_offset)`, for a weight per element.
pub struct Weighted<'a, 'o, A> {
    pub dv: &'a [A],
    pub weight: &'a [A],
    pub weight_offset: f64,
    pub out: &'o mut [MaybeUninit<A>],
}

impl<'o, A: Acc> SimdJob for Weighted<'_, 'o, A> {
    type Output = &'o [A];

    #[inline(always)]
    fn run<S: Simd>(self) -> &'o [A] {
        let offset = Acc::from_f64(self.weight_offset);
        let len = self.dv.len();
        let (weight, out) = (&self.weight[..len], &mut self.out[..len]);
        for i in 0..len {
            out[i].write(self.dv[i] * (weight[i] + offset));
        }
        // SAFETY: the loop has written every element.
        unsafe { written(out) }
    }
}

/// `out = dv * ((x - mean) * scale + shift)`, the gradient of a weight per element.
pub struct WeightGradient<'a, A, V> {
    pub x: &'a [A],
    pub dv: &'a [A],
    pub k: Affine<V>,
    pub out: &'a mut [MaybeUninit<A>],
}

impl<A: Acc, V: Lanes<A>> SimdJob for WeightGradient<'_, A, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let z = self.k.write::<S, A>(self.x, None, self.out, |z| z);
        for (z, &dv) in z.iter_mut().zip(self.dv) {
            *z *= dv;
        }
    }
}
