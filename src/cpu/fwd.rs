//! The forward pass: `y = activation((x - mean) * scale + shift ...)`, see [`NormSpec`].

use super::activation::{with_activation, Function, Identity, Loop};
use super::element::{Acc, Element, Out, Scratch};
use super::moments::{Measure, Moments, OfX};
use super::operand::{Operand, Param, Place, Target};
use super::overflow::{moments, rescale, Rescaled};
use super::room::Room;
use super::rule::SetStats;
use super::set_op::{Lanes, SetOp, Workspace};
use super::simd::Simd;
use super::sweep::sweep;
use crate::shapes::Format;
use crate::spec::{Activation, Extras, NormSpec, ScaleStat, View};
use candle_core::{CpuStorage, Layout, Result};

/// What a pass reads beside dy.
pub struct Operands<'a, T> {
    pub spec: &'a NormSpec,
    pub x: Operand<'a, T>,
    pub weight: Param<'a, T>,
    pub bias: Param<'a, T>,
    pub residual: Option<Operand<'a, T>>,
    pub stats: Option<[Param<'a, T>; 2]>,
    /// The unit that each plane of x is counted in; empty where all of them are 1.
    units: &'a [f64],
}

impl<'a, T: Element> Operands<'a, T> {
    pub fn new(
        x: View<'a, CpuStorage>,
        extras: &Extras<View<'a, CpuStorage>>,
        spec: &'a NormSpec,
    ) -> Result<Self> {
        Self::with_x(Operand::new(x, spec)?, extras, spec)
    }

    pub fn with_x(
        x: Operand<'a, T>,
        extras: &Extras<View<'a, CpuStorage>>,
        spec: &'a NormSpec,
    ) -> Result<Self> {
        let residual = extras.residual.map(|view| Operand::new(view, spec));
        let stats = match extras.stats {
            Some([mean, rstd]) => {
                Some([Param::new(Some(mean), spec)?, Param::new(Some(rstd), spec)?])
            }
            None => None,
        };
        Ok(Self {
            spec,
            x,
            weight: Param::new(extras.weight, spec)?,
            bias: Param::new(extras.bias, spec)?,
            residual: residual.transpose()?,
            stats,
            units: &[],
        })
    }

    /// The same with x in larger units.
    pub fn rescaled(self, to: &'a Rescaled<T>) -> Self {
        Self {
            x: to.x(self.spec),
            units: &to.units,
            ..self
        }
    }

    /// The units of the planes from `first` on.
    #[inline(always)]
    pub fn units_from(&self, first: usize) -> &[f64] {
        self.units.get(first..).unwrap_or_default()
    }

    /// The coefficients of `z` or `v` for whole sets of planes from `first` on: the mean, and the
    /// scale and the shift of `x - mean`. What an f32 leaves out of the mean, times the scale, is
    /// part of the shift: at a mean of 1e4 and a deviation of 1e-2 up to 5 % of a deviation.
    #[inline(always)]
    pub fn affine<const F: usize>(
        &self,
        first: usize,
        measures: &[impl OfX],
        units: &[f64],
        coefficients: &mut [[T::Acc; F]],
    ) {
        let per_set = self.spec.channels_per_group;
        for start in (0..measures.len()).step_by(per_set) {
            let (set, rstd) = match &self.stats {
                Some(_) => (GIVEN, 0.),
                None => {
                    let unit = unit_of(units, start);
                    let set = set_stats::<T::Acc>(&measures[start..start + per_set], unit);
                    (set, self.spec.rule.spread(&set).rstd)
                }
            };
            let of_set = &mut coefficients[start..start + per_set];
            for (i, coefficients) in of_set.iter_mut().enumerate() {
                let plane = first + start + i;
                let (set, rstd) = self.stats_or(plane, set, rstd);
                let weight = self.spec.full_weight(self.weight.of(plane));
                let bias = self.bias.of(plane).unwrap_or(0.);
                let (mean, rest) = split(set.mean);
                let (scale, shift) = self.spec.scale_and_shift(&set, rstd, weight, bias, rest);
                coefficients[0] = mean;
                coefficients[1] = Acc::from_f64(scale);
                coefficients[2] = Acc::from_f64(shift);
            }
        }
    }

    /// The mean and rstd that the plane is normalized with.
    #[inline(always)]
    pub fn stats_or(&self, plane: usize, set: SetStats, rstd: f64) -> (SetStats, f64) {
        match &self.stats {
            Some([mean, rstd]) => {
                let mean = mean.of(plane).unwrap_or(0.);
                (SetStats { mean, ..set }, rstd.of(plane).unwrap_or(1.))
            }
            None => (set, rstd),
        }
    }

    /// `f(v)`, where `v` is what [`affine`](Self::affine) says of x, with the parameters per element
    /// and the residual.
    #[inline(always)]
    pub fn normalize<'r, S: Simd, V: Lanes<T::Acc>>(
        &self,
        x: &[T::Acc],
        place: Place,
        k: [V; 3],
        activation: Activation,
        mut out: Out<'r, T::Acc>,
        [extras, beside_too]: [&mut Scratch<T::Acc>; 2],
    ) -> &'r mut [T::Acc] {
        let len = x.len();
        let residual = self.residual.as_ref();
        let residual = residual.map(|r| r.read::<S>(place, len, beside_too));
        let (weight, bias) = (self.weight.per_element(), self.bias.per_element());
        if weight.is_none() && bias.is_none() {
            let normalize = Normalize {
                x,
                k,
                residual,
                out: out.cut(len),
            };
            with_activation::<S, _>(activation, normalize);
        } else {
            let normalize = Normalize {
                x,
                k,
                residual: None,
                out: out.cut(len),
            };
            normalize.run::<S, _>(Identity);
            // SAFETY: the loop has written every element.
            let v = unsafe { out.written(len) };
            if let Some(operand) = weight {
                let offset = Acc::from_f64(self.spec.weight_offset);
                for (v, &w) in v.iter_mut().zip(operand.read::<S>(place, len, extras)) {
                    *v *= w + offset;
                }
            }
            if let Some(operand) = bias {
                for (v, &b) in v.iter_mut().zip(operand.read::<S>(place, len, extras)) {
                    *v += b;
                }
            }
            with_activation::<S, _>(activation, Finish { v, residual });
            return v;
        }
        // SAFETY: the loop has written every element.
        unsafe { out.written(len) }
    }
}

/// `out = f((x - mean) * scale + shift + residual)`
struct Normalize<'a, A, V> {
    x: &'a [A],
    k: [V; 3],
    residual: Option<&'a [A]>,
    out: Out<'a, A>,
}

impl<A: Acc, V: Lanes<A>> Loop<A> for Normalize<'_, A, V> {
    #[inline(always)]
    fn run<S: Simd, F: Function<A>>(self, f: F) {
        let len = self.x.len();
        let (x, mut out) = (self.x, self.out);
        let mut out = out.cut(len);
        let [mean, scale, shift] = self.k;
        let (mean, scale, shift) = (mean.cut(len), scale.cut(len), shift.cut(len));
        match self.residual {
            None => {
                for i in 0..len {
                    let v = S::mul_add(x.at(i) - mean.at(i), scale.at(i), shift.at(i));
                    out.set(i, f.of::<S>(v));
                }
            }
            Some(residual) => {
                let residual = &residual[..len];
                for i in 0..len {
                    let v = S::mul_add(x[i] - mean.at(i), scale.at(i), shift.at(i));
                    out.set(i, f.of::<S>(v + residual[i]));
                }
            }
        }
    }
}

/// `v = f(v + residual)`
struct Finish<'a, A> {
    v: &'a mut [A],
    residual: Option<&'a [A]>,
}

impl<A: Acc> Loop<A> for Finish<'_, A> {
    #[inline(always)]
    fn run<S: Simd, F: Function<A>>(self, f: F) {
        match self.residual {
            None => {
                for v in self.v {
                    *v = f.of::<S>(*v);
                }
            }
            Some(residual) => {
                for (v, &r) in self.v.iter_mut().zip(residual) {
                    *v = f.of::<S>(*v + r);
                }
            }
        }
    }
}

/// Stands for the statistics of a set that nobody measured.
const GIVEN: SetStats = SetStats {
    n: 1.,
    mean: 0.,
    var: 0.,
    unit: 1.,
};

/// The unit of plane `i` of those that `units` are for.
#[inline(always)]
pub fn unit_of(units: &[f64], i: usize) -> f64 {
    units.get(i).copied().unwrap_or(1.)
}

/// The statistics of planes taken together.
#[inline(always)]
pub fn set_stats<A: Acc>(measures: &[impl OfX], unit: f64) -> SetStats {
    let mut whole = measures[0].of_x();
    for m in &measures[1..] {
        whole = whole.merge(&m.of_x());
    }
    SetStats::new::<A>(&whole, unit)
}

/// `v` as a number of the accumulator's type and what that leaves out.
#[inline(always)]
pub fn split<A: Acc>(v: f64) -> (A, f64) {
    let high = A::from_f64(v);
    (high, v - high.to_f64())
}

struct Forward<'a, T> {
    operands: Operands<'a, T>,
    y: Option<Target<'a, T>>,
    /// Whether y is x.
    in_place: bool,
}

impl<T: Element> Forward<'_, T> {
    fn overflows(&self, mut vars: impl Iterator<Item = f64>) -> bool {
        self.operands.stats.is_none() && vars.any(|var| !var.is_finite())
    }

    /// Counts whole sets of planes from `first` on, which nothing has been written to yet, in
    /// larger units where their sums overflow: the moments and units of the planes then.
    #[cold]
    fn rescale_in_place(&self, first: usize, planes: usize) -> Option<(Vec<Moments>, Vec<f64>)> {
        let spec = self.operands.spec;
        let spatial = spec.planes.spatial;
        let place = match spec.format {
            Format::Planar => Place::Plane {
                plane: first,
                at: 0,
            },
            Format::ChannelsLast => Place::Row(first * spatial),
        };
        // SAFETY: the sets are this thread's alone while `SetOp::finish` runs, and nothing that
        // was read of them is in use.
        let values = unsafe { self.y?.slice(place, spatial, planes * spatial) };
        // SAFETY: they are elements of x.
        let values = unsafe { &mut *(values as *mut [_] as *mut [T]) };
        let units = rescale(values, spec)?;
        Some((moments(values, spec), units))
    }
}

impl<T: Element> SetOp<T, 1, 2, 3> for Forward<'_, T> {
    type Measure = Moments;
    type Share = SetStats;

    fn measures(&self, _: usize) -> bool {
        self.operands.stats.is_none()
    }

    fn workspace(&self) -> Workspace<T> {
        Workspace::new(false, false)
    }

    #[inline(always)]
    fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        _: usize,
        place: Place,
        len: usize,
        _: [V; 3],
        ws: &'w mut Workspace<T>,
    ) -> [&'w [T::Acc]; 1] {
        [self.operands.x.read::<S>(place, len, &mut ws.reads.x)]
    }

    #[inline(always)]
    fn finish(
        &self,
        _: usize,
        first: usize,
        measures: &[Moments],
        coefficients: &mut [[T::Acc; 3]],
        shares: &mut [SetStats],
    ) {
        let rescaled = if self.in_place && self.overflows(measures.iter().map(Moments::var)) {
            self.rescale_in_place(first, measures.len())
        } else {
            None
        };
        let (measures, units) = match &rescaled {
            Some((measures, units)) => (&measures[..], &units[..]),
            None => (measures, self.operands.units_from(first)),
        };
        self.operands.affine(first, measures, units, coefficients);
        for (i, (share, m)) in shares.iter_mut().zip(measures).enumerate() {
            *share = SetStats::new::<T::Acc>(m, unit_of(units, i));
        }
    }

    fn writes(&self) -> bool {
        self.y.is_some()
    }

    #[inline(always)]
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        place: Place,
        len: usize,
        coefficients: [V; 3],
        ws: &mut Workspace<T>,
    ) {
        let Some(y) = self.y else { return };
        let spec = self.operands.spec;
        let x = self.operands.x.take::<S>(place, len, &mut ws.reads.x);
        // SAFETY: the caller promises that no other thread has the place. In place, x is a copy.
        let y = unsafe { y.slice(place, spec.planes.spatial, len) };
        let out = T::out(y, &mut ws.output);
        let scratch = [&mut ws.reads.extras, &mut ws.reads.residual];
        let (k, activation) = (coefficients, spec.activation);
        let operands = &self.operands;
        operands.normalize::<S, V>(x, place, k, activation, out, scratch);
        T::narrow::<S>(y, &ws.output);
    }
}

/// Runs the pass, and once more in larger units where sums overflow.
fn run<'a, T: Element>(operands: Operands<'a, T>, y: Option<Target<'a, T>>) -> Vec<SetStats> {
    let spec = operands.spec;
    let op = Forward {
        operands,
        y,
        in_place: false,
    };
    let stats = sweep(&op, spec);
    if !op.overflows(stats.iter().map(|set| set.var)) {
        return stats;
    }
    let Some(rescaled) = Rescaled::new(&op.operands.x, spec) else {
        return stats;
    };
    let op = Forward {
        operands: op.operands.rescaled(&rescaled),
        ..op
    };
    sweep(&op, spec)
}

pub fn forward<T: Element>(
    x: View<CpuStorage>,
    extras: &Extras<View<CpuStorage>>,
    spec: &NormSpec,
) -> Result<CpuStorage> {
    let operands = Operands::<T>::new(x, extras, spec)?;
    let mut y = Room::new(spec.planes.elements());
    run(operands, Some(y.target()));
    // SAFETY: the sweep has written every element.
    Ok(T::store(unsafe { y.filled() }))
}

/// As [`forward`], into the contiguous x.
pub fn forward_in_place<T: Element>(
    x: &mut [T],
    layout: &Layout,
    extras: &Extras<View<CpuStorage>>,
    spec: &NormSpec,
) -> Result<()> {
    // SAFETY: the sweep gives a set to one thread, or one segment to each, which has measured the
    // set, and dropped what it read, before a place of it is written; `Forward::write` takes copies.
    let (x, y) = unsafe { Operand::in_place(x, layout, spec)? };
    let op = Forward {
        operands: Operands::with_x(x, extras, spec)?,
        y: Some(y),
        in_place: true,
    };
    sweep(&op, spec);
    Ok(())
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats<T: Element>(
    x: View<CpuStorage>,
    spec: &NormSpec,
    stat: ScaleStat,
) -> Result<CpuStorage> {
    let operands = Operands::<T>::new(x, &Extras::none(), spec)?;
    let stats = run(operands, None);
    let means = stats.iter().map(|set| set.mean * set.unit);
    let seconds = stats.iter().map(|set| spec.rule.stat(stat, set));
    let all = means.chain(seconds).map(Acc::from_f64).collect();
    Ok(<T::Acc as Element>::store(all))
}
