//! The pass over a plan's output: convolutions, transposed ones and the gradients of inputs.

use rayon::prelude::*;

use super::element::Element;
use super::kernel::{Accumulate, Offsets, SLACK};
use super::output::Output;
use super::plan::Plan;
use super::strip::{Planes, Strip};
use super::vector::{Acc, Isa};

/// A tile: sample, group, first output channel of the group, and first row and column of a phase.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub sample: usize,
    pub group: usize,
    pub output: usize,
    pub at: [usize; 2],
}

impl Plan {
    /// The number of tiles of the whole output, with all outputs of each.
    pub fn places(&self) -> usize {
        let [rows, columns] = self.tiles();
        self.samples * self.groups * rows * columns * self.outputs.div_ceil(self.tile.outputs)
    }

    /// The tile of a number. Neighbours in a plane follow one another.
    pub fn place(&self, number: usize) -> Place {
        let [rows, columns] = self.tiles();
        let (number, column) = (number / columns, number % columns);
        let (number, row) = (number / rows, number % rows);
        let parts = self.outputs.div_ceil(self.tile.outputs);
        let (number, part) = (number / parts, number % parts);
        Place {
            sample: number / self.groups,
            group: number % self.groups,
            output: part * self.tile.outputs,
            at: [row * self.tile.rows, column * self.tile.columns],
        }
    }

    /// The offsets of the taps of a phase of the output, in the strip and in a kernel.
    pub fn offsets(&self, phase: usize) -> Vec<Offsets> {
        let taps = self.taps[phase].iter();
        let read = |tap: &super::plan::Tap| {
            tap.phase * self.phase_len() + tap.row * self.pitch() + tap.column
        };
        taps.map(|tap| (read(tap), tap.weight)).collect()
    }
}

/// The result of a plan, in the order `(N, C, H, W)`. The sums of a pixel are taken in the same order
/// whatever the tiles and threads: over the input channels, and the taps of each.
pub fn forward<T: Element, Y: Element<Acc = T::Acc>>(
    plan: &Plan,
    x: Planes<T>,
    weight: &[T::Acc],
    bias: &[T::Acc],
    isa: Isa,
) -> Vec<Y> {
    let [height, width] = plan.out;
    let channels = plan.groups * plan.outputs;
    let output = Output::new(plan.samples * channels * height * width);
    let offsets: Vec<_> = (0..plan.taps.len())
        .map(|phase| plan.offsets(phase))
        .collect();
    let row = plan.tile_len().next_multiple_of(SLACK);
    let scratch = || {
        let sums = vec![T::Acc::default(); plan.taps.len() * plan.tile.outputs * row];
        let line = vec![T::Acc::default(); plan.out_step * plan.tile.columns];
        (Strip::new(plan, x.width), sums, line)
    };
    let tiles = (0..plan.places()).into_par_iter();
    tiles.for_each_init(scratch, |(strip, sums, line), number| {
        let place = plan.place(number);
        let outputs = plan.tile.outputs.min(plan.outputs - place.output);
        let first = place.group * plan.outputs + place.output;
        for sums in sums.chunks_exact_mut(plan.tile.outputs * row) {
            for (channel, sums) in sums.chunks_exact_mut(row).take(outputs).enumerate() {
                sums.fill(bias[first + channel]);
            }
        }
        let [by_group, by_output, by_input] = plan.weight;
        for from in (0..plan.inputs).step_by(plan.tile.inputs) {
            let inputs = plan.tile.inputs.min(plan.inputs - from);
            let start = place.group * plan.inputs + from;
            let strip = strip.fill(x, place.sample, start..start + inputs, place.at);
            let start_of_weight =
                place.group * by_group + place.output * by_output + from * by_input;
            for (phase, taps) in offsets.iter().enumerate() {
                let job = Accumulate {
                    strip,
                    channel: plan.strip_len(),
                    inputs,
                    taps,
                    weight: &weight[start_of_weight..],
                    steps: [by_output, by_input],
                    sums: &mut sums[phase * plan.tile.outputs * row..],
                    row,
                    outputs,
                    len: plan.tile_len(),
                };
                T::Acc::run(isa, job);
            }
        }
        for channel in 0..outputs {
            let plane = (place.sample * channels + first + channel) * height;
            let sums_of = |phase: usize| &sums[(phase * plan.tile.outputs + channel) * row..];
            let [top, left] = place.at.map(|at| at * plan.out_step);
            let rows = top..height.min(top + plan.tile.rows * plan.out_step);
            let columns = width.min(left + plan.tile.columns * plan.out_step) - left;
            for y in rows {
                gather(plan, y - top, sums_of, line);
                if plan.relu {
                    // Not `max`, which loses NaN.
                    for value in &mut line[..columns] {
                        let zero = T::Acc::default();
                        *value = if *value < zero { zero } else { *value };
                    }
                }
                // SAFETY: no two tiles have a part of a row of a channel in common, and this one
                // takes each of its own once.
                let to = unsafe { output.slice((plane + y) * width + left, columns) };
                Y::narrow(&line[..columns], to);
            }
        }
    });
    // SAFETY: the tiles cover every row of every channel.
    unsafe { output.filled() }
}

/// Puts a row of a tile of the output together from the sums of its phases.
fn gather<'a, A: Acc>(plan: &Plan, row: usize, sums_of: impl Fn(usize) -> &'a [A], line: &mut [A]) {
    let (step, columns) = (plan.out_step, plan.tile.columns);
    let start = row / step * plan.pitch();
    let sums_of = |phase: usize| &sums_of(row % step * step + phase)[start..start + columns];
    match step {
        1 => line.copy_from_slice(sums_of(0)),
        2 => {
            let pairs = sums_of(0).iter().zip(sums_of(1));
            for (to, (even, odd)) in line.chunks_exact_mut(2).zip(pairs) {
                to.copy_from_slice(&[*even, *odd]);
            }
        }
        _ => {
            for phase in 0..step {
                let to = line.iter_mut().skip(phase).step_by(step);
                to.zip(sums_of(phase)).for_each(|(to, sum)| *to = *sum);
            }
        }
    }
}
