//! The inputs beside x, and what both passes compute with them: `v`, the values before the
//! activation, see [`NormSpec`].

use super::affine::Affine;
use super::element::{Acc, Element, Register};
use super::moments::{Measure, Moments};
use super::operand::{Operand, Reader, Span, per_plane};
use super::simd::Simd;
use super::vector::{Part, Vector};
use crate::spec::{Extras, NormSpec, View};
use candle_core::{CpuStorage, Result};

/// The optional inputs, by how far they reach.
pub struct Inputs<'a, T> {
    pub spec: &'a NormSpec,
    /// Weight, bias and statistics: plane `p` takes number `p % len`.
    per_plane: Extras<Vec<f64>>,
    /// Weight and bias of the shape of x, and the residual.
    per_element: Extras<Operand<'a, T>>,
    /// Whether there is any of them.
    are_per_element: bool,
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
        let per_element = Extras {
            weight: operand(extras.weight.filter(is_per_element))?,
            bias: operand(extras.bias.filter(is_per_element))?,
            residual: operand(extras.residual)?,
            stats: None,
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
            are_per_element: per_element.weight.is_some()
                || per_element.bias.is_some()
                || per_element.residual.is_some(),
            per_element,
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

    /// True if any input beside x has a number for each element.
    #[inline(always)]
    pub fn are_per_element(&self) -> bool {
        self.are_per_element
    }

    /// True if in each of those inputs one plane lies behind the other.
    pub fn are_adjacent(&self) -> bool {
        let of = &self.per_element;
        let operands = [of.weight, of.bias, of.residual].into_iter().flatten();
        operands.into_iter().all(|operand| operand.is_adjacent())
    }

    pub fn has_weight_per_element(&self) -> bool {
        self.per_element.weight.is_some()
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
    pub fn affine<K>(
        &self,
        first: usize,
        measures: &[impl Measure],
        coefficients: &mut [K],
        affine_in: impl Fn(&mut K) -> &mut Affine<T::Acc>,
    ) {
        let per_group = self.spec.channels_per_group;
        let mut start = 0;
        // Adapters of iterators take longer than the numbers of a group of one.
        while start < measures.len() {
            let planes = start..start + per_group;
            let (group, rstd) = if self.has_stats() {
                (GIVEN, 0.)
            } else {
                let group = self.group_moments(first + start, &measures[planes.clone()]);
                (group, self.spec.rule.rstd_and_slope(&group).0)
            };
            for i in planes {
                *affine_in(&mut coefficients[i]) = self.affine_of(first + i, group, rstd);
            }
            start += per_group;
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

    /// The elements of a span in the parameters per element and the residual.
    #[inline(always)]
    pub fn per_element(&self, span: Span) -> PerElement<'a, T> {
        let from = &self.per_element;
        let reader = |operand: Option<Operand<'a, T>>| operand.map(|operand| operand.reader(span));
        if !self.are_per_element {
            return PerElement::default();
        }
        PerElement {
            any: true,
            weight: reader(from.weight),
            bias: reader(from.bias),
            residual: reader(from.residual),
        }
    }

    /// `v` of the elements from `i` on: the affine function of x with these coefficients, then with
    /// the parameters per element and the residual.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`](super::pass::GroupPass).
    #[inline(always)]
    pub unsafe fn value<S: Simd>(
        &self,
        with: &PerElement<T>,
        i: usize,
        part: Part,
        x: Register<S, T>,
        k: &Affine<Register<S, T>>,
    ) -> Register<S, T> {
        let mut v = k.of(x);
        if !with.any {
            return v;
        }
        // SAFETY: promised by the caller, here and below.
        unsafe {
            if let Some(weight) = &with.weight {
                v = v * self.offset_weight::<S>(weight.at::<S>(i, part));
            }
            if let Some(bias) = &with.bias {
                v = v + bias.at::<S>(i, part);
            }
            if let Some(residual) = &with.residual {
                v = v + residual.at::<S>(i, part);
            }
        }
        v
    }

    /// `weight + weight_offset`, for a weight per element.
    #[inline(always)]
    pub fn offset_weight<S: Simd>(&self, weight: Register<S, T>) -> Register<S, T> {
        weight + Register::<S, T>::splat(Acc::from_f64(self.spec.weight_offset))
    }
}

/// The elements of a span in the inputs that have the shape of x, if there are any.
#[derive(Clone, Copy)]
pub struct PerElement<'a, T> {
    any: bool,
    pub weight: Option<Reader<'a, T>>,
    bias: Option<Reader<'a, T>>,
    residual: Option<Reader<'a, T>>,
}

impl<T> Default for PerElement<'_, T> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            any: false,
            weight: None,
            bias: None,
            residual: None,
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
