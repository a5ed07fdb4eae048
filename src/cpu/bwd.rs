//! The gradients of everything that the forward pass reads.
//!
//! With `dv = dy * activation'(v)`, and `g = dv` times the weight where that is per element, `w`
//! being the weight of the plane otherwise, and sums over the `n` elements of a group:
//!
//! ```text
//! dx      = alpha * rstd * (w * g - sum(w * g) / n
//!                           - (x - mean) * rstd_slope * sum(w * g * (x - mean)) / n)
//!         + (1 - alpha) * g
//! dweight = alpha * rstd * sum over the plane of g * (x - mean)
//! dbias   = alpha * sum over the plane of g
//! ```
//!
//! where `rstd_slope` is `rstd^2` for the usual rstd, see `rstd.rs`. Sums of products are taken
//! about the means of both factors, so that a large mean of either cancels before it is multiplied.

use super::buffer::UninitBuffer;
use super::dispatch;
use super::element::Element;
use super::gradient::{GradCoefficients, GroupGradient, Share};
use super::inputs::Inputs;
use super::loops::{Affine, PullBack, WeightGradient, Weighted};
use super::moments::CoMoments;
use super::operand::{Operand, Span};
use super::overflow::Rescaled;
use super::pass::{Converted, GroupPass, Lanes, Scratch, chunk_of};
use super::schedule;
use super::simd::Simd;
use crate::shapes::ParamSpec;
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
use candle_core::{CpuStorage, Result};
use std::mem::MaybeUninit;

struct Backward<'a, T> {
    inputs: Inputs<'a, T>,
    x: Operand<'a, T>,
    dy: Operand<'a, T>,
    dx: Option<&'a UninitBuffer<'a, T>>,
    dv: Option<&'a UninitBuffer<'a, T>>,
    /// The gradient of a weight per element.
    dweight: Option<&'a UninitBuffer<'a, T>>,
}

pub fn backward<T: Element>(
    x: View<CpuStorage>,
    extras: &Extras<View<CpuStorage>>,
    dy: View<CpuStorage>,
    spec: &NormSpec,
    wanted: &GradMask,
) -> Result<Gradients<CpuStorage>> {
    let per_element = |param: Option<ParamSpec>| param.is_some_and(|p| p.is_per_element());
    let [dx, dv, dweight] = [wanted.x, wanted.v, per_element(wanted.weight)]
        .map(|wanted| wanted.then(|| UninitBuffer::<T>::new(&spec.planes)));
    let shares = run(Backward {
        inputs: Inputs::new(extras, spec)?,
        x: Operand::new(x, spec)?,
        dy: Operand::new(dy, spec)?,
        dx: dx.as_ref(),
        dv: dv.as_ref(),
        dweight: dweight.as_ref(),
    });
    // SAFETY: the pass has written every element of each of them.
    let [dx, dv, dweight] =
        [dx, dv, dweight].map(|buffer| buffer.map(|buffer| T::store(unsafe { buffer.filled() })));
    let reduce = |param: Option<ParamSpec>, pick: fn(&Share) -> f64| {
        let param = param.filter(|p| !p.is_per_element());
        param.map(|p| reduce(&shares, spec, p, pick)).transpose()
    };
    Ok(Gradients {
        x: dx,
        weight: match dweight {
            Some(dweight) => Some(dweight),
            None => reduce(wanted.weight, |s| s.weight)?,
        },
        bias: reduce(wanted.bias, |s| s.bias)?,
        v: dv,
        mean: reduce(wanted.mean, |s| s.mean)?,
        rstd: reduce(wanted.rstd, |s| s.rstd)?,
    })
}

/// Runs the pass, and once more in larger units where sums overflow.
fn run<T: Element>(pass: Backward<T>) -> Vec<Share> {
    let spec = pass.inputs.spec;
    let shares = schedule::run(&pass, spec);
    if !shares.iter().any(|share| share.overflows) {
        return shares;
    }
    let Some(rescaled) = Rescaled::new(&pass.x, spec) else {
        return shares;
    };
    let pass = Backward {
        inputs: pass.inputs.in_units(&rescaled.units),
        x: rescaled.x(spec),
        ..pass
    };
    schedule::run(&pass, spec)
}

/// Sums the planes' shares of a parameter's gradient, over N for one that all samples use.
fn reduce(
    shares: &[Share],
    spec: &NormSpec,
    param: ParamSpec,
    pick: fn(&Share) -> f64,
) -> Result<CpuStorage> {
    fn narrow<T: Element>(sums: Vec<f64>) -> Result<CpuStorage> {
        Ok(T::store(sums.into_iter().map(T::from_f64).collect()))
    }
    let period = param.shape.period(&spec.planes);
    let mut sums = vec![0f64; period];
    for (plane, share) in shares.iter().enumerate() {
        sums[plane % period] += pick(share);
    }
    dispatch!(param.dtype, narrow(sums))
}

impl<T: Element> Backward<'_, T> {
    fn activation(&self) -> Activation {
        self.inputs.spec.activation
    }

    /// The gradient of `v`, in `scratch` unless it is `dy`.
    #[inline(always)]
    fn dv<'w, S: Simd, V: Lanes<T::Acc>>(
        &self,
        [x, dy]: [&'w [T::Acc]; 2],
        span: Span,
        k: Affine<V>,
        scratch: &'w mut [MaybeUninit<T::Acc>],
        params: &mut Converted<T>,
    ) -> &'w [T::Acc] {
        let activation = self.activation();
        if activation == Activation::None {
            return dy;
        }
        let v = self
            .inputs
            .values::<S, V>(x, span, k, Activation::None, scratch, params);
        let v = S::call(v);
        S::call(PullBack {
            activation,
            dy,
            v: &mut *v,
        });
        v
    }

    /// `g`: `dv`, times the weight in `scratch` where that is per element.
    #[inline(always)]
    fn g<'w, S: Simd>(
        &self,
        dv: &'w [T::Acc],
        span: Span,
        scratch: &'w mut [MaybeUninit<T::Acc>],
        [weight, ..]: &mut Converted<T>,
    ) -> &'w [T::Acc] {
        let Some(from) = self.inputs.weight_per_element() else {
            return dv;
        };
        S::call(Weighted {
            dv,
            weight: from.read::<S>(span, weight),
            weight_offset: self.inputs.spec.weight_offset,
            out: scratch,
        })
    }
}

impl<T: Element> GroupPass<T> for Backward<'_, T> {
    type Measure = CoMoments;
    type Coefficients<V: Lanes<T::Acc>> = GradCoefficients<V>;
    type Share = Share;

    /// The gradient of an activation depends on its input, and so on the statistics.
    fn rounds(&self) -> usize {
        match self.activation() {
            Activation::None => 1,
            _ => 2,
        }
    }

    fn measures(&self, round: usize) -> bool {
        round + 1 == self.rounds() || !self.inputs.has_stats()
    }

    fn scratch(&self) -> Scratch<T> {
        let mut scratch = Scratch::new();
        if self.activation() != Activation::None {
            scratch.v = chunk_of();
        }
        if self.inputs.weight_per_element().is_some() {
            scratch.g = chunk_of();
        }
        scratch
    }

    #[inline(always)]
    unsafe fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        round: usize,
        span: Span,
        k: GradCoefficients<V>,
        scratch: &'w mut Scratch<T>,
    ) -> [&'w [T::Acc]; 2] {
        let x = self.x.read::<S>(span, &mut scratch.x);
        if round + 1 < self.rounds() {
            // The moments of x are wanted alone.
            return [x, x];
        }
        let dy = self.dy.read::<S>(span, &mut scratch.dy);
        let params = &mut scratch.params;
        let dv = self.dv::<S, V>([x, dy], span, k.affine, &mut scratch.v, params);
        let g = self.g::<S>(dv, span, &mut scratch.g, params);
        [x, &g[..span.len]]
    }

    // Compiled once: vector instructions would save 2 % of the instructions of 7x7 planes.
    #[inline(never)]
    unsafe fn finish(
        &self,
        round: usize,
        first: usize,
        measures: &[CoMoments],
        coefficients: &mut [GradCoefficients<T::Acc>],
        shares: &mut [Share],
    ) {
        if round + 1 < self.rounds() {
            let affines = coefficients.iter_mut().map(|k| &mut k.affine);
            return self.inputs.affine(first, measures, affines);
        }
        let per_group = self.inputs.spec.channels_per_group;
        for start in (0..measures.len()).step_by(per_group) {
            let planes = start..start + per_group;
            let group = GroupGradient::new(&self.inputs, first + start, &measures[planes.clone()]);
            for i in planes {
                let k = &mut coefficients[i];
                shares[i] = group.plane(&self.inputs, first + i, &measures[i], k);
            }
        }
    }

    fn writes(&self) -> bool {
        self.dx.is_some() || self.dv.is_some() || self.dweight.is_some()
    }

    #[inline(always)]
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        span: Span,
        k: GradCoefficients<V>,
        scratch: &mut Scratch<T>,
    ) {
        let len = span.len;
        let x = self.x.read::<S>(span, &mut scratch.x);
        let dy = self.dy.read::<S>(span, &mut scratch.dy);
        let params = &mut scratch.params;
        let dv = self.dv::<S, V>([x, dy], span, k.affine, &mut scratch.v, params);
        if let Some(to) = self.dv {
            // SAFETY: the caller has the span to itself, and each buffer is sliced once.
            let to = unsafe { to.slice(span) };
            let out = T::out(to, &mut scratch.output);
            for (out, &dv) in out[..len].iter_mut().zip(&dv[..len]) {
                out.write(dv);
            }
            // SAFETY: the loop has written every element.
            unsafe { T::narrow::<S>(to, &mut scratch.output) }
        }
        if let Some(to) = self.dweight {
            // SAFETY: as for `dv`.
            let to = unsafe { to.slice(span) };
            let (k, out) = (k.affine, T::out(to, &mut scratch.output));
            S::call(WeightGradient { x, dv, k, out });
            // SAFETY: the job has written every element.
            unsafe { T::narrow::<S>(to, &mut scratch.output) }
        }
        if let Some(to) = self.dx {
            let g = &self.g::<S>(dv, span, &mut scratch.g, params)[..len];
            let (mean, g_mean, rest) = (k.affine.mean.cut(len), k.g_mean.cut(len), k.rest.cut(len));
            let (a, b) = (k.a.cut(len), k.b.cut(len));
            // SAFETY: as for `dv`.
            let to = unsafe { to.slice(span) };
            let out = T::out(to, &mut scratch.output);
            for i in 0..len {
                let from_x = S::mul_add(mean.at(i) - x[i], b.at(i), rest.at(i));
                out[i].write(S::mul_add(g[i] - g_mean.at(i), a.at(i), from_x));
            }
            // SAFETY: the loop has written every element.
            unsafe { T::narrow::<S>(to, &mut scratch.output) }
        }
    }

    #[inline(always)]
    fn map<V: Lanes<T::Acc>, W: Lanes<T::Acc>>(
        coefficients: GradCoefficients<V>,
        f: impl FnMut(V) -> W,
    ) -> GradCoefficients<W> {
        coefficients.map(f)
    }
}
