//! The forward pass: `y = activation((x - mean) * scale + shift ...)`, see [`Norm`].

use super::activation::{with_activation, Function, Identity, Loop};
use super::element::{written, Acc, Element, Scratch};
use super::moments::{Measure, Moments, OfX};
use super::operand::{Operand, Param, Place, Target};
use super::room::Room;
use super::rule::SetStats;
use super::set_op::{Lanes, SetOp, Workspace};
use super::simd::Simd;
use super::sweep::sweep;
use crate::args::{Activation, Beside, Inputs, Norm, Second, View};
use candle_core::{CpuStorage, Layout, Result};
use std::mem::MaybeUninit;

/// What a pass reads beside dy.
pub struct Operands<'a, T> {
    pub norm: &'a Norm,
    pub x: Operand<'a, T>,
    pub weight: Param<'a, T>,
    pub bias: Param<'a, T>,
    pub residual: Option<Operand<'a, T>>,
    pub given: Option<[Param<'a, T>; 2]>,
}

impl<'a, T: Element> Operands<'a, T> {
    pub fn new(inputs: &Inputs<View<'a, CpuStorage>>, norm: &'a Norm) -> Result<Self> {
        Self::with_x(Operand::new(inputs.x, norm)?, &inputs.beside, norm)
    }

    pub fn with_x(
        x: Operand<'a, T>,
        beside: &Beside<View<'a, CpuStorage>>,
        norm: &'a Norm,
    ) -> Result<Self> {
        let residual = beside.residual.map(|view| Operand::new(view, norm));
        let given = match beside.given {
            Some([mean, rstd]) => {
                Some([Param::new(Some(mean), norm)?, Param::new(Some(rstd), norm)?])
            }
            None => None,
        };
        Ok(Self {
            norm,
            x,
            weight: Param::new(beside.weight, norm)?,
            bias: Param::new(beside.bias, norm)?,
            residual: residual.transpose()?,
            given,
        })
    }

    /// The coefficients of `z` or `v` for whole sets of planes from `first` on: the mean, and the
    /// scale and the shift of `x - mean`. What an f32 leaves out of the mean, times the scale, is
    /// part of the shift: at a mean of 1e4 and a deviation of 1e-2 up to 5 % of a deviation.
    #[inline(always)]
    pub fn affine<const F: usize>(
        &self,
        first: usize,
        measures: &[impl OfX],
        coefficients: &mut [[T::Acc; F]],
    ) {
        let per_set = self.norm.channels_per_group;
        for start in (0..measures.len()).step_by(per_set) {
            let (set, rstd) = match &self.given {
                Some(_) => (GIVEN, 0.),
                None => {
                    let set = set_stats(&measures[start..start + per_set]);
                    (set, self.norm.rule.spread(set.var, set.n).rstd)
                }
            };
            let of_set = &mut coefficients[start..start + per_set];
            for (i, coefficients) in of_set.iter_mut().enumerate() {
                let plane = first + start + i;
                let (set, rstd) = self.given_or(plane, set, rstd);
                let weight = self.norm.full_weight(self.weight.of(plane));
                let bias = self.bias.of(plane).unwrap_or(0.);
                let (mean, rest) = split(set.mean);
                let (scale, shift) = self.norm.scale_and_shift(&set, rstd, weight, bias, rest);
                coefficients[0] = mean;
                coefficients[1] = Acc::from_f64(scale);
                coefficients[2] = Acc::from_f64(shift);
            }
        }
    }

    /// The mean and rstd that the plane is normalized with.
    #[inline(always)]
    pub fn given_or(&self, plane: usize, set: SetStats, rstd: f64) -> (SetStats, f64) {
        match &self.given {
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
        room: &'r mut [MaybeUninit<T::Acc>],
        [beside, beside_too]: [&mut Scratch<T::Acc>; 2],
    ) -> &'r mut [T::Acc] {
        let len = x.len();
        let room = &mut room[..len];
        let residual = self.residual.as_ref();
        let residual = residual.map(|r| r.read::<S>(place, len, beside_too));
        let (weight, bias) = (self.weight.per_element(), self.bias.per_element());
        if weight.is_none() && bias.is_none() {
            let normalize = Normalize {
                x,
                k,
                residual,
                room,
            };
            with_activation::<S, _>(activation, normalize);
        } else {
            let normalize = Normalize {
                x,
                k,
                residual: None,
                room,
            };
            normalize.run::<S, _>(Identity);
            // SAFETY: the loop has written every element.
            let v = unsafe { written(room) };
            if let Some(operand) = weight {
                let offset = Acc::from_f64(self.norm.weight_offset);
                for (v, &w) in v.iter_mut().zip(operand.read::<S>(place, len, beside)) {
                    *v *= w + offset;
                }
            }
            if let Some(operand) = bias {
                for (v, &b) in v.iter_mut().zip(operand.read::<S>(place, len, beside)) {
                    *v += b;
                }
            }
            with_activation::<S, _>(activation, Finish { v, residual });
        }
        // SAFETY: the loops have written every element.
        unsafe { written(room) }
    }
}

/// `room = f((x - mean) * scale + shift + residual)`
struct Normalize<'a, A, V> {
    x: &'a [A],
    k: [V; 3],
    residual: Option<&'a [A]>,
    room: &'a mut [MaybeUninit<A>],
}

impl<A: Acc, V: Lanes<A>> Loop<A> for Normalize<'_, A, V> {
    #[inline(always)]
    fn run<S: Simd, F: Function<A>>(self, f: F) {
        let len = self.x.len();
        let (x, room) = (self.x, &mut self.room[..len]);
        let [mean, scale, shift] = self.k;
        let (mean, scale, shift) = (mean.cut(len), scale.cut(len), shift.cut(len));
        match self.residual {
            None => {
                for i in 0..len {
                    let v = S::mul_add(x[i] - mean.at(i), scale.at(i), shift.at(i));
                    room[i].write(f.of::<S>(v));
                }
            }
            Some(residual) => {
                let residual = &residual[..len];
                for i in 0..len {
                    let v = S::mul_add(x[i] - mean.at(i), scale.at(i), shift.at(i));
                    room[i].write(f.of::<S>(v + residual[i]));
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
};

/// The statistics of planes taken together.
#[inline(always)]
pub fn set_stats(measures: &[impl OfX]) -> SetStats {
    let mut whole = measures[0].of_x();
    for m in &measures[1..] {
        whole = whole.merge(&m.of_x());
    }
    SetStats {
        n: whole.n,
        mean: whole.mean,
        var: whole.var(),
    }
}

/// `v` as a number of the accumulator's type and what that leaves out.
#[inline(always)]
pub fn split<A: Acc>(v: f64) -> (A, f64) {
    let high = A::from_f64(v);
    (high, v - high.to_f64())
}

struct Forward<'a, T> {
    operands: Operands<'a, T>,
    y: Option<Target<T>>,
}

impl<T: Element> SetOp<T, 1, 2, 3> for Forward<'_, T> {
    type Measure = Moments;
    /// The mean and the biased variance.
    type Share = (f64, f64);

    fn measures(&self, _: usize) -> bool {
        self.operands.given.is_none()
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
        shares: &mut [(f64, f64)],
    ) {
        self.operands.affine(first, measures, coefficients);
        for (share, m) in shares.iter_mut().zip(measures) {
            *share = (m.mean, m.var());
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
        let norm = self.operands.norm;
        let x = self.operands.x.take::<S>(place, len, &mut ws.reads.x);
        // SAFETY: promised by the caller; in place, x is a copy by now.
        let y = unsafe { y.slice(place, norm.planes.spatial, len) };
        let room = T::room(y, &mut ws.output);
        let scratch = [&mut ws.reads.beside, &mut ws.reads.residual];
        let (k, activation) = (coefficients, norm.activation);
        let operands = &self.operands;
        operands.normalize::<S, V>(x, place, k, activation, room, scratch);
        T::narrow::<S>(y, &ws.output);
    }
}

pub fn forward<T: Element>(inputs: &Inputs<View<CpuStorage>>, norm: &Norm) -> Result<CpuStorage> {
    let operands = Operands::<T>::new(inputs, norm)?;
    let mut y = Room::new(norm.planes.elements());
    let op = Forward {
        operands,
        y: Some(y.target()),
    };
    sweep(&op, norm);
    // SAFETY: the sweep has written every element.
    Ok(T::store(unsafe { y.filled() }))
}

/// As [`forward`], into the contiguous x.
pub fn forward_in_place<T: Element>(
    x: &mut [T],
    layout: &Layout,
    beside: &Beside<View<CpuStorage>>,
    norm: &Norm,
) -> Result<()> {
    let (x, y) = Operand::in_place(x, layout, norm)?;
    let operands = Operands::with_x(x, beside, norm)?;
    sweep(
        &Forward {
            operands,
            y: Some(y),
        },
        norm,
    );
    Ok(())
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats<T: Element>(x: View<CpuStorage>, norm: &Norm, second: Second) -> Result<CpuStorage> {
    let operands = Operands::with_x(Operand::<T>::new(x, norm)?, &Beside::none(), norm)?;
    let n = norm.planes.spatial as f64;
    let stats = sweep(&Forward { operands, y: None }, norm);
    let means = stats.iter().map(|s| s.0);
    let seconds = stats.iter().map(|s| norm.rule.second(second, s.1, n));
    let all = means.chain(seconds).map(Acc::from_f64).collect();
    Ok(<T::Acc as Element>::store(all))
}
