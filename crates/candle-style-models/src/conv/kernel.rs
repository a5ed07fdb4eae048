//! The two loops that convolutions spend their time in.

#![allow(clippy::needless_range_loop)] // Rows and vectors of a block are counted alike in several arrays.

use std::ops::Range;

use super::vector::{Acc, Job, Vector};

/// The numbers behind the last one of a strip or of a row of sums that the kernels may touch: they work
/// on up to 6 vectors of at most 16 numbers, and round a length up to one vector.
pub const SLACK: usize = 16;

/// An offset in the strip, and one in the weight.
pub type Offsets = (usize, usize);

/// Adds the products of a strip and the weights to the sums of a tile:
/// `sums[o][p] += strip[i][p + tap] * weight[o][i][tap]` over all inputs i and taps, in this order.
///
/// Blocks of 8 outputs and 3 vectors (4 and 3 with 16 registers) stay in registers for all of it. No
/// panel of the input is built: a tap is an unaligned load, of which there is one for every 8 products.
pub struct Accumulate<'a, A> {
    pub strip: &'a [A],
    /// The distance between the channels of the strip, and their number.
    pub channel: usize,
    pub inputs: usize,
    pub taps: &'a [Offsets],
    /// From the weight of the first output and input on.
    pub weight: &'a [A],
    /// The distances between outputs and inputs in the weight.
    pub steps: [usize; 2],
    pub sums: &'a mut [A],
    /// The distance between the outputs in the sums, and their number.
    pub row: usize,
    pub outputs: usize,
    /// The positions to sum at; up to [`SLACK`] more are touched.
    pub len: usize,
}

impl<A: Acc> Job<A> for Accumulate<'_, A> {
    #[inline(always)]
    fn run<V: Vector<Scalar = A>>(self) {
        let (reads, weights) = self.taps.iter().fold((0, 0), |(a, b), &(read, weight)| {
            (read.max(a), weight.max(b))
        });
        let len = self.len.next_multiple_of(V::LEN);
        if self.outputs == 0 || self.inputs == 0 || self.taps.is_empty() {
            return;
        }
        // What the blocks rely on.
        assert!((self.inputs - 1) * self.channel + reads + len <= self.strip.len());
        let [by_output, by_input] = self.steps;
        let last = (self.outputs - 1) * by_output + (self.inputs - 1) * by_input + weights;
        assert!(last < self.weight.len());
        assert!(len <= self.row && self.outputs * self.row <= self.sums.len());

        let sums = self.sums.as_mut_ptr();
        let chunk = (PRODUCTS / self.taps.len()).max(1);
        for first in (0..self.inputs).step_by(chunk) {
            let inputs = first..self.inputs.min(first + chunk);
            for start in (0..len).step_by(WIDTH * V::LEN) {
                let positions = start..len.min(start + WIDTH * V::LEN);
                let mut output = 0;
                while output < self.outputs {
                    let at = (output, inputs.clone(), positions.clone());
                    // SAFETY: the assertions above; there are as many outputs as the blocks are high.
                    unsafe {
                        output += match self.outputs - output {
                            8.. if V::WIDE => self.rows::<V, 8, 3>(sums, at),
                            4.. if V::WIDE => self.rows::<V, 4, 6>(sums, at),
                            3 if V::WIDE => self.rows::<V, 3, 6>(sums, at),
                            2 if V::WIDE => self.rows::<V, 2, 6>(sums, at),
                            4.. => self.rows::<V, 4, 3>(sums, at),
                            3 => self.rows::<V, 3, 3>(sums, at),
                            2 => self.rows::<V, 2, 3>(sums, at),
                            _ => self.rows::<V, 1, 6>(sums, at),
                        }
                    }
                }
            }
        }
    }
}

/// The positions of a block's outputs, in vectors.
const WIDTH: usize = 6;

/// The products of an output at a position before the next positions: what they read stays in the L1
/// for all outputs. 16 inputs of a 3x3 kernel at 6 vectors of positions are 20 KiB.
const PRODUCTS: usize = 144;

/// An output, and the inputs and positions whose products are added to it.
type At = (usize, Range<usize>, Range<usize>);

impl<A: Acc> Accumulate<'_, A> {
    /// `M` outputs; returns `M`.
    ///
    /// # Safety
    ///
    /// The first output plus `M` is at most `self.outputs`, the inputs and positions are those of
    /// [`run`](Job::run) or some of them, in whole vectors, `sums` is that of `self`, and the
    /// assertions of `run` hold.
    #[inline(always)]
    unsafe fn rows<V: Vector<Scalar = A>, const M: usize, const N: usize>(
        &self,
        sums: *mut A,
        (output, inputs, positions): At,
    ) -> usize {
        let mut at = positions.start;
        // SAFETY: the blocks end at the last position, the caller promises the rest.
        unsafe {
            while at + N * V::LEN <= positions.end {
                self.block::<V, M, N>(sums, output, inputs.clone(), at);
                at += N * V::LEN;
            }
            while at < positions.end {
                self.block::<V, M, 1>(sums, output, inputs.clone(), at);
                at += V::LEN;
            }
        }
        M
    }

    /// `M` outputs at `N` vectors of positions.
    ///
    /// # Safety
    ///
    /// As for [`rows`](Self::rows), and the positions from `at` on are some of them.
    #[inline(always)]
    unsafe fn block<V: Vector<Scalar = A>, const M: usize, const N: usize>(
        &self,
        sums: *mut A,
        output: usize,
        inputs: Range<usize>,
        at: usize,
    ) {
        let [by_output, by_input] = self.steps;
        // SAFETY: offsets of the greatest output, input, tap and position stay inside the slices, as
        // `run` has asserted.
        unsafe {
            let sums = sums.add(output * self.row + at);
            let mut acc = [[V::splat(A::default()); N]; M];
            for m in 0..M {
                for n in 0..N {
                    acc[m][n] = V::load(sums.add(m * self.row + n * V::LEN));
                }
            }
            for input in inputs {
                let strip = self.strip.as_ptr().add(input * self.channel + at);
                let weight = output * by_output + input * by_input;
                let weight = self.weight.as_ptr().add(weight);
                for &(read, offset) in self.taps {
                    let mut x = [V::splat(A::default()); N];
                    for n in 0..N {
                        x[n] = V::load(strip.add(read + n * V::LEN));
                    }
                    for m in 0..M {
                        let weight = V::splat(*weight.add(offset + m * by_output));
                        for n in 0..N {
                            acc[m][n] = x[n].mul_add(weight, acc[m][n]);
                        }
                    }
                }
            }
            for m in 0..M {
                for n in 0..N {
                    acc[m][n].store(sums.add(m * self.row + n * V::LEN));
                }
            }
        }
    }
}

/// The products of 4 rows of a gradient and 4 channels of a strip, summed over positions:
/// `sums[tap][o][i] += grad[o][p] * strip[i][p + tap]`.
pub struct Dot<'a, A> {
    pub grad: &'a [A],
    /// The offsets of the rows.
    pub rows: [usize; 4],
    pub strip: &'a [A],
    /// The offsets of the channels.
    pub channels: [usize; 4],
    pub taps: &'a [Offsets],
    /// The positions; up to [`SLACK`] more are read, where the gradient is 0.
    pub len: usize,
    /// Memory for [`LANES`] numbers of each tap.
    pub lanes: &'a mut [A],
    /// The sums of each tap.
    pub sums: &'a mut [[[A; 4]; 4]],
}

/// The numbers in the 16 sums of a tap as vectors.
pub const LANES: usize = 16 * SLACK;

/// The positions that all taps go over before the next ones: 4 rows and 4 channels of them, with
/// some rows of the picture around, stay in an L1 of 32 KiB.
const STRETCH: usize = 512;

impl<A: Acc> Job<A> for Dot<'_, A> {
    #[inline(always)]
    fn run<V: Vector<Scalar = A>>(self) {
        let len = self.len.next_multiple_of(V::LEN);
        let most = |offsets: &[usize; 4]| offsets.iter().fold(0, |a, &b| a.max(b));
        let reads = self.taps.iter().fold(0, |most, tap| tap.0.max(most));
        // What the loads and stores below rely on.
        assert!(most(&self.rows) + len <= self.grad.len());
        assert!(most(&self.channels) + reads + len <= self.strip.len());
        assert!(self.lanes.len() >= self.taps.len() * LANES && V::LEN <= SLACK);
        let lanes = &mut self.lanes[..self.taps.len() * LANES];
        lanes.fill(A::default());
        for start in (0..len).step_by(STRETCH) {
            let end = len.min(start + STRETCH);
            for (&(read, _), lanes) in self.taps.iter().zip(lanes.chunks_exact_mut(LANES)) {
                let mut acc = [[V::splat(A::default()); 4]; 4];
                for o in 0..4 {
                    for i in 0..4 {
                        // SAFETY: `lanes` holds 16 times `SLACK` numbers.
                        acc[o][i] = unsafe { V::load(lanes.as_ptr().add((4 * o + i) * SLACK)) };
                    }
                }
                let mut at = start;
                while at < end {
                    let mut g = [V::splat(A::default()); 4];
                    let mut x = g;
                    for k in 0..4 {
                        // SAFETY: `at + V::LEN <= len`, and the assertions above.
                        unsafe {
                            g[k] = V::load(self.grad.as_ptr().add(self.rows[k] + at));
                            x[k] = V::load(self.strip.as_ptr().add(self.channels[k] + read + at));
                        }
                    }
                    for o in 0..4 {
                        for i in 0..4 {
                            acc[o][i] = g[o].mul_add(x[i], acc[o][i]);
                        }
                    }
                    at += V::LEN;
                }
                for o in 0..4 {
                    for i in 0..4 {
                        // SAFETY: as for the loads of `acc`.
                        unsafe { acc[o][i].store(lanes.as_mut_ptr().add((4 * o + i) * SLACK)) };
                    }
                }
            }
        }
        for (lanes, sums) in lanes.chunks_exact(LANES).zip(self.sums) {
            for (lanes, sum) in lanes.chunks_exact(SLACK).zip(sums.as_flattened_mut()) {
                for lane in &lanes[..V::LEN] {
                    *sum += *lane;
                }
            }
        }
    }
}
