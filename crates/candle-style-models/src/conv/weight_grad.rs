//! The gradient of a convolution's weight.

use rayon::prelude::*;

use super::element::Element;
use super::kernel::{Dot, LANES, SLACK};
use super::plan::Plan;
use super::strip::{Planes, Strip};
use super::vector::{Acc, Isa};

/// The output channels and the pixels of a tile.
const OUTPUTS: usize = 16;
const PIXELS: usize = 4096;

/// The most parts that the tiles are shared among: each has sums of its own, which are added in order,
/// so that the result does not depend on the number of threads.
const PARTS: usize = 16;

/// The sums of 4 output channels and 4 input channels.
type Square<A> = [[A; 4]; 4];

/// The gradient of the weight of a convolution, in its order, from its input and the gradient of its
/// output.
pub fn weight_grad<T: Element>(plan: Plan, x: Planes<T>, grad: Planes<T>, isa: Isa) -> Vec<T::Acc> {
    let mut plan = plan.with_tiles(OUTPUTS, PIXELS);
    // The sums are in fours of channels.
    plan.tile.inputs = plan.tile.inputs.next_multiple_of(4);
    let plan = &plan;
    let [rows, columns] = plan.tiles();
    let tiles = plan.samples * rows * columns;
    let outputs = plan.outputs.div_ceil(plan.tile.outputs);
    let parts = tiles.min(PARTS);
    let jobs = (0..plan.groups * outputs * parts).into_par_iter();
    let scratch = || Scratch::new(plan, x.width, grad.width);
    let squares: Vec<_> = jobs
        .map_init(scratch, |scratch, job| {
            let (job, part) = (job / parts, job % parts);
            let tiles = part * tiles / parts..(part + 1) * tiles / parts;
            let mut sums = Sums::new(plan);
            for tile in tiles {
                let (tile, column) = (tile / columns, tile % columns);
                let (sample, row) = (tile / rows, tile % rows);
                let at = [row * plan.tile.rows, column * plan.tile.columns];
                let first = job % outputs * plan.tile.outputs;
                scratch.add(
                    plan,
                    (x, grad),
                    [sample, job / outputs, first],
                    at,
                    &mut sums,
                    isa,
                );
            }
            sums
        })
        .collect();

    let [by_group, by_output, by_input] = plan.weight;
    let mut weight = vec![T::Acc::default(); plan.groups * by_group];
    for (job, parts) in squares.chunks(parts).enumerate() {
        let first = job % outputs * plan.tile.outputs;
        let start = job / outputs * by_group + first * by_output;
        for output in 0..plan.tile.outputs.min(plan.outputs - first) {
            for input in 0..plan.inputs {
                for (index, tap) in plan.taps[0].iter().enumerate() {
                    let mut sum = T::Acc::default();
                    for part in parts {
                        sum += part.get(output, input, index);
                    }
                    weight[start + output * by_output + input * by_input + tap.weight] = sum;
                }
            }
        }
    }
    weight
}

/// The sums of some output channels and all input channels, in squares.
struct Sums<A> {
    squares: Vec<Square<A>>,
    taps: usize,
    across: usize,
}

impl<A: Acc> Sums<A> {
    fn new(plan: &Plan) -> Self {
        let (taps, across) = (plan.taps[0].len(), plan.inputs.div_ceil(4));
        let count = plan.tile.outputs.div_ceil(4) * across * taps;
        let squares = vec![Square::default(); count];
        Self {
            squares,
            taps,
            across,
        }
    }

    /// The squares of all taps, of these fours of channels.
    fn taps(&mut self, output: usize, input: usize) -> &mut [Square<A>] {
        let start = (output * self.across + input) * self.taps;
        &mut self.squares[start..start + self.taps]
    }

    fn get(&self, output: usize, input: usize, tap: usize) -> A {
        let four = output / 4 * self.across + input / 4;
        self.squares[four * self.taps + tap][output % 4][input % 4]
    }
}

/// The buffers of a thread.
struct Scratch<'a, A> {
    strip: Strip<'a, A>,
    /// The gradient in the pitch of the strip, with zeros between the rows.
    grad: Vec<A>,
    wide: Vec<A>,
    lanes: Vec<A>,
}

impl<'a, A: Acc> Scratch<'a, A> {
    fn new(plan: &'a Plan, width: usize, grad_width: usize) -> Self {
        let row = plan.tile_len() + SLACK;
        Self {
            strip: Strip::new(plan, width),
            grad: vec![A::default(); plan.tile.outputs * row],
            wide: vec![A::default(); grad_width],
            lanes: vec![A::default(); plan.taps[0].len() * LANES],
        }
    }

    /// Adds the products of a tile.
    fn add<T: Element<Acc = A>>(
        &mut self,
        plan: &Plan,
        (x, grad): (Planes<T>, Planes<T>),
        [sample, group, first]: [usize; 3],
        at: [usize; 2],
        sums: &mut Sums<A>,
        isa: Isa,
    ) {
        let row = plan.tile_len() + SLACK;
        let outputs = plan.tile.outputs.min(plan.outputs - first);
        self.grad.fill(A::default());
        let height = plan.tile.rows.min(plan.out[0] - at[0]);
        let width = plan.tile.columns.min(plan.out[1] - at[1]);
        for (channel, to) in self.grad.chunks_exact_mut(row).take(outputs).enumerate() {
            let channel = group * plan.outputs + first + channel;
            for (y, to) in to.chunks_mut(plan.pitch()).take(height).enumerate() {
                let from = T::widen(grad.row([sample, channel, at[0] + y]), &mut self.wide);
                to[..width].copy_from_slice(&from[at[1]..at[1] + width]);
            }
        }
        let taps = plan.offsets(0);
        let step = plan.tile.inputs;
        for from in (0..plan.inputs).step_by(step) {
            let inputs = step.min(plan.inputs - from);
            let start = group * plan.inputs + from;
            let strip = self.strip.fill(x, sample, start..start + inputs, at);
            for output in (0..outputs).step_by(4) {
                for input in (0..inputs).step_by(4) {
                    let job = Dot {
                        grad: &self.grad,
                        // Beyond the last channel the last one again, into sums that nobody reads.
                        rows: [0, 1, 2, 3].map(|k| (output + k).min(outputs - 1) * row),
                        strip,
                        channels: [0, 1, 2, 3]
                            .map(|k| (input + k).min(inputs - 1) * plan.strip_len()),
                        taps: &taps,
                        len: plan.tile_len(),
                        lanes: &mut self.lanes,
                        sums: sums.taps(output / 4, (from + input) / 4),
                    };
                    A::run(isa, job);
                }
            }
        }
    }
}
