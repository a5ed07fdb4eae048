//! The part of an input around a tile, padded, upsampled and in phases.

use std::ops::Range;

use super::element::Element;
use super::kernel::SLACK;
use super::plan::{Plan, ZERO};
use super::vector::Acc;

/// A tensor `(N, C, H, W)` whose rows are contiguous.
#[derive(Clone, Copy)]
pub struct Planes<'a, T> {
    pub values: &'a [T],
    /// The distances between samples, channels and rows.
    pub strides: [usize; 3],
    pub width: usize,
}

impl<'a, T> Planes<'a, T> {
    /// A row of a channel of a sample.
    pub fn row(&self, [sample, channel, row]: [usize; 3]) -> &'a [T] {
        let [by_sample, by_channel, by_row] = self.strides;
        let start = sample * by_sample + channel * by_channel + row * by_row;
        &self.values[start..start + self.width]
    }
}

/// Copies parts of inputs; as many as there are tiles, with one set of buffers.
pub struct Strip<'a, A> {
    plan: &'a Plan,
    values: Vec<A>,
    wide: Vec<A>,
}

impl<'a, A: Acc> Strip<'a, A> {
    pub fn new(plan: &'a Plan, width: usize) -> Self {
        let len = plan.tile.inputs * plan.strip_len() + SLACK;
        Self {
            plan,
            values: vec![A::default(); len],
            wide: vec![A::default(); width],
        }
    }

    /// The values of `channels` around the tile at a row and a column of a phase of the output, each
    /// channel [`strip_len`](Plan::strip_len) behind the one before. Behind the last one are zeros.
    pub fn fill<T: Element<Acc = A>>(
        &mut self,
        x: Planes<T>,
        sample: usize,
        channels: Range<usize>,
        [row, column]: [usize; 2],
    ) -> &[A] {
        let Self { plan, values, wide } = self;
        let pitch = plan.pitch();
        let step = plan.in_step;
        let [row_phases, column_phases] = plan.in_phases;
        let spans: Vec<_> = (0..column_phases)
            .map(|phase| Span::new(&plan.axes[1], step * column + phase, step, pitch))
            .collect();
        // The part of a row that any phase reads: no more of it is converted.
        let start = spans.iter().map(|span| span.reads.start).min();
        let end = spans.iter().map(|span| span.reads.end).max();
        let reads = start.unwrap_or(0)..end.unwrap_or(0);
        let len = channels.len() * plan.strip_len();
        let rows_of_phase = plan.phase_len() / pitch;
        let mut rows = values[..len].chunks_exact_mut(pitch * rows_of_phase * column_phases);
        for channel in channels {
            for row_phase in 0..row_phases {
                let Some(phases) = rows.next() else {
                    return &[];
                };
                for r in 0..rows_of_phase {
                    let at = step * (row + r) + row_phase;
                    let source = plan.axes[0].get(at).copied().unwrap_or(ZERO);
                    let starts =
                        (0..column_phases).map(|phase| (phase * rows_of_phase + r) * pitch);
                    if source == ZERO || reads.is_empty() {
                        for start in starts {
                            phases[start..start + pitch].fill(A::default());
                        }
                        continue;
                    }
                    let source = x.row([sample, channel, source as usize]);
                    let source = T::widen(&source[reads.clone()], &mut wide[..reads.len()]);
                    for (start, span) in starts.zip(&spans) {
                        span.copy(source, reads.start, &mut phases[start..start + pitch]);
                    }
                }
            }
        }
        values[len..len + SLACK].fill(A::default());
        &values[..len + SLACK]
    }
}

/// The columns that a row of a phase is copied from.
struct Span {
    columns: Vec<u32>,
    /// The part of them in which the columns rise regularly.
    run: Range<usize>,
    pattern: Pattern,
    /// From the first to the last column that is read.
    reads: Range<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Pattern {
    Every,
    EverySecond,
    EveryTwice,
}

impl Span {
    fn new(axis: &[u32], start: usize, step: usize, len: usize) -> Self {
        let columns = (0..len).map(|at| axis.get(start + step * at).copied().unwrap_or(ZERO));
        let columns: Vec<u32> = columns.collect();
        let fits = |pattern: Pattern, first: u32, at: usize| match pattern {
            Pattern::Every => first + at as u32,
            Pattern::EverySecond => first + 2 * at as u32,
            Pattern::EveryTwice => first + at as u32 / 2,
        };
        // The longest run of the patterns: from a column whose successors tell it.
        let patterns = [Pattern::Every, Pattern::EverySecond, Pattern::EveryTwice];
        let run = |pattern: Pattern| {
            let mut best = 0..0;
            let mut at = 0;
            while at < len {
                let first = columns[at];
                let rest = columns[at..].iter().enumerate();
                let fit = rest.take_while(|&(i, &c)| first != ZERO && c == fits(pattern, first, i));
                let count = fit.count();
                if count > best.len() {
                    best = at..at + count;
                }
                at += count.max(1);
            }
            (best, pattern)
        };
        let runs = patterns.map(run).into_iter();
        let (run, pattern) = runs
            .reduce(|a, b| if b.0.len() > a.0.len() { b } else { a })
            .unwrap_or((0..0, Pattern::Every));
        let sources = || columns.iter().filter(|&&column| column != ZERO);
        let first = sources().min().map_or(usize::MAX, |&first| first as usize);
        let end = sources().max().map_or(0, |&last| last as usize + 1);
        Self {
            run,
            pattern,
            reads: first..end,
            columns,
        }
    }

    /// Copies a row, of which `from` are the columns from `first_column` on.
    fn copy<A: Acc>(&self, from: &[A], first_column: usize, to: &mut [A]) {
        let Range { start, end } = self.run;
        for part in [0..start, end..to.len()] {
            for (to, &column) in to[part.clone()].iter_mut().zip(&self.columns[part]) {
                *to = match column {
                    ZERO => A::default(),
                    column => from[column as usize - first_column],
                };
            }
        }
        let to = &mut to[self.run.clone()];
        let Some(&first) = self.columns.get(start) else {
            return;
        };
        if to.is_empty() {
            return;
        }
        let from = &from[first as usize - first_column..];
        match self.pattern {
            Pattern::Every => to.copy_from_slice(&from[..to.len()]),
            Pattern::EverySecond => {
                let pairs = from.chunks_exact(2);
                // The last row may end with the value that is read.
                let last = pairs.remainder().first();
                for (to, from) in to.iter_mut().zip(pairs.map(|pair| &pair[0]).chain(last)) {
                    *to = *from;
                }
            }
            Pattern::EveryTwice => {
                let mut pairs = to.chunks_exact_mut(2);
                let whole = pairs.len();
                for (to, from) in pairs.by_ref().zip(from) {
                    [to[0], to[1]] = [*from; 2];
                }
                if let Some(to) = pairs.into_remainder().first_mut() {
                    *to = from[whole];
                }
            }
        }
    }
}
