//! The memory of a call beside its results: what one launch leaves for a later one, in one allocation.

use super::launch::Slot;
use std::ops::Range;

/// Slots in the order in which their numbers lie in memory. Parts, of which there are most, are last: beyond
/// them the allocation ends. What a kernel writes beyond the others is what the same launch reads or writes. A
/// checker of memory thus tells of either.
const ORDER: [Slot; 7] = [
    Slot::Affines,
    Slot::Gradients,
    Slot::ShareWeight,
    Slot::ShareBias,
    Slot::ShareMean,
    Slot::ShareRstd,
    Slot::Parts,
];

/// Each slot begins at a multiple of so many numbers, as the kernels' vectors do.
const ALIGNMENT: usize = 4;

/// How many numbers, of the type of sums, each slot has in the workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Workspace {
    numbers: [usize; ORDER.len()],
}

impl Workspace {
    /// Gives a slot room for at least so many numbers.
    pub fn reserve(&mut self, slot: Slot, numbers: usize) {
        for (reserved, of) in self.numbers.iter_mut().zip(ORDER) {
            if of == slot {
                *reserved = numbers.next_multiple_of(ALIGNMENT).max(*reserved);
            }
        }
    }

    /// The indices of a slot's numbers; `None` for a slot elsewhere, whose storage is its own.
    pub fn range(&self, slot: Slot) -> Option<Range<usize>> {
        let at = ORDER.into_iter().position(|of| of == slot)?;
        let begin = self.numbers[..at].iter().sum();
        (self.numbers[at] > 0).then(|| begin..begin + self.numbers[at])
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.range(slot).is_some()
    }

    /// The bytes before a slot in its storage, where a number has so many.
    pub fn offset(&self, slot: Slot, number: usize) -> usize {
        self.range(slot).map_or(0, |range| range.start * number)
    }

    pub fn len(&self) -> usize {
        self.numbers.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_side_by_side() {
        let mut workspace = Workspace::default();
        assert_eq!(workspace.len(), 0);
        workspace.reserve(Slot::Parts, 80);
        workspace.reserve(Slot::ShareBias, 5);
        workspace.reserve(Slot::Affines, 20);
        workspace.reserve(Slot::Parts, 40);
        let slots = [Slot::Affines, Slot::ShareBias, Slot::Parts];
        let ranges = slots.map(|slot| workspace.range(slot));
        assert_eq!(ranges, [Some(0..20), Some(20..28), Some(28..108)]);
        assert_eq!(workspace.len(), 108);
        assert_eq!(workspace.offset(Slot::Parts, 8), 224);
        for slot in [Slot::Gradients, Slot::X] {
            assert!(!workspace.has(slot));
            assert_eq!(workspace.offset(slot, 8), 0);
        }
    }
}
