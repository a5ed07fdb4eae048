//! The results of a segment.

#![allow(clippy::needless_range_loop)] // Registers are counted alike in several arrays.

use super::{BLOCK, RowsJob};
use crate::cpu::element::{Element, Register};
use crate::cpu::moments::Measure;
use crate::cpu::pass::GroupPass;
use crate::cpu::simd::Simd;
use crate::cpu::vector::{Part, Vector};
use std::ops::Range;

impl<T: Element, P: GroupPass<T>> RowsJob<'_, T, P> {
    /// # Safety
    ///
    /// As in [`GroupPass`], for the whole span.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd, const PLAIN: bool>(&self) {
        let (tensors, long) = (self.pass.tensors(self.span), self.rows.long);
        let width = Register::<S, T>::LEN;
        let streams =
            self.pass.streams_after(&tensors, 0, width) == Some(0) && long.is_multiple_of(width);
        for start in (0..self.span.len).step_by(BLOCK * long) {
            let block = start..self.span.len.min(start + BLOCK * long);
            // SAFETY: promised by the caller.
            unsafe { self.write_block::<S, PLAIN>(&tensors, &block, streams) };
        }
        if streams {
            S::fence();
        }
    }

    /// Writes a block of rows, column by column.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for the elements of the block.
    #[inline(always)]
    unsafe fn write_block<S: Simd, const PLAIN: bool>(
        &self,
        tensors: &P::Tensors<'_>,
        block: &Range<usize>,
        streams: bool,
    ) {
        let (long, width) = (self.rows.long, Register::<S, T>::LEN);
        let mut lane = 0;
        // SAFETY: promised by the caller.
        unsafe {
            if P::Measure::STREAMS * Register::<S, T>::REGISTERS == 1 {
                while lane + 4 * width <= long {
                    self.write_columns::<S, 4, PLAIN>(tensors, block, lane, streams);
                    lane += 4 * width;
                }
            }
            while lane + 2 * width <= long {
                self.write_columns::<S, 2, PLAIN>(tensors, block, lane, streams);
                lane += 2 * width;
            }
            while lane < long {
                self.write_columns::<S, 1, PLAIN>(tensors, block, lane, streams);
                lane += width;
            }
        }
    }

    /// Writes `N` registers of every row of a block, or what there is of them.
    ///
    /// # Safety
    ///
    /// As in [`GroupPass`], for the elements of the block.
    #[inline(always)]
    unsafe fn write_columns<S: Simd, const N: usize, const PLAIN: bool>(
        &self,
        tensors: &P::Tensors<'_>,
        block: &Range<usize>,
        lane: usize,
        streams: bool,
    ) {
        let (long, width) = (self.rows.long, Register::<S, T>::LEN);
        let part = |end: usize, at: usize| match end.saturating_sub(at) {
            0 => None,
            left if left < width => Some(Part::First(left)),
            _ => Some(Part::Whole),
        };
        let mut k = [P::Coefficients::default(); N];
        for n in 0..N {
            let lane = lane + n * width;
            if let Some(part) = part(long, lane) {
                // SAFETY: a long row has these lanes.
                k[n] = unsafe { self.coefficients::<S>(lane, part) };
            }
        }
        let mut row = block.start;
        if lane + N * width <= long {
            while row + long <= block.end {
                self.prefetch::<S>(tensors, row + lane, N * width, !streams);
                for n in 0..N {
                    let at = row + lane + n * width;
                    // SAFETY: promised by the caller, so here and below.
                    unsafe {
                        self.pass
                            .write::<S, PLAIN>(tensors, at, Part::Whole, &k[n], streams)
                    };
                }
                row += long;
            }
        }
        // What is less than a register, and the last row of a sample, which may be short.
        while row < block.end {
            let end = (row + long).min(block.end);
            for n in 0..N {
                let at = row + lane + n * width;
                if let Some(part) = part(end, at) {
                    // SAFETY: as above.
                    unsafe { self.pass.write::<S, PLAIN>(tensors, at, part, &k[n], false) };
                }
            }
            row += long;
        }
    }
}
