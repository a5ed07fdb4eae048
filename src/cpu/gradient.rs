//! The coefficients of dx, and the planes' shares of the other gradients, from the measurements of a
//! group, in f64. The formulas are those of `bwd.rs`.

use super::affine::Affine;
use super::element::{Acc, Element};
use super::inputs::{Inputs, split};
use super::moments::{CoMoments, Moments};
use super::vector::Vector;

/// `dx = (g - g_mean) * a - (x - mean) * b + rest`
#[derive(Clone, Copy, Default)]
pub struct GradCoefficients<V> {
    pub affine: Affine<V>,
    pub g_mean: V,
    pub a: V,
    pub b: V,
    pub rest: V,
}

impl<V> GradCoefficients<V> {
    #[inline(always)]
    pub fn map<W>(self, mut f: impl FnMut(V) -> W) -> GradCoefficients<W> {
        GradCoefficients {
            affine: self.affine.map(&mut f),
            g_mean: f(self.g_mean),
            a: f(self.a),
            b: f(self.b),
            rest: f(self.rest),
        }
    }
}

impl<V: Vector> GradCoefficients<V> {
    #[inline(always)]
    pub fn dx(&self, x: V, g: V) -> V {
        let from_x = (self.affine.mean - x).mul_add(self.b, self.rest);
        (g - self.g_mean).mul_add(self.a, from_x)
    }
}

/// A plane's shares of the gradients of its parameters and given statistics.
#[derive(Clone, Copy, Default)]
pub struct Share {
    pub weight: f64,
    pub bias: f64,
    pub mean: f64,
    pub rstd: f64,
    /// The sums of the group are beyond the largest number, or a coefficient below the least.
    pub overflows: bool,
}

/// The numbers that the gradients of a group's planes have in common.
pub struct GroupGradient {
    group: Moments,
    rstd: f64,
    rstd_slope: f64,
    /// `sum(w * g) / n`; 0, as `cross`, where the statistics are given.
    sum: f64,
    /// `sum(w * g * (x - mean)) / n`
    cross: f64,
}

impl GroupGradient {
    /// `measures` has the planes of the group, from `first` on.
    #[inline(always)]
    pub fn new<T: Element>(inputs: &Inputs<T>, first: usize, measures: &[CoMoments]) -> Self {
        let group = inputs.group_moments(first, measures);
        let (rstd, rstd_slope) = inputs.spec.rule.rstd_and_slope(&group);
        let (mut sum, mut cross) = (0., 0.);
        if !inputs.has_stats() {
            // One division for all planes.
            let of_group = 1. / group.n;
            let planes = || (first..).zip(measures);
            for (plane, m) in planes() {
                sum += inputs.weight_of(plane) * (m.x.n * of_group) * m.g_mean;
            }
            // The ways of the planes' means sum to 0, so w * g may be taken about any number: about its own
            // mean, what they round to counts for little. As it is, where w * g has a mean of 1e4 and, as x, a
            // deviation of 1e-2, the last bit of an f64 would be 1e-4 of the sum.
            for (plane, m) in planes() {
                let w = inputs.weight_of(plane);
                let way = (w * m.g_mean - sum) * m.x.n * (m.x.mean - group.mean);
                cross += (w * m.cross + way) * of_group;
            }
        }
        Self {
            group,
            rstd,
            rstd_slope,
            sum,
            cross,
        }
    }

    /// Sets the coefficients of a plane of the group and returns its share.
    #[inline(always)]
    pub fn plane<T: Element>(
        &self,
        inputs: &Inputs<T>,
        plane: usize,
        m: &CoMoments,
        k: &mut GradCoefficients<T::Acc>,
    ) -> Share {
        let (alpha, has_stats) = (inputs.spec.alpha, inputs.has_stats());
        let (group, rstd) = inputs.stats_or(plane, self.group, self.rstd);
        let (w, cross) = (inputs.weight_of(plane), cross_about(group.mean, m));
        let (mean, rest_of_mean) = split::<T::Acc>(group.mean);
        let g_mean = T::Acc::from_f64(m.g_mean);
        let high = g_mean.to_f64();
        let scale = alpha * rstd;
        // The gradient of x is that of x in its unit, less in the same proportion.
        let of_x = if group.unit == 1. {
            scale
        } else {
            scale / group.unit
        };
        let (a, b) = (of_x * w + (1. - alpha), of_x * self.rstd_slope * self.cross);
        let b = if has_stats { 0. } else { b };
        let rest = (1. - alpha) * high + of_x * (w * high - self.sum) + b * rest_of_mean;
        let in_range = group.m2 < T::Acc::LARGE * group.n && self.cross.is_finite();
        k.affine.mean = mean;
        if inputs.has_weight_per_element() {
            // The gradient of the weight needs them, and no activation has asked for them before.
            k.affine.scale = Acc::from_f64(rstd);
            k.affine.shift = Acc::from_f64(-rest_of_mean * rstd);
        }
        k.g_mean = g_mean;
        k.a = Acc::from_f64(a);
        k.b = Acc::from_f64(b);
        k.rest = Acc::from_f64(rest);
        Share {
            weight: scale * cross,
            bias: alpha * m.x.n * m.g_mean,
            mean: -scale * w * m.x.n * m.g_mean,
            rstd: alpha * w * cross,
            overflows: !has_stats && !in_range,
        }
    }
}

/// `sum(g * (x - mean))` over a plane, for a mean that need not be the plane's own.
#[inline(always)]
fn cross_about(mean: f64, m: &CoMoments) -> f64 {
    m.cross + m.x.n * m.g_mean * (m.x.mean - mean)
}
