//! Planes whose sums are beyond the largest number of the accumulator's type.
//!
//! Squares are summed in f32 (f64 for f64), which overflows where x is some 1e19 or more, and no
//! loop pays for a guard against that. Where a variance is infinite or NaN in the end, the pass
//! starts again with x counted in a larger unit: a power of 2, so that no digit of x is lost.

use super::element::Element;
use super::moments::Moments;
use super::operand::Operand;
use crate::shapes::Format;
use crate::spec::NormSpec;

/// No sum of squares or products of numbers below this overflows before memory runs out.
const SAFE: f64 = (1u64 << 32) as f64;

/// A copy of x, contiguous in the norm's format, in which every group has its unit.
pub struct Rescaled<T> {
    values: Vec<T>,
    /// The unit of each plane.
    pub units: Vec<f64>,
}

impl<T: Element> Rescaled<T> {
    /// `None` where no unit would help: x is small, or the groups that overflow are not finite.
    pub fn new(x: &Operand<T>, spec: &NormSpec) -> Option<Self> {
        let mut values = x.copy(spec);
        let units = rescale(&mut values, spec)?;
        Some(Self { values, units })
    }

    pub fn x(&self, spec: &NormSpec) -> Operand<'_, T> {
        Operand::contiguous(&self.values, spec)
    }
}

/// Divides the values of whole groups, which lie one after the other in the norm's format, by the
/// unit of each group, and returns the unit of each plane; or `None` where all of them are 1.
pub fn rescale<T: Element>(values: &mut [T], spec: &NormSpec) -> Option<Vec<f64>> {
    let plane_of = |i: usize| plane_of(i, spec);
    let mut largest = vec![0f64; values.len() / spec.planes.spatial];
    for (i, v) in values.iter().enumerate() {
        let (v, largest) = (v.to_f64().abs(), &mut largest[plane_of(i)]);
        // NaN stays.
        if v.is_nan() || v > *largest {
            *largest = v;
        }
    }
    let mut units = vec![1.; largest.len()];
    let per_group = spec.channels_per_group;
    for (units, largest) in units.chunks_mut(per_group).zip(largest.chunks(per_group)) {
        let finite = largest.iter().all(|v| v.is_finite());
        let largest = largest.iter().fold(0f64, |most, &v| most.max(v));
        if finite && largest >= SAFE {
            units.fill(power_of_two_below(largest));
        }
    }
    if units.iter().all(|&unit| unit == 1.) {
        return None;
    }
    for (i, v) in values.iter_mut().enumerate() {
        let unit = units[plane_of(i)];
        if unit != 1. {
            *v = T::from_f64(v.to_f64() / unit);
        }
    }
    Some(units)
}

/// The moments of whole planes, which lie one after the other in the norm's format and are counted
/// in these units, in two passes.
pub fn moments<T: Element>(values: &[T], units: &[f64], spec: &NormSpec) -> Vec<Moments> {
    let n = spec.planes.spatial as f64;
    let planes = units.iter().map(|&unit| Moments {
        n,
        unit,
        ..Moments::default()
    });
    let mut all: Vec<_> = planes.collect();
    for (i, v) in values.iter().enumerate() {
        all[plane_of(i, spec)].mean += v.to_f64() / n;
    }
    for (i, v) in values.iter().enumerate() {
        let plane = &mut all[plane_of(i, spec)];
        plane.m2 += (v.to_f64() - plane.mean).powi(2);
    }
    all
}

/// The plane of an element of the norm's format, both counted from where whole samples, or planes
/// in the planar format, begin.
fn plane_of(element: usize, spec: &NormSpec) -> usize {
    let planes = &spec.planes;
    match spec.format {
        Format::Planar => element / planes.spatial,
        Format::ChannelsLast => {
            let sample = element / (planes.c * planes.spatial);
            sample * planes.c + element % planes.c
        }
    }
}

/// The largest power of 2 that is no larger than `v`, which is 1 or more.
fn power_of_two_below(v: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    f64::from_bits(v.to_bits() & EXPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two() {
        for (v, want) in [
            (1., 1.),
            (1.9, 1.),
            (3e38, 2f64.powi(127)),
            (f64::MAX, 2f64.powi(1023)),
        ] {
            assert_eq!(power_of_two_below(v), want);
        }
    }
}
