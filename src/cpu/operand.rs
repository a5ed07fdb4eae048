//! Tensors of the shape of x, read where they lie, and parameters.

use super::element::{Element, Register};
use super::simd::Simd;
use super::vector::Part;
use crate::shapes::{Format, PlaneLayout, adjacent};
use crate::spec::{NormSpec, View};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, WithDType, bail};
use std::marker::PhantomData;

/// `len` adjacent elements, from element `start` of a plane on. Channels-last, where the elements
/// of a plane are not adjacent, all spans start from plane 0, the beginning of the tensor.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub plane: usize,
    pub start: usize,
    pub len: usize,
}

/// A tensor of the shape of x, to read.
#[derive(Clone, Copy)]
pub struct Operand<'a, T> {
    data: &'a [T],
    layout: PlaneLayout,
    c: usize,
    spatial: usize,
}

impl<'a, T: Element> Operand<'a, T> {
    pub fn new((storage, layout): View<'a, CpuStorage>, spec: &NormSpec) -> Result<Self> {
        let planes = match spec.format {
            Format::Planar => adjacent(layout)?,
            // Contiguous, as the op made it, so that all is counted from plane 0.
            Format::ChannelsLast => PlaneLayout {
                offset: layout.start_offset(),
                stride_n: 0,
                stride_c: 0,
            },
        };
        Ok(Self {
            data: storage.as_slice()?,
            layout: planes,
            c: spec.planes.c,
            spatial: spec.planes.spatial,
        })
    }

    /// A tensor that is contiguous in the format of `spec`.
    pub fn contiguous(values: &'a [T], spec: &NormSpec) -> Self {
        let stride_c = spec.planes.spatial;
        Self {
            data: values,
            layout: PlaneLayout {
                offset: 0,
                stride_n: spec.planes.c * stride_c,
                stride_c,
            },
            c: spec.planes.c,
            spatial: spec.planes.spatial,
        }
    }

    #[inline(always)]
    fn slice(&self, span: Span) -> &'a [T] {
        let start = self.layout.start(span.plane, self.c) + span.start;
        &self.data[start..start + span.len]
    }

    #[inline(always)]
    pub fn reader(&self, span: Span) -> Reader<'a, T> {
        Reader::new(self.slice(span))
    }

    /// True if one plane lies behind the other, over all samples.
    pub fn is_adjacent(&self) -> bool {
        let PlaneLayout {
            stride_n, stride_c, ..
        } = self.layout;
        stride_c == self.spatial && stride_n == self.c * stride_c
    }

    /// All elements, in the order of the format of `spec`.
    pub fn copy(&self, spec: &NormSpec) -> Vec<T> {
        let planes = &spec.planes;
        let (count, len) = match spec.format {
            Format::Planar => (planes.count(), planes.spatial),
            Format::ChannelsLast => (1, planes.elements()),
        };
        let start = 0;
        let slices = (0..count).map(|plane| self.slice(Span { plane, start, len }));
        slices.collect::<Vec<_>>().concat()
    }
}

/// The elements of a span, to read in registers.
#[derive(Clone, Copy)]
pub struct Reader<'a, T> {
    start: *const T,
    len: usize,
    elements: PhantomData<&'a [T]>,
}

impl<'a, T: Element> Reader<'a, T> {
    #[inline(always)]
    pub fn new(elements: &'a [T]) -> Self {
        Self {
            start: elements.as_ptr(),
            len: elements.len(),
            elements: PhantomData,
        }
    }

    /// A reader of memory that is written meanwhile, element by element after it is read.
    ///
    /// # Safety
    ///
    /// `start` is to `len` elements, for as long as the reader is used.
    #[inline(always)]
    pub unsafe fn of(start: *const T, len: usize) -> Self {
        Self {
            start,
            len,
            elements: PhantomData,
        }
    }

    /// Asks for the line of an element, which may lie behind the span.
    #[inline(always)]
    pub fn prefetch<S: Simd>(&self, at: usize) {
        S::prefetch(self.start.wrapping_add(at));
    }

    /// The elements from `at` on.
    ///
    /// # Safety
    ///
    /// The span has them: as many as the register, or as `part` says. The job runs on a processor
    /// with the instructions of `S`.
    #[inline(always)]
    pub unsafe fn at<S: Simd>(&self, at: usize, part: Part) -> Register<S, T> {
        check::<S, T>(at, part, self.len);
        // SAFETY: promised by the caller.
        unsafe { T::load::<S>(self.start.add(at), part) }
    }
}

/// In debug builds, and so in tests: the elements of a part are elements of the span.
#[inline(always)]
pub fn check<S: Simd, T: Element>(at: usize, part: Part, len: usize) {
    use super::vector::Vector;
    let count = match part {
        Part::Whole => Register::<S, T>::LEN,
        Part::First(n) => n,
    };
    debug_assert!(at + count <= len, "{at} and {count} of {len}");
}

/// The numbers of a parameter per channel or per sample, in f64: each is read once a plane.
pub fn per_plane((storage, layout): View<CpuStorage>) -> Result<Vec<f64>> {
    fn widen<T: WithDType>(storage: &CpuStorage, start: usize, end: usize) -> Result<Vec<f64>> {
        let values = &storage.as_slice::<T>()?[start..end];
        Ok(values.iter().map(|v| v.to_f64()).collect())
    }
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("norm: expected contiguous parameters, got {layout:?}")
    };
    super::dispatch!(storage.dtype(), widen(storage, start, end))
}

/// The elements of a contiguous tensor, to be overwritten.
pub fn in_place<'a, T>(data: &'a mut [T], layout: &Layout) -> Result<&'a mut [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("norm: expected a contiguous x to work in place, got {layout:?}")
    };
    if end > data.len() {
        bail!("norm: expected {end} elements or more, got {}", data.len())
    }
    Ok(&mut data[start..end])
}
