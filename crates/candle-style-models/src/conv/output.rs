//! Memory that a pass writes its result to, by several threads.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

/// A new tensor, without writing zeros first.
pub struct Output<T> {
    data: *mut T,
    /// The memory at `data`, with a length of 0.
    owned: Vec<T>,
    len: usize,
    _elements: PhantomData<T>,
}

// SAFETY: an output owns its elements, as a `Vec` does.
unsafe impl<T: Send> Send for Output<T> {}
// SAFETY: through a shared output elements are reached by `slice` alone, whose callers keep different
// threads to different elements, as with the parts of a slice that has been split.
unsafe impl<T: Send> Sync for Output<T> {}

impl<T: Copy> Output<T> {
    pub fn new(len: usize) -> Self {
        let mut owned = Vec::with_capacity(len);
        ask_for_huge_pages(owned.as_mut_ptr(), len);
        Self {
            data: owned.as_mut_ptr(),
            owned,
            len,
            _elements: PhantomData,
        }
    }

    /// # Safety
    ///
    /// No other slice of any of these elements is used as long as this one is, on any thread.
    #[allow(clippy::mut_from_ref)] // The caller promises that nobody else has these elements.
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [MaybeUninit<T>] {
        assert!(start + len <= self.len);
        // SAFETY: inside the `self.len` elements at `data`, which `self` owns; the caller promises
        // that this is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.data.add(start).cast(), len) }
    }

    /// # Safety
    ///
    /// Every element has been written.
    pub unsafe fn filled(mut self) -> Vec<T> {
        // SAFETY: `new` has reserved them, and the caller promises that they are initialised.
        unsafe { self.owned.set_len(self.len) };
        self.owned
    }
}

/// Asks Linux for pages of 2 MiB where a large result is yet to be touched for the first time: with
/// the usual 4 KiB the faults take several times as long as writing the result.
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
