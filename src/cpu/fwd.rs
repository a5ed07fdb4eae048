//! The forward pass: `y = activation((x - mean) * scale + shift ...)`, see [`NormSpec`].

use super::buffer::UninitBuffer;
use super::element::{Acc, Element, written};
use super::inputs::Inputs;
use super::loops::Affine;
use super::moments::Moments;
use super::operand::{self, Operand, Span};
use super::overflow::{Rescaled, moments, rescale};
use super::pass::{GroupPass, Lanes, Scratch, chunk_of};
use super::schedule;
use super::simd::Simd;
use crate::shapes::Format;
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use candle_core::{CpuStorage, Layout, Result};

struct Forward<'a, T> {
    inputs: Inputs<'a, T>,
    /// `None` in place, where `y` holds x.
    x: Option<Operand<'a, T>>,
    /// `None` where only the statistics are asked for.
    y: Option<&'a UninitBuffer<'a, T>>,
}

pub fn forward<T: Element>(
    x: View<CpuStorage>,
    extras: &Extras<View<CpuStorage>>,
    spec: &NormSpec,
) -> Result<CpuStorage> {
    let y = UninitBuffer::<T>::new(&spec.planes);
    run(Operand::new(x, spec)?, Inputs::new(extras, spec)?, Some(&y));
    // SAFETY: the pass has written every element.
    Ok(T::store(unsafe { y.filled() }))
}

/// Overwrites x, which is contiguous, with the result of [`forward`].
pub fn forward_in_place<T: Element>(
    x: &mut [T],
    layout: &Layout,
    extras: &Extras<View<CpuStorage>>,
    spec: &NormSpec,
) -> Result<()> {
    let y = UninitBuffer::over(operand::in_place(x, layout)?, &spec.planes);
    let pass = Forward {
        inputs: Inputs::new(extras, spec)?,
        x: None,
        y: Some(&y),
    };
    schedule::run(&pass, spec);
    Ok(())
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats<T: Element>(
    x: View<CpuStorage>,
    spec: &NormSpec,
    stat: ScaleStat,
) -> Result<CpuStorage> {
    let inputs = Inputs::<T>::new(&Extras::none(), spec)?;
    let planes = run(Operand::new(x, spec)?, inputs, None);
    let means = planes.iter().map(|plane| plane.mean * plane.unit);
    let seconds = planes.iter().map(|plane| spec.rule.stat(stat, plane));
    let all = means.chain(seconds).map(Acc::from_f64).collect();
    Ok(<T::Acc as Element>::store(all))
}

/// Runs the pass, and once more in larger units where sums overflow.
fn run<'a, T: Element>(
    x: Operand<'a, T>,
    inputs: Inputs<'a, T>,
    y: Option<&'a UninitBuffer<'a, T>>,
) -> Vec<Moments> {
    let spec = inputs.spec;
    let x = Some(x);
    let pass = Forward { inputs, x, y };
    let planes = schedule::run(&pass, spec);
    if !pass.overflows(&planes) {
        return planes;
    }
    let Some(rescaled) = x.and_then(|x| Rescaled::new(&x, spec)) else {
        return planes;
    };
    let pass = Forward {
        inputs: pass.inputs.in_units(&rescaled.units),
        x: Some(rescaled.x(spec)),
        ..pass
    };
    schedule::run(&pass, spec)
}

impl<T: Element> Forward<'_, T> {
    fn overflows(&self, planes: &[Moments]) -> bool {
        !self.inputs.has_stats() && planes.iter().any(|plane| !plane.m2.is_finite())
    }

    /// Counts the x of whole groups, from plane `first` on, in larger units where their sums
    /// overflow, and measures the planes again.
    ///
    /// # Safety
    ///
    /// The pass works in place. Nothing else uses an element of the groups meanwhile, or has
    /// written a result over it.
    #[cold]
    unsafe fn rescale_in_place(&self, first: usize, planes: usize) -> Option<Vec<Moments>> {
        let spec = self.inputs.spec;
        let spatial = spec.planes.spatial;
        let (plane, start) = match spec.format {
            Format::Planar => (first, 0),
            Format::ChannelsLast => (0, first * spatial),
        };
        let len = planes * spatial;
        // SAFETY: the caller promises that the elements are this function's alone.
        let values = unsafe { self.y?.slice(Span { plane, start, len }) };
        // SAFETY: in place, they are the elements of x.
        let values = unsafe { written(values) };
        let units = rescale(values, spec)?;
        Some(moments(values, &units, spec))
    }
}

impl<T: Element> GroupPass<T> for Forward<'_, T> {
    type Measure = Moments;
    type Coefficients<V: Lanes<T::Acc>> = Affine<V>;
    /// The moments of the plane, not of its group.
    type Share = Moments;

    fn measures(&self, _: usize) -> bool {
        !self.inputs.has_stats()
    }

    fn scratch(&self) -> Scratch<T> {
        let mut scratch = Scratch::new();
        if self.x.is_none() {
            scratch.x = chunk_of();
        }
        scratch
    }

    #[inline(always)]
    unsafe fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        _: usize,
        span: Span,
        _: Affine<V>,
        scratch: &'w mut Scratch<T>,
    ) -> [&'w [T::Acc]; 2] {
        let x = match (&self.x, self.y) {
            (Some(x), _) => x.read::<S>(span, &mut scratch.x),
            (None, Some(y)) => {
                // SAFETY: the caller has the span to itself and is done with what this returns
                // before it writes. In place, the elements are those of x.
                let x = unsafe { written(y.slice(span)) };
                T::widen::<S>(x, &mut scratch.x)
            }
            (None, None) => &[],
        };
        [x, &[]]
    }

    // Compiled once: vector instructions would save 2 % of the instructions of 7x7 planes.
    #[inline(never)]
    unsafe fn finish(
        &self,
        _: usize,
        first: usize,
        measures: &[Moments],
        coefficients: &mut [Affine<T::Acc>],
        shares: &mut [Moments],
    ) {
        let rescaled = if self.x.is_none() && self.overflows(measures) {
            // SAFETY: in place; the caller has the groups to itself, and `write` comes later.
            unsafe { self.rescale_in_place(first, measures.len()) }
        } else {
            None
        };
        let measures = rescaled.as_deref().unwrap_or(measures);
        self.inputs.affine(first, measures, coefficients.iter_mut());
        for (i, (share, m)) in shares.iter_mut().zip(measures).enumerate() {
            *share = self.inputs.group_moments(first + i, &[*m]);
        }
    }

    fn writes(&self) -> bool {
        self.y.is_some()
    }

    #[inline(always)]
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        span: Span,
        coefficients: Affine<V>,
        scratch: &mut Scratch<T>,
    ) {
        let Some(y) = self.y else { return };
        // SAFETY: the caller has the span to itself and no loaded values of it in use.
        let y = unsafe { y.slice(span) };
        let x = match &self.x {
            Some(x) => x.read::<S>(span, &mut scratch.x),
            // SAFETY: in place, the elements are those of x until the results replace them.
            None => T::widen_copy::<S>(unsafe { written(y) }, &mut scratch.x),
        };
        let (k, activation) = (coefficients, self.inputs.spec.activation);
        let out = T::out(y, &mut scratch.output);
        let params = &mut scratch.params;
        let values = self
            .inputs
            .values::<S, V>(x, span, k, activation, out, params);
        values.write::<S>();
        // SAFETY: `values` has written every element of `out`.
        unsafe { T::narrow::<S>(y, &mut scratch.output) }
    }

    #[inline(always)]
    fn map<V: Lanes<T::Acc>, W: Lanes<T::Acc>>(
        coefficients: Affine<V>,
        f: impl FnMut(V) -> W,
    ) -> Affine<W> {
        coefficients.map(f)
    }
}
