//! What the kernels read and write: tensors of the size of x, read where they lie, and parameters.

use super::element::{Element, Scratch};
use super::simd::Simd;
use crate::args::{Norm, View};
use crate::shapes::{adjacent, Format, PlaneLayout};
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

// SAFETY: it stands for a `&[T]`, or in place for memory that `sweep` divides among the threads.
unsafe impl<T: Sync> Send for Operand<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Operand<'_, T> {}

impl<'a, T: Element> Operand<'a, T> {
    pub fn new((storage, layout): View<'a, CpuStorage>, norm: &Norm) -> Result<Self> {
        let data = storage.as_slice::<T>()?;
        Self::of(data.as_ptr(), data.len(), layout, norm, false)
    }

    /// The elements of a contiguous x, and the same as the place of the results.
    pub fn in_place(data: &'a mut [T], layout: &Layout, norm: &Norm) -> Result<(Self, Target<T>)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("norm: expected a contiguous x to work in place, got {layout:?}")
        };
        if end > data.len() {
            bail!("norm: expected {end} elements or more, got {}", data.len())
        }
        // One pointer serves both: neither side holds a reference for longer than a chunk.
        let (all, len) = (data.as_mut_ptr(), data.len());
        let x = Self::of(all, len, layout, norm, true)?;
        // SAFETY: `start..end`, as many elements as x has, is within the slice.
        let target = unsafe { Target::new(all.add(start)) };
        Ok((x, target))
    }

    fn of(
        data: *const T,
        len: usize,
        layout: &Layout,
        norm: &Norm,
        in_place: bool,
    ) -> Result<Self> {
        let planes = match norm.format {
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
            c: norm.planes.c,
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
        // SAFETY: inside the `len` elements from `data` on. Where results overwrite them, `sweep`
        // lets one thread at a time have a place, and `read` has let go of the slice by then.
        unsafe { slice::from_raw_parts(self.data.add(start), len) }
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
pub struct Target<T> {
    data: *mut T,
}

// SAFETY: `sweep` hands every place to one thread alone.
unsafe impl<T: Send> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T: Element> Target<T> {
    /// # Safety
    ///
    /// `data` points at as many elements as x has, and nothing else uses them until the sweep ends.
    pub unsafe fn new(data: *mut T) -> Self {
        Self { data }
    }

    /// # Safety
    ///
    /// The place is inside the tensor that this was made for, no other thread has it, and no slice
    /// of an operand that is worked on in place overlaps it.
    #[inline(always)]
    pub unsafe fn slice<'a>(
        &self,
        place: Place,
        spatial: usize,
        len: usize,
    ) -> &'a mut [MaybeUninit<T>] {
        let start = match place {
            Place::Plane { plane, at } => plane * spatial + at,
            Place::Row(at) => at,
        };
        // SAFETY: promised by the caller.
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
    pub fn new(view: Option<View<'a, CpuStorage>>, norm: &Norm) -> Result<Self> {
        match view {
            None => Ok(Self::Absent),
            Some(view) if norm.is_per_element(view.1) => {
                Ok(Self::PerElement(Operand::new(view, norm)?))
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
