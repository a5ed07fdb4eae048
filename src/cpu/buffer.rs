//! Memory that a pass writes its results to, a span at a time and by several threads.

use super::element::{Element, Register};
use super::operand::{Reader, Span, check};
use super::simd::Simd;
use super::vector::Part;
use crate::plan::STREAM_BYTES;
use crate::shapes::Planes;
use std::hint::black_box;
use std::marker::PhantomData;
use std::slice;
use std::sync::Once;

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
// SAFETY: through a shared buffer elements are reached by a span alone, whose users keep different
// threads to different elements, as with `&mut [T]`s of a slice that has been split.
unsafe impl<T: Send> Sync for UninitBuffer<'_, T> {}

impl<'a, T: Element> UninitBuffer<'a, T> {
    pub fn new(planes: &Planes) -> Self {
        let len = planes.elements();
        if cfg!(target_env = "gnu") && len * size_of::<T>() >= LARGE {
            keep_freed_blocks();
        }
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

    #[inline(always)]
    fn start(&self, span: Span) -> *mut T {
        let start = span.plane * self.spatial + span.start;
        assert!(start + span.len <= self.len);
        // SAFETY: inside the `self.len` elements at `data`, which `self` owns or has borrowed.
        unsafe { self.data.add(start) }
    }

    #[inline(always)]
    pub fn writer(&self, span: Span) -> Writer<'_, T> {
        Writer {
            start: self.start(span),
            len: span.len,
            streams: self.owned.capacity() > 0 && self.len * size_of::<T>() >= STREAM_BYTES,
            elements: PhantomData,
        }
    }

    /// The elements of a tensor to overwrite.
    ///
    /// # Safety
    ///
    /// The elements of the span are not written while the reader has yet to read them.
    #[inline(always)]
    pub unsafe fn reader(&self, span: Span) -> Reader<'_, T> {
        // SAFETY: `start` has checked the length.
        unsafe { Reader::of(self.start(span), span.len) }
    }

    /// The elements of a tensor to overwrite.
    ///
    /// # Safety
    ///
    /// They are initialised, and nothing else reads or writes them as long as the slice is used.
    #[allow(clippy::mut_from_ref)] // The caller promises that nobody else has these elements.
    pub unsafe fn slice(&self, span: Span) -> &mut [T] {
        // SAFETY: `start` has checked the length; the rest is promised by the caller.
        unsafe { slice::from_raw_parts_mut(self.start(span), span.len) }
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

/// The elements of a span, to write from registers.
#[derive(Clone, Copy)]
pub struct Writer<'a, T> {
    start: *mut T,
    len: usize,
    streams: bool,
    elements: PhantomData<&'a [T]>,
}

impl<T: Element> Writer<'_, T> {
    /// Whether whole registers go past the caches: a large result is in none when it is read.
    #[inline(always)]
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// The elements from `at` on before the first address that is aligned to a register of `lanes`.
    #[inline(always)]
    pub fn unaligned(&self, at: usize, lanes: usize) -> usize {
        let bytes = lanes * size_of::<T>();
        let over = (self.start as usize + at * size_of::<T>()) % bytes;
        if over == 0 {
            0
        } else {
            (bytes - over) / size_of::<T>()
        }
    }

    /// Asks for the line of an element, which may lie behind the span.
    #[inline(always)]
    pub fn prefetch<S: Simd>(&self, at: usize) {
        S::prefetch(self.start.wrapping_add(at));
    }

    /// Writes the elements from `at` on, past the caches if it `streams`.
    ///
    /// # Safety
    ///
    /// The span has as many as the register, or as `part` says, and no other thread uses them. It
    /// streams whole registers alone, [`unaligned`](Self::unaligned) elements or whole registers
    /// behind those. The job runs on a processor with the instructions of `S`.
    #[inline(always)]
    pub unsafe fn put<S: Simd>(&self, v: Register<S, T>, at: usize, part: Part, streams: bool) {
        check::<S, T>(at, part, self.len);
        // SAFETY: promised by the caller.
        unsafe {
            let to = self.start.add(at);
            if streams {
                T::stream::<S>(v, to);
            } else {
                T::store::<S>(v, to, part);
            }
        }
    }
}

/// Smaller results cost little to touch anew.
const LARGE: usize = 2 << 20;

/// Makes glibc keep up to 64 MiB of freed blocks for the next ones, once in a process.
///
/// It gives the top of its heap back to the system where that is twice the largest block, of 32 MiB at most,
/// that was mapped apart and freed so far. Results of one size that are freed together are as much, and every
/// call had to touch new pages: forward and backward with a residual at 8x256x64x64 in bf16 took 21.3 ms, and
/// takes 8.8. So the largest such block is freed once. It is never touched, and another allocator does not mind.
fn keep_freed_blocks() {
    static ONCE: Once = Once::new();
    // What the allocator writes in front of a block counts.
    const BLOCK: usize = (32 << 20) - (8 << 10);
    ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(BLOCK))));
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
