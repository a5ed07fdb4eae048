//! Memory for a result that is about to be written, without writing zeros first.

use super::element::Element;
use super::operand::Target;

pub struct Room<T> {
    values: Vec<T>,
    len: usize,
}

impl<T: Element> Room<T> {
    pub fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        ask_for_huge_pages(values.as_mut_ptr(), len);
        Self { values, len }
    }

    /// Where a sweep over as many elements writes its results.
    pub fn target(&mut self) -> Target<'_, T> {
        Target::new(&mut self.values.spare_capacity_mut()[..self.len])
    }

    /// # Safety
    ///
    /// Every element has been written.
    pub unsafe fn filled(mut self) -> Vec<T> {
        // SAFETY: promised by the caller, and the capacity is `len`.
        unsafe { self.values.set_len(self.len) };
        self.values
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
