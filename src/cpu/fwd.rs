//! The forward pass: `y = activation((x - mean) * scale + shift ...)`, see [`NormSpec`].

use super::activation::activate;
use super::affine::Affine;
use super::buffer::{UninitBuffer, Writer};
use super::element::{Acc, Element, Register};
use super::inputs::{Inputs, PerElement};
use super::moments::Moments;
use super::operand::{self, Operand, Reader, Span};
use super::overflow::{Rescaled, moments, rescale};
use super::pass::GroupPass;
use super::schedule;
use super::simd::Simd;
use super::vector::Part;
use crate::shapes::Format;
use crate::spec::{Activation, Extras, NormSpec, ScaleStat, View};
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
    Ok(T::storage(unsafe { y.filled() }))
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
    Ok(<T::Acc as Element>::storage(all))
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
        // In place, they are the elements of x.
        let values = unsafe { self.y?.slice(Span { plane, start, len }) };
        let units = rescale(values, spec)?;
        Some(moments(values, &units, spec))
    }
}

/// A span of each tensor. In place, both `x` and `y` are that of x.
#[derive(Clone, Copy)]
struct Tensors<'a, T> {
    x: Reader<'a, T>,
    params: PerElement<'a, T>,
    y: Option<Writer<'a, T>>,
}

impl<T: Element> GroupPass<T> for Forward<'_, T> {
    type Measure = Moments;
    type Coefficients<V: Copy + Default + Send + Sync> = Affine<V>;
    const COEFFICIENTS: usize = 3;
    /// The moments of the plane, not of its group.
    type Share = Moments;
    type Tensors<'a>
        = Tensors<'a, T>
    where
        Self: 'a;

    fn measures(&self, _: usize) -> bool {
        !self.inputs.has_stats()
    }

    fn is_plain(&self) -> bool {
        self.inputs.spec.activation == Activation::None && !self.inputs.are_per_element()
    }

    fn are_adjacent(&self) -> bool {
        self.x.is_none_or(|x| x.is_adjacent()) && self.inputs.are_adjacent()
    }

    #[inline(always)]
    fn tensors(&self, span: Span) -> Tensors<'_, T> {
        let x = match (&self.x, self.y) {
            (Some(x), _) => x.reader(span),
            // SAFETY: in place; each element is loaded before it is written, see `GroupPass`.
            (None, Some(y)) => unsafe { y.reader(span) },
            (None, None) => Reader::new(&[]),
        };
        Tensors {
            x,
            params: self.inputs.per_element(span),
            y: self.y.map(|y| y.writer(span)),
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd, const PLAIN: bool>(
        &self,
        _: usize,
        of: &Tensors<'_, T>,
        i: usize,
        part: Part,
        _: &Affine<Register<S, T>>,
    ) -> [Register<S, T>; 2] {
        // SAFETY: promised by the caller.
        let x = unsafe { of.x.at::<S>(i, part) };
        [x, Register::<S, T>::default()]
    }

    // Compiled once, not for every instruction set: it computes number by number.
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
        self.inputs.affine(first, measures, coefficients, |k| k);
        for (i, (share, m)) in shares.iter_mut().zip(measures).enumerate() {
            *share = match self.y {
                // Whether it is finite is all that counts.
                Some(_) => *m,
                None => self.inputs.group_moments(first + i, &[*m]),
            };
        }
    }

    #[inline(always)]
    fn prefetch_line<S: Simd>(&self, of: &Tensors<'_, T>, i: usize, to_write: bool) {
        of.x.prefetch::<S>(i);
        if let Some(y) = of.y.as_ref().filter(|_| to_write) {
            y.prefetch::<S>(i);
        }
    }

    fn writes(&self) -> bool {
        self.y.is_some()
    }

    #[inline(always)]
    fn streams_after(&self, of: &Tensors<'_, T>, i: usize, lanes: usize) -> Option<usize> {
        of.y.filter(Writer::streams).map(|y| y.unaligned(i, lanes))
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const PLAIN: bool>(
        &self,
        of: &Tensors<'_, T>,
        i: usize,
        part: Part,
        k: &Affine<Register<S, T>>,
        streams: bool,
    ) {
        let Some(y) = &of.y else { return };
        // SAFETY: promised by the caller.
        unsafe {
            let x = of.x.at::<S>(i, part);
            let y_of_x = if PLAIN {
                k.of(x)
            } else {
                let v = self.inputs.value::<S>(&of.params, i, part, x, k);
                activate(self.inputs.spec.activation, v)
            };
            y.put::<S>(y_of_x, i, part, streams);
        }
    }

    #[inline(always)]
    fn map<V, W>(k: Affine<V>, f: impl FnMut(V) -> W) -> Affine<W> {
        k.map(f)
    }
}
