//! The inputs beside x, and what both passes compute with them: `v`, the values before the
//! activation, see [`NormSpec`].

use super::element::{Acc, Element};
use super::loops::{Affine, Values};
use super::moments::{Measure, Moments};
use super::operand::{Operand, Span, per_plane};
use super::pass::{Converted, Lanes};
use super::simd::Simd;
use crate::spec::{Activation, Extras, NormSpec, View};
use candle_core::{CpuStorage, Result};
use std::mem::MaybeUninit;

/// The optional inputs, by how far they reach.
pub struct Inputs<'a, T> {
    pub spec: &'a NormSpec,
    /// Weight, bias and statistics: plane `p` takes number `p % len`.
    per_plane: Extras<Vec<f64>>,
    /// Weight and bias of the shape of x, and the residual.
    per_element: Extras<Operand<'a, T>>,
    /// The unit that each plane of x is counted in; empty where all of them are 1.
    units: &'a [f64],
}

impl<'a, T: Element> Inputs<'a, T> {
    pub fn new(extras: &Extras<View<'a, CpuStorage>>, spec: &'a NormSpec) -> Result<Self> {
        let is_per_element = |view: &View<'a, CpuStorage>| spec.is_per_element(view.1);
        let operand = |view: Option<View<'a, CpuStorage>>| {
            let view = view.map(|view| Operand::new(view, spec));
            view.transpose()
        };
        let numbers = |view: Option<View<'a, CpuStorage>>| {
            let view = view.filter(|view| !is_per_element(view));
            view.map(per_plane).transpose()
        };
        Ok(Self {
            spec,
            per_plane: Extras {
                weight: numbers(extras.weight)?,
                bias: numbers(extras.bias)?,
                residual: None,
                stats: match extras.stats {
                    Some([mean, rstd]) => Some([per_plane(mean)?, per_plane(rstd)?]),
                    None => None,
                },
            },
            per_element: Extras {
                weight: operand(extras.weight.filter(is_per_element))?,
                bias: operand(extras.bias.filter(is_per_element))?,
                residual: operand(extras.residual)?,
                stats: None,
            },
            units: &[],
        })
    }

    /// Inputs beside an x whose planes are counted in these units.
    pub fn in_units(self, units: &'a [f64]) -> Self {
        Self { units, ..self }
    }

    /// True if x is normalized with other statistics than its own.
    pub fn has_stats(&self) -> bool {
        self.per_plane.stats.is_some()
    }

    pub fn weight_per_element(&self) -> Option<&Operand<'a, T>> {
        self.per_element.weight.as_ref()
    }

    /// The factor of the normalized values of a plane: 1 beside a weight per element.
    #[inline(always)]
    pub fn weight_of(&self, plane: usize) -> f64 {
        let weight = self.per_plane.weight.as_ref();
        weight.map_or(1., |weight| of(weight, plane) + self.spec.weight_offset)
    }

    /// The moments of a group, those of its planes, from `first` on, taken together.
    #[inline(always)]
    pub fn group_moments(&self, first: usize, measures: &[impl Measure]) -> Moments {
        let mut group = measures[0].x();
        for m in &measures[1..] {
            group = group.merge(&m.x());
        }
        if let Some(&unit) = self.units.get(first) {
            group.unit = unit;
        }
        group.without_noise::<T::Acc>()
    }

    /// The given mean and rstd of a plane in place of those of its group.
    #[inline(always)]
    pub fn stats_or(&self, plane: usize, group: Moments, rstd: f64) -> (Moments, f64) {
        match &self.per_plane.stats {
            Some([mean, rstd]) => {
                let mean = of(mean, plane);
                (Moments { mean, ..group }, of(rstd, plane))
            }
            None => (group, rstd),
        }
    }

    /// The coefficients of whole groups, from plane `first` on. What an f32 leaves out of the mean,
    /// times the scale, is part of the shift: at a mean of 1e4 and a deviation of 1e-2 up to 5 % of
    /// a deviation.
    #[inline(always)]
    pub fn affine<'k>(
        &self,
        first: usize,
        measures: &[impl Measure],
        mut coefficients: impl Iterator<Item = &'k mut Affine<T::Acc>>,
    ) where
        T::Acc: 'k,
    {
        let per_group = self.spec.channels_per_group;
        for start in (0..measures.len()).step_by(per_group) {
            let (group, rstd) = if self.has_stats() {
                (GIVEN, 0.)
            } else {
                let group = self.group_moments(first + start, &measures[start..start + per_group]);
                (group, self.spec.rule.rstd_and_slope(&group).0)
            };
            for (i, k) in coefficients.by_ref().take(per_group).enumerate() {
                *k = self.affine_of(first + start + i, group, rstd);
            }
        }
    }

    #[inline(always)]
    fn affine_of(&self, plane: usize, group: Moments, rstd: f64) -> Affine<T::Acc> {
        let (group, rstd) = self.stats_or(plane, group, rstd);
        let weight = self.weight_of(plane);
        let bias = self.per_plane.bias.as_ref();
        let bias = bias.map_or(0., |bias| of(bias, plane));
        let (mean, rest) = split(group.mean);
        let (scale, shift) = self.spec.scale_and_shift(&group, rstd, weight, bias, rest);
        Affine {
            mean,
            scale: Acc::from_f64(scale),
            shift: Acc::from_f64(shift),
        }
    }

    /// `out = activation(v)`, for `v` the affine function of x with these coefficients, then with
    /// the parameters per element and the residual.
    #[inline(always)]
    pub fn values<'w, 'o, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        x: &'w [T::Acc],
        span: Span,
        k: Affine<V>,
        activation: Activation,
        out: &'o mut [MaybeUninit<T::Acc>],
        [weight, bias, residual]: &'w mut Converted<T>,
    ) -> Values<'w, 'o, T::Acc, V> {
        let from = &self.per_element;
        Values {
            x,
            k,
            weight: from.weight.as_ref().map(|w| w.read::<S>(span, weight)),
            weight_offset: self.spec.weight_offset,
            bias: from.bias.as_ref().map(|b| b.read::<S>(span, bias)),
            residual: from.residual.as_ref().map(|r| r.read::<S>(span, residual)),
            activation,
            out,
        }
    }
}

/// Stands for the moments of a group that nobody measured.
const GIVEN: Moments = Moments {
    n: 1.,
    mean: 0.,
    m2: 0.,
    unit: 1.,
};

/// The number of a plane.
#[inline(always)]
fn of(numbers: &[f64], plane: usize) -> f64 {
    numbers[plane % numbers.len()]
}

/// `v` as a number of the accumulator's type and the rest of it.
#[inline(always)]
pub fn split<A: Acc>(v: f64) -> (A, f64) {
    let high = A::from_f64(v);
    (high, v - high.to_f64())
}
