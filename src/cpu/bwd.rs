//! The gradients of everything that the forward pass reads.
//!
//! With `dv = dy * activation'(v)`, and `g = dv` times the weight where that is per element, `w`
//! being the weight of the plane otherwise, and sums over the `n` elements of a set:
//!
//! ```text
//! dx      = alpha * rstd * (w * g - sum(w * g) / n - (x - mean) * bend * sum(w * g * (x - mean)) / n)
//!         + (1 - alpha) * g
//! dweight = alpha * rstd * sum over the plane of g * (x - mean)
//! dbias   = alpha * sum over the plane of g
//! ```
//!
//! where `bend` is `rstd^2` for the usual rstd, see `rule.rs`. Sums of products are taken about
//! the means of both factors, so that a large mean of either cancels before it is multiplied.

use super::activation::pull_back;
use super::dispatch;
use super::element::{Acc, Element, Out, Scratch};
use super::fwd::{set_stats, split, unit_of, Operands};
use super::moments::CoMoments;
use super::operand::{Operand, Place, Target};
use super::overflow::Rescaled;
use super::room::Room;
use super::rule::Spread;
use super::set_op::{Lanes, Reads, SetOp, Workspace};
use super::simd::Simd;
use super::sweep::sweep;
use crate::shapes::ParamSpec;
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
use candle_core::{CpuStorage, Result};

struct Backward<'a, T> {
    operands: Operands<'a, T>,
    dy: Operand<'a, T>,
    dx: Option<Target<'a, T>>,
    dv: Option<Target<'a, T>>,
    dweight: Option<Target<'a, T>>,
}

/// What one plane adds to the gradients of its parameters and given statistics.
#[derive(Clone, Copy, Default)]
struct Share {
    weight: f64,
    bias: f64,
    mean: f64,
    rstd: f64,
    /// Whether the sums of its set are beyond the largest number, or a coefficient below the least.
    overflows: bool,
}

/// The first three coefficients are the forward pass's, then
/// `dx = (g - g_mean) * a - (x - mean) * b + rest`.
const F: usize = 7;

impl<T: Element> Backward<'_, T> {
    fn activation(&self) -> Activation {
        self.operands.spec.activation
    }

    /// `x`, and `dv`: the gradient of `v`.
    #[inline(always)]
    fn x_and_dv<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        place: Place,
        len: usize,
        k: [V; 3],
        reads: &'w mut Reads<T>,
    ) -> (&'w [T::Acc], &'w [T::Acc]) {
        let Reads {
            x,
            dy,
            extras,
            residual,
            v,
        } = reads;
        let x = self.operands.x.read::<S>(place, len, x);
        let dy = self.dy.read::<S>(place, len, dy);
        if self.activation() == Activation::None {
            return (x, dy);
        }
        let out = Out::over(&mut v[..len]);
        let scratch = [extras, residual];
        let v = self
            .operands
            .normalize::<S, V>(x, place, k, Activation::None, out, scratch);
        pull_back::<S, _>(self.activation(), dy, v);
        (x, v)
    }

    /// `g`: `dv`, times the weight in `room` where that is per element.
    #[inline(always)]
    fn g<'w, S: Simd>(
        &self,
        dv: &'w [T::Acc],
        place: Place,
        room: &'w mut [T::Acc],
        scratch: &mut Scratch<T::Acc>,
    ) -> &'w [T::Acc] {
        let Some(operand) = self.operands.weight.per_element() else {
            return dv;
        };
        let offset = Acc::from_f64(self.operands.spec.weight_offset);
        let w = operand.read::<S>(place, dv.len(), scratch);
        let room = &mut room[..dv.len()];
        for ((g, &dv), &w) in room.iter_mut().zip(dv).zip(w) {
            *g = dv * (w + offset);
        }
        room
    }

    /// The coefficients of dx, and the planes' shares.
    #[inline(always)]
    fn gradients(
        &self,
        first: usize,
        measures: &[CoMoments],
        coefficients: &mut [[T::Acc; F]],
        shares: &mut [Share],
    ) {
        let (o, spec) = (&self.operands, self.operands.spec);
        let (per_set, units) = (spec.channels_per_group, o.units_from(first));
        let weight = |plane| spec.full_weight(o.weight.of(plane));
        for start in (0..measures.len()).step_by(per_set) {
            let planes = start..start + per_set;
            let unit = unit_of(units, start);
            let set = set_stats::<T::Acc>(&measures[planes.clone()], unit);
            let Spread { rstd, bend } = spec.rule.spread(&set);
            // sum(g * (x - mean)) over a plane, with the mean of the set.
            let product = |m: &CoMoments, mean: f64| m.cross + m.x.n * m.g_mean * (m.x.mean - mean);
            let (mut sum, mut cross) = (0., 0.);
            if o.stats.is_none() {
                for i in planes.clone() {
                    let (w, m) = (weight(first + i), &measures[i]);
                    sum += w * m.x.n * m.g_mean / set.n;
                    cross += w * product(m, set.mean) / set.n;
                }
            }
            for i in planes {
                let (plane, m) = (first + i, &measures[i]);
                let (set, rstd) = o.stats_or(plane, set, rstd);
                let (w, product) = (weight(plane), product(m, set.mean));
                let (mean, rest) = split::<T::Acc>(set.mean);
                let g_mean = T::Acc::from_f64(m.g_mean);
                let high = g_mean.to_f64();
                let scale = spec.alpha * rstd;
                // The gradient of x is that of x in its unit, less in the same proportion.
                let of_x = scale / set.unit;
                let (a, b) = (of_x * w + (1. - spec.alpha), of_x * bend * cross);
                let b = if o.stats.is_some() { 0. } else { b };
                let shift = (1. - spec.alpha) * high + of_x * (w * high - sum) + b * rest;
                coefficients[i][0] = mean;
                if o.weight.per_element().is_some() {
                    // For the gradient of the weight, where no activation asked for them before.
                    coefficients[i][1] = Acc::from_f64(rstd);
                    coefficients[i][2] = Acc::from_f64(-rest * rstd);
                }
                coefficients[i][3] = g_mean;
                coefficients[i][4] = Acc::from_f64(a);
                coefficients[i][5] = Acc::from_f64(b);
                coefficients[i][6] = Acc::from_f64(shift);
                shares[i] = Share {
                    weight: scale * product,
                    bias: spec.alpha * m.x.n * m.g_mean,
                    mean: -rstd * w * m.x.n * m.g_mean,
                    rstd: w * product,
                    overflows: o.stats.is_none() && !(set.var < T::Acc::LARGE && cross.is_finite()),
                };
            }
        }
    }
}

impl<T: Element> SetOp<T, 2, 4, F> for Backward<'_, T> {
    type Measure = CoMoments;
    type Share = Share;

    /// What an activation hands back depends on its input, and so on the statistics.
    fn rounds(&self) -> usize {
        match self.activation() {
            Activation::None => 1,
            _ => 2,
        }
    }

    fn measures(&self, round: usize) -> bool {
        round + 1 == self.rounds() || self.operands.stats.is_none()
    }

    fn workspace(&self) -> Workspace<T> {
        let activation = self.activation() != Activation::None;
        Workspace::new(activation, self.operands.weight.per_element().is_some())
    }

    #[inline(always)]
    fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        round: usize,
        place: Place,
        len: usize,
        [mean, scale, shift, ..]: [V; F],
        ws: &'w mut Workspace<T>,
    ) -> [&'w [T::Acc]; 2] {
        if round + 1 < self.rounds() {
            // The moments of x are wanted alone.
            let x = self.operands.x.read::<S>(place, len, &mut ws.reads.x);
            return [x, x];
        }
        let k = [mean, scale, shift];
        let (x, dv) = self.x_and_dv::<S, V>(place, len, k, &mut ws.reads);
        [x, self.g::<S>(dv, place, &mut ws.g, &mut ws.extras)]
    }

    #[inline(always)]
    fn finish(
        &self,
        round: usize,
        first: usize,
        measures: &[CoMoments],
        coefficients: &mut [[T::Acc; F]],
        shares: &mut [Share],
    ) {
        if round + 1 < self.rounds() {
            let units = self.operands.units_from(first);
            return self.operands.affine(first, measures, units, coefficients);
        }
        self.gradients(first, measures, coefficients, shares);
    }

    fn writes(&self) -> bool {
        self.dx.is_some() || self.dv.is_some() || self.dweight.is_some()
    }

    #[inline(always)]
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        place: Place,
        len: usize,
        [mean, scale, shift, g_mean, a, b, rest]: [V; F],
        ws: &mut Workspace<T>,
    ) {
        let spatial = self.operands.spec.planes.spatial;
        let k = [mean, scale, shift];
        let (x, dv) = self.x_and_dv::<S, V>(place, len, k, &mut ws.reads);
        let (mean, scale, shift) = (mean.cut(len), scale.cut(len), shift.cut(len));
        if let Some(target) = self.dv {
            // SAFETY: the caller promises that no other thread has the place; nothing is read of
            // what a target points at.
            let to = unsafe { target.slice(place, spatial, len) };
            let mut out = T::out(to, &mut ws.output);
            for i in 0..len {
                out.set(i, dv.at(i));
            }
            T::narrow::<S>(to, &ws.output);
        }
        if let Some(target) = self.dweight {
            // SAFETY: as for `dv`.
            let to = unsafe { target.slice(place, spatial, len) };
            let mut out = T::out(to, &mut ws.output);
            let mut out = out.cut(len);
            for i in 0..len {
                let z = S::mul_add(x[i] - mean.at(i), scale.at(i), shift.at(i));
                out.set(i, dv[i] * z);
            }
            T::narrow::<S>(to, &ws.output);
        }
        if let Some(target) = self.dx {
            let g = self.g::<S>(dv, place, &mut ws.g, &mut ws.extras);
            let (g_mean, rest) = (g_mean.cut(len), rest.cut(len));
            let (a, b) = (a.cut(len), b.cut(len));
            // SAFETY: as for `dv`.
            let to = unsafe { target.slice(place, spatial, len) };
            let mut out = T::out(to, &mut ws.output);
            let mut out = out.cut(len);
            for i in 0..len {
                let from_x = S::mul_add(mean.at(i) - x[i], b.at(i), rest.at(i));
                out.set(i, S::mul_add(g[i] - g_mean.at(i), a.at(i), from_x));
            }
            T::narrow::<S>(to, &ws.output);
        }
    }
}

pub fn backward<T: Element>(
    x: View<CpuStorage>,
    extras: &Extras<View<CpuStorage>>,
    dy: View<CpuStorage>,
    spec: &NormSpec,
    wanted: &GradMask,
) -> Result<Gradients<CpuStorage>> {
    let operands = Operands::<T>::new(x, extras, spec)?;
    let dy = Operand::new(dy, spec)?;
    let per_element = |param: Option<ParamSpec>| param.is_some_and(|p| p.is_per_element());
    let [mut dx, mut dv, mut dweight] = [wanted.x, wanted.v, per_element(wanted.weight)]
        .map(|wanted| wanted.then(|| Room::new(spec.planes.elements())));
    let op = Backward {
        operands,
        dy,
        dx: dx.as_mut().map(Room::target),
        dv: dv.as_mut().map(Room::target),
        dweight: dweight.as_mut().map(Room::target),
    };
    let mut shares = sweep(&op, spec);
    if shares.iter().any(|share| share.overflows) {
        if let Some(rescaled) = Rescaled::new(&op.operands.x, spec) {
            let op = Backward {
                operands: op.operands.rescaled(&rescaled),
                ..op
            };
            shares = sweep(&op, spec);
        }
    }
    // SAFETY: the sweep has written every element of each of them.
    let [dx, dv, dweight] =
        [dx, dv, dweight].map(|room| room.map(|room| T::store(unsafe { room.filled() })));
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
