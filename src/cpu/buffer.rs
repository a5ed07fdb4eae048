//! Memory that a pass writes its results to, a span at a time and by several threads.

use super::element::Element;
use super::operand::Span;
use crate::shapes::Planes;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

/// A result with as many elements as x, in the order of its format: new memory, without writing
/// zeros first, or a tensor to overwrite.
pub struct UninitBuffer<'a, T> {
    data: *mut T,
    len: usize,
    spatial: usize,
    /// The memory at `data`, with a length of 0, unless it is borrowed.
    owned: Vec<T>,
    _borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: a buffer owns its elements or has borrowed them exclusively, as a `&mut [T]` would.
unsafe impl<T: Send> Send for UninitBuffer<'_, T> {}
// SAFETY: through a shared buffer elements are reached by `slice` alone, whose callers keep
// different threads to different elements, as with `&mut [T]`s of a slice that has been split.
unsafe impl<T: Send> Sync for UninitBuffer<'_, T> {}

impl<'a, T: Element> UninitBuffer<'a, T> {
    pub fn new(planes: &Planes) -> Self {
        let len = planes.elements();
        let mut owned = Vec::with_capacity(len);
        ask_for_huge_pages(owned.as_mut_ptr(), len);
        Self {
            data: owned.as_mut_ptr(),
            len,
            spatial: planes.spatial,
            owned,
            _borrowed: PhantomData,
        }
    }

    /// The memory of `values`, a contiguous tensor.
    pub fn over(values: &'a mut [T], planes: &Planes) -> Self {
        Self {
            data: values.as_mut_ptr(),
            len: values.len(),
            spatial: planes.spatial,
            owned: Vec::new(),
            _borrowed: PhantomData,
        }
    }

    /// # Safety
    ///
    /// No other slice of any of these elements is used as long as this one is, on any thread.
    #[allow(clippy::mut_from_ref)] // The caller promises that nobody else has these elements.
    #[inline(always)]
    pub unsafe fn slice(&self, span: Span) -> &mut [MaybeUninit<T>] {
        let start = span.plane * self.spatial + span.start;
        assert!(start + span.len <= self.len);
        // SAFETY: inside the `self.len` elements at `data`, which `self` owns or has borrowed; the
        // caller promises that this is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.data.add(start).cast(), span.len) }
    }

    /// The elements of a [`new`](Self::new) buffer.
    ///
    /// # Safety
    ///
    /// Every element has been written.
    pub unsafe fn filled(mut self) -> Vec<T> {
        assert!(self.owned.capacity() >= self.len);
        // SAFETY: within the capacity, and the caller promises that the elements are initialised.
        unsafe { self.owned.set_len(self.len) };
        self.owned
    }
}

/// Asks Linux for pages of 2 MiB where a large result is yet to be touched for the first time.
/// With the usual 4 KiB the page faults take most of the time: 12 ms for 32 MiB, and 2 ms so.
fn ask_for_huge_pages<T>(data: *mut T, len: usize) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let start = (data as usize).next_multiple_of(HUGE);
        let end = (data as usize + len * size_of::<T>()) / HUGE * HUGE;
        if end > start {
            // SAFETY: whole pages within the allocation, whose contents the advice leaves as they
            // are. A refusal is no loss: the pages are small then.
            unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (data, len);
}
