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

use super::activation::pull_back;
use super::buffer::{UninitBuffer, Writer};
use super::dispatch;
use super::element::{Element, Register};
use super::gradient::{GradCoefficients, GroupGradient, Share};
use super::inputs::{Inputs, PerElement};
use super::moments::CoMoments;
use super::operand::{Operand, Reader, Span};
use super::overflow::Rescaled;
use super::pass::GroupPass;
use super::schedule;
use super::simd::Simd;
use super::vector::Part;
use crate::shapes::ParamSpec;
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
use candle_core::{CpuStorage, Result};

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
        [dx, dv, dweight].map(|buffer| buffer.map(|buffer| T::storage(unsafe { buffer.filled() })));
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
        Ok(T::storage(sums.into_iter().map(T::from_f64).collect()))
    }
    let period = param.shape.period(&spec.planes);
    let mut sums = vec![0f64; period];
    for (plane, share) in shares.iter().enumerate() {
        sums[plane % period] += pick(share);
    }
    dispatch!(param.dtype, narrow(sums))
}

impl<T: Element> Backward<'_, T> {
    #[inline(always)]
    fn activation(&self) -> Activation {
        self.inputs.spec.activation
    }

    /// The gradient of `v` for the elements from `i` on.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`].
    #[inline(always)]
    unsafe fn dv<S: Simd, const PLAIN: bool>(
        &self,
        of: &Tensors<'_, T>,
        i: usize,
        part: Part,
        x: Register<S, T>,
        k: &GradCoefficients<Register<S, T>>,
    ) -> Register<S, T> {
        // SAFETY: promised by the caller.
        let dy = unsafe { of.dy.at::<S>(i, part) };
        let activation = self.activation();
        if PLAIN || activation == Activation::None {
            return dy;
        }
        // SAFETY: as above.
        let v = unsafe { self.inputs.value::<S>(&of.params, i, part, x, &k.affine) };
        pull_back(activation, dy, v)
    }

    /// `g`: `dv`, times the weight where that is per element.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`].
    #[inline(always)]
    unsafe fn g<S: Simd, const PLAIN: bool>(
        &self,
        of: &Tensors<'_, T>,
        i: usize,
        part: Part,
        dv: Register<S, T>,
    ) -> Register<S, T> {
        let Some(weight) = of.params.weight.filter(|_| !PLAIN) else {
            return dv;
        };
        // SAFETY: promised by the caller.
        dv * self
            .inputs
            .offset_weight::<S>(unsafe { weight.at::<S>(i, part) })
    }
}

/// A span of each tensor.
#[derive(Clone, Copy)]
struct Tensors<'a, T> {
    x: Reader<'a, T>,
    dy: Reader<'a, T>,
    params: PerElement<'a, T>,
    dx: Option<Writer<'a, T>>,
    /// dv and dweight, if either is wanted.
    others: Option<[Option<Writer<'a, T>>; 2]>,
}

impl<T: Element> GroupPass<T> for Backward<'_, T> {
    type Measure = CoMoments;
    type Coefficients<V: Copy + Default + Send + Sync> = GradCoefficients<V>;
    const COEFFICIENTS: usize = 7;
    type Share = Share;
    type Tensors<'a>
        = Tensors<'a, T>
    where
        Self: 'a;

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

    fn is_plain(&self) -> bool {
        let one = self.dx.is_some() && self.dv.is_none() && self.dweight.is_none();
        one && self.activation() == Activation::None && !self.inputs.are_per_element()
    }

    fn are_adjacent(&self) -> bool {
        self.x.is_adjacent() && self.dy.is_adjacent() && self.inputs.are_adjacent()
    }

    #[inline(always)]
    fn tensors(&self, span: Span) -> Tensors<'_, T> {
        let others = self.dv.is_some() || self.dweight.is_some();
        Tensors {
            x: self.x.reader(span),
            dy: self.dy.reader(span),
            params: self.inputs.per_element(span),
            dx: self.dx.map(|dx| dx.writer(span)),
            others: others.then(|| [self.dv, self.dweight].map(|to| to.map(|to| to.writer(span)))),
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd, const PLAIN: bool>(
        &self,
        round: usize,
        of: &Tensors<'_, T>,
        i: usize,
        part: Part,
        k: &GradCoefficients<Register<S, T>>,
    ) -> [Register<S, T>; 2] {
        // SAFETY: promised by the caller.
        unsafe {
            let x = of.x.at::<S>(i, part);
            if !PLAIN && round + 1 < self.rounds() {
                // The moments of x are wanted alone.
                return [x, x];
            }
            let dv = self.dv::<S, PLAIN>(of, i, part, x, k);
            [x, self.g::<S, PLAIN>(of, i, part, dv)]
        }
    }

    // Compiled once, not for every instruction set: it computes number by number.
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
            return self
                .inputs
                .affine(first, measures, coefficients, |k| &mut k.affine);
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

    #[inline(always)]
    fn prefetch_line<S: Simd>(&self, of: &Tensors<'_, T>, i: usize, to_write: bool) {
        of.x.prefetch::<S>(i);
        of.dy.prefetch::<S>(i);
        if let Some(dx) = of.dx.as_ref().filter(|_| to_write) {
            dx.prefetch::<S>(i);
        }
    }

    fn writes(&self) -> bool {
        self.dx.is_some() || self.dv.is_some() || self.dweight.is_some()
    }

    #[inline(always)]
    fn streams_after(&self, of: &Tensors<'_, T>, i: usize, lanes: usize) -> Option<usize> {
        // Another result may lie otherwise.
        let alone = of.dx.filter(|dx| dx.streams() && of.others.is_none());
        alone.map(|dx| dx.unaligned(i, lanes))
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const PLAIN: bool>(
        &self,
        of: &Tensors<'_, T>,
        i: usize,
        part: Part,
        k: &GradCoefficients<Register<S, T>>,
        streams: bool,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let x = of.x.at::<S>(i, part);
            let dv = self.dv::<S, PLAIN>(of, i, part, x, k);
            if let Some([to_dv, to_dweight]) = of.others.filter(|_| !PLAIN) {
                if let Some(to) = to_dv {
                    to.put::<S>(dv, i, part, false);
                }
                if let Some(to) = to_dweight {
                    to.put::<S>(k.affine.of(x) * dv, i, part, false);
                }
            }
            if let Some(to) = &of.dx {
                let g = self.g::<S, PLAIN>(of, i, part, dv);
                to.put::<S>(k.dx(x, g), i, part, streams);
            }
        }
    }

    #[inline(always)]
    fn map<V, W>(k: GradCoefficients<V>, f: impl FnMut(V) -> W) -> GradCoefficients<W> {
        k.map(f)
    }
}
