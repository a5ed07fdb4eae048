//! What the kernels read and write: tensors of the size of x, read where they lie, and parameters.

use super::element::{Element, Scratch};
use super::simd::Simd;
use crate::shapes::{adjacent, Format, PlaneLayout};
use crate::spec::{NormSpec, View};
use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, Layout, Result, WithDType};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

/// Where a run of adjacent elements starts.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// At this element of a plane.
    Plane { plane: usize, at: usize },
    /// At this element of a channels-last tensor.
    Row(usize),
}

impl Place {
    #[inline(always)]
    pub fn plus(self, by: usize) -> Self {
        match self {
            Self::Plane { plane, at } => Self::Plane { plane, at: at + by },
            Self::Row(at) => Self::Row(at + by),
        }
    }
}

/// A tensor of the shape of x.
#[derive(Clone, Copy)]
pub struct Operand<'a, T> {
    data: *const T,
    len: usize,
    layout: PlaneLayout,
    c: usize,
    /// Whether the results go where the elements are.
    in_place: bool,
    _life: PhantomData<&'a T>,
}

// SAFETY: an operand reads and does no more, as the `&[T]` does that it is made of and stands for.
// In place, the maker promises that what it reads is not written at the same time.
unsafe impl<T: Sync> Send for Operand<'_, T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Sync> Sync for Operand<'_, T> {}

impl<'a, T: Element> Operand<'a, T> {
    pub fn new((storage, layout): View<'a, CpuStorage>, spec: &NormSpec) -> Result<Self> {
        let data = storage.as_slice::<T>()?;
        Self::of(data.as_ptr(), data.len(), layout, spec, false)
    }

    /// All of `values`, contiguous in the norm's format.
    pub fn contiguous(values: &'a [T], spec: &NormSpec) -> Self {
        let stride_c = spec.planes.spatial;
        Self {
            data: values.as_ptr(),
            len: values.len(),
            layout: PlaneLayout {
                offset: 0,
                stride_n: spec.planes.c * stride_c,
                stride_c,
            },
            c: spec.planes.c,
            in_place: false,
            _life: PhantomData,
        }
    }

    /// The elements of a contiguous x, and the same memory as the target of the results.
    ///
    /// # Safety
    ///
    /// As long as the two are used, no place of the target is written, or sliced, while a slice
    /// that [`read`](Self::read) returned overlaps it, or while another thread reads it.
    /// [`take`](Self::take) returns a copy, which overlaps nothing.
    pub unsafe fn in_place(
        data: &'a mut [T],
        layout: &Layout,
        spec: &NormSpec,
    ) -> Result<(Self, Target<'a, T>)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("norm: expected a contiguous x to work in place, got {layout:?}")
        };
        if end > data.len() {
            bail!("norm: expected {end} elements or more, got {}", data.len())
        }
        // One pointer serves both, so that neither is invalidated by the other's.
        let (all, len) = (data.as_mut_ptr(), data.len());
        let x = Self::of(all, len, layout, spec, true)?;
        let target = Target {
            // SAFETY: `start..end` is within the slice.
            data: unsafe { all.add(start) },
            len: end - start,
            _life: PhantomData,
        };
        Ok((x, target))
    }

    fn of(
        data: *const T,
        len: usize,
        layout: &Layout,
        spec: &NormSpec,
        in_place: bool,
    ) -> Result<Self> {
        let planes = match spec.format {
            Format::Planar => adjacent(layout)?,
            // Contiguous, as the op made it.
            Format::ChannelsLast => PlaneLayout {
                offset: layout.start_offset(),
                stride_n: 0,
                stride_c: 0,
            },
        };
        Ok(Self {
            data,
            len,
            layout: planes,
            c: spec.planes.c,
            in_place,
            _life: PhantomData,
        })
    }

    #[inline(always)]
    fn start(&self, place: Place) -> usize {
        match place {
            Place::Plane { plane, at } => self.layout.start(plane, self.c) + at,
            Place::Row(at) => self.layout.offset + at,
        }
    }

    #[inline(always)]
    fn slice(&self, place: Place, len: usize) -> &[T] {
        let start = self.start(place);
        assert!(start + len <= self.len);
        // SAFETY: inside the `self.len` elements from `data` on, which are borrowed for `'a`. In
        // place, the maker promises that nothing writes them as long as the slice lives.
        unsafe { slice::from_raw_parts(self.data.add(start), len) }
    }

    /// All elements, in the order of the norm's format.
    pub fn copy(&self, spec: &NormSpec) -> Vec<T> {
        let planes = &spec.planes;
        if spec.format == Format::ChannelsLast {
            return self.slice(Place::Row(0), planes.elements()).to_vec();
        }
        let mut all = Vec::with_capacity(planes.elements());
        for plane in 0..planes.count() {
            all.extend_from_slice(self.slice(Place::Plane { plane, at: 0 }, planes.spatial));
        }
        all
    }

    /// The values at a place, in `scratch` where they need converting.
    #[inline(always)]
    pub fn read<'s, S: Simd>(
        &'s self,
        place: Place,
        len: usize,
        scratch: &'s mut Scratch<T::Acc>,
    ) -> &'s [T::Acc] {
        T::widen::<S>(self.slice(place, len), scratch)
    }

    /// As `read`, for the pass that writes: in place, what it returns is a copy.
    #[inline(always)]
    pub fn take<'s, S: Simd>(
        &'s self,
        place: Place,
        len: usize,
        scratch: &'s mut Scratch<T::Acc>,
    ) -> &'s [T::Acc] {
        if self.in_place {
            scratch.resize(super::element::CHUNK, T::Acc::default());
            return T::widen_copy::<S>(self.slice(place, len), scratch);
        }
        self.read::<S>(place, len, scratch)
    }
}

/// Where results go: as many elements as x has, in the order of its format.
#[derive(Clone, Copy)]
pub struct Target<'a, T> {
    data: *mut T,
    len: usize,
    _life: PhantomData<&'a mut [MaybeUninit<T>]>,
}

// SAFETY: a target is a pointer that no safe code reads or writes through: who takes a `slice` of
// it promises that the place is this thread's alone.
unsafe impl<T: Send> Send for Target<'_, T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for Target<'_, T> {}

impl<'a, T: Element> Target<'a, T> {
    pub fn new(memory: &'a mut [MaybeUninit<T>]) -> Self {
        Self {
            data: memory.as_mut_ptr().cast(),
            len: memory.len(),
            _life: PhantomData,
        }
    }

    /// # Safety
    ///
    /// Nothing else that overlaps the place, be it a slice of a target or one of an operand that is
    /// worked on in place, is used as long as the slice is, on this thread or another.
    #[inline(always)]
    pub unsafe fn slice(
        &self,
        place: Place,
        spatial: usize,
        len: usize,
    ) -> &'a mut [MaybeUninit<T>] {
        let start = match place {
            Place::Plane { plane, at } => plane * spatial + at,
            Place::Row(at) => at,
        };
        assert!(start + len <= self.len);
        // SAFETY: inside the `self.len` elements from `data` on, which are borrowed for `'a`; the
        // caller promises that this is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.data.add(start).cast(), len) }
    }
}

/// A weight, bias or given statistic.
pub enum Param<'a, T> {
    Absent,
    /// Plane `p` takes number `p % len`. In f64: they are read once a plane.
    PerPlane(Vec<f64>),
    PerElement(Operand<'a, T>),
}

impl<'a, T: Element> Param<'a, T> {
    pub fn new(view: Option<View<'a, CpuStorage>>, spec: &NormSpec) -> Result<Self> {
        match view {
            None => Ok(Self::Absent),
            Some(view) if spec.is_per_element(view.1) => {
                Ok(Self::PerElement(Operand::new(view, spec)?))
            }
            Some(view) => Ok(Self::PerPlane(widen(view)?)),
        }
    }

    /// The number of a plane, where there is one.
    #[inline(always)]
    pub fn of(&self, plane: usize) -> Option<f64> {
        match self {
            Self::PerPlane(values) => Some(values[plane % values.len()]),
            _ => None,
        }
    }

    pub fn per_element(&self) -> Option<&Operand<'a, T>> {
        match self {
            Self::PerElement(operand) => Some(operand),
            _ => None,
        }
    }
}

fn widen((storage, layout): View<CpuStorage>) -> Result<Vec<f64>> {
    fn all<T: WithDType>(storage: &CpuStorage, start: usize, end: usize) -> Result<Vec<f64>> {
        let values = &storage.as_slice::<T>()?[start..end];
        Ok(values.iter().map(|v| v.to_f64()).collect())
    }
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("norm: expected contiguous parameters, got {layout:?}")
    };
    super::dispatch!(storage.dtype(), all(storage, start, end))
}
