//! The order of accesses by synchronisation, and races.
//!
//! Time is a counter that every memory instruction and every synchronisation advances. An access of one
//! thread is ordered before a present access of another if it happened before their horizon: the last
//! barrier that both passed, or the time that a release and an acquire between blocks carried over
//! (8.7). An execution shows one schedule; an unordered pair is reported in all of them.

use super::Block;
use super::registers::lanes;
use std::collections::HashMap;

/// Threads of a block at most, and the shift that numbers threads over the whole launch.
pub const THREAD_BITS: u32 = 10;

pub fn block_of(who: u32) -> u32 {
    who >> THREAD_BITS
}

pub fn warp_of(who: u32) -> u32 {
    who >> 5
}

/// The last readers of a cell: one thread, or several of the same warp, block or grid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Default, Debug)]
pub enum Scope {
    #[default]
    Thread,
    Warp,
    Block,
    Grid,
}

/// The last accesses to a few neighbouring bytes.
#[derive(Clone, Copy, Default)]
struct Cell {
    written: u64,
    read: u64,
    writer: u32,
    reader: u32,
    /// The instruction that wrote.
    pc: u32,
    readers: Scope,
    strong: bool,
    non_coherent: bool,
}

/// The times until which accesses of other blocks are known to be over, by block and by single thread.
#[derive(Clone, Default)]
pub struct Known {
    pub blocks: HashMap<u32, u64>,
    pub threads: HashMap<u32, u64>,
}

impl Known {
    pub fn merge(&mut self, other: &Known) {
        for (mine, others) in [(&mut self.blocks, &other.blocks), (&mut self.threads, &other.threads)] {
            for (key, time) in others {
                let known = mine.entry(*key).or_default();
                *known = (*known).max(*time);
            }
        }
    }

    fn of(&self, who: u32) -> u64 {
        let time = |times: &HashMap<u32, u64>, key| times.get(&key).copied().unwrap_or(0);
        time(&self.blocks, block_of(who)).max(time(&self.threads, who))
    }
}

/// A thread that accesses memory now, and the horizons of all the others from where it stands.
pub struct Actor<'a> {
    pub who: u32,
    pub pc: u32,
    pub now: u64,
    /// When each lane of the warp last passed a `bar.warp.sync`.
    pub lanes: &'a [u64; 32],
    pub barrier: u64,
    /// The running blocks.
    pub blocks: &'a [Block],
    pub cluster_blocks: u32,
    pub launch: u64,
    pub grid_blocks: u32,
    /// By acquires: of the block, and of this thread since the block's last barrier.
    pub known: [Option<&'a Known>; 2],
}

/// The new value of an atomic, from the old one and the operand.
pub type Reduce = fn(u64, u64) -> u64;

#[derive(Clone, Copy)]
pub enum Kind {
    Load,
    Store,
    Atomic(Reduce),
}

impl Kind {
    pub fn reads(self) -> bool {
        !matches!(self, Kind::Store)
    }

    pub fn writes(self) -> bool {
        !matches!(self, Kind::Load)
    }
}

/// The semantics of an access (8.4).
#[derive(Clone, Copy)]
pub struct Access {
    pub kind: Kind,
    /// Volatile, relaxed, acquire and release accesses and atomics do not race with each other.
    pub strong: bool,
    pub release: bool,
    /// `ld.global.nc`, through a cache that does not see the launch's own writes.
    pub non_coherent: bool,
}

/// A conflict that is harmless where both write the same value.
pub const WRITES: &str = "write after write";

/// An access that an earlier one is not ordered with.
#[derive(Debug)]
pub struct Conflict {
    pub what: &'static str,
    pub other: u32,
    pub scope: Scope,
    pub written_at: Option<u32>,
}

impl Actor<'_> {
    /// The time until which accesses of `other` are ordered before now.
    fn horizon(&self, other: u32, scope: Scope) -> u64 {
        if scope == Scope::Grid {
            let known = |block| self.foreign_block(block);
            let all = (0..self.grid_blocks).filter(|b| *b != block_of(self.who)).map(known).min();
            return all.unwrap_or(self.launch).min(self.barrier.max(self.launch));
        }
        if other == self.who && scope == Scope::Thread {
            return u64::MAX;
        }
        if block_of(other) != block_of(self.who) {
            return self.foreign(other);
        }
        if scope == Scope::Block || warp_of(other) != warp_of(self.who) {
            return self.barrier;
        }
        let lane = |who: u32| self.lanes[who as usize % 32];
        let both = match scope {
            Scope::Thread => lane(other).min(lane(self.who)),
            _ => self.lanes.iter().copied().min().unwrap_or(0),
        };
        both.max(self.barrier)
    }

    /// The horizon of a thread of another block.
    fn foreign(&self, other: u32) -> u64 {
        let published = self.of_cluster(block_of(other)).map(|block| {
            let thread = other as usize % (1 << THREAD_BITS);
            block.warps[thread / 32].published[thread % 32].max(block.published)
        });
        let known = self.known.iter().flatten().map(|k| k.of(other)).max();
        known.max(published).unwrap_or(0).max(self.launch)
    }

    /// The [horizon](Self::horizon) of all threads of another block.
    fn foreign_block(&self, other: u32) -> u64 {
        let published = self.of_cluster(other).map(|block| {
            let lanes = block.warps.iter().flat_map(|w| lanes(w.lanes).map(|l| w.published[l]));
            lanes.min().unwrap_or(0).max(block.published)
        });
        let known = self.known.iter().flatten().map(|k| k.of(other << THREAD_BITS)).max();
        known.max(published).unwrap_or(0).max(self.launch)
    }

    /// A block of the same cluster.
    fn of_cluster(&self, number: u32) -> Option<&Block> {
        let together = number / self.cluster_blocks == block_of(self.who) / self.cluster_blocks;
        together.then(|| &self.blocks[(number - self.blocks[0].number) as usize])
    }
}

/// The cells of an allocation, each for as many bytes as the smallest access so far.
#[derive(Default)]
pub struct Shadow {
    cells: Vec<Cell>,
    shift: u32,
}

impl Shadow {
    /// Records an access to `size` bytes of `length`, and returns what it races with.
    #[inline]
    pub fn access(
        &mut self, offset: usize, size: usize, length: usize, actor: &Actor, access: &Access,
    ) -> Option<Conflict> {
        if self.cells.is_empty() || size < 1 << self.shift {
            self.refine(size.trailing_zeros(), length);
        }
        let (first, last) = (offset >> self.shift, (offset + size - 1) >> self.shift);
        let mut conflict = None;
        for cell in &mut self.cells[first..=last] {
            let found = cell.access(actor, access);
            conflict = conflict.or(found);
        }
        conflict
    }

    fn refine(&mut self, shift: u32, length: usize) {
        let count = length.div_ceil(1 << shift);
        let old = |i: usize| self.cells.get(i >> self.shift.saturating_sub(shift)).copied().unwrap_or_default();
        self.cells = (0..count).map(old).collect();
        self.shift = shift;
    }

    /// The last writer of the byte at `offset`, its instruction, and the time.
    pub fn writer(&self, offset: usize) -> Option<(u32, u32, u64)> {
        let cell = self.cells.get(offset >> self.shift)?;
        (cell.written != 0).then_some((cell.writer, cell.pc, cell.written))
    }
}

impl Cell {
    #[inline]
    fn access(&mut self, actor: &Actor, access: &Access) -> Option<Conflict> {
        let writes = access.kind.writes();
        let in_launch = |time: u64| time >= actor.launch;
        let mut conflict = None;
        if in_launch(self.written) {
            if access.non_coherent {
                conflict = Some(self.by_writer("ld.global.nc of bytes written in the same launch"));
            } else if !(access.strong && self.strong) && self.written >= actor.horizon(self.writer, Scope::Thread) {
                let what = if writes { WRITES } else { "read after write" };
                conflict = Some(self.by_writer(what));
            }
        }
        if in_launch(self.read) && writes {
            let what = if self.non_coherent {
                "write of bytes that ld.global.nc read in the same launch"
            } else {
                "write after read"
            };
            if self.non_coherent || self.read >= actor.horizon(self.reader, self.readers) {
                conflict = conflict.or(Some(self.by_reader(what)));
            }
        }
        if writes {
            (self.writer, self.pc, self.written, self.strong) = (actor.who, actor.pc, actor.now, access.strong);
        } else if !access.strong {
            self.note_reader(actor);
            self.non_coherent = access.non_coherent || self.non_coherent && in_launch(self.read);
            self.read = actor.now;
        }
        conflict
    }

    /// Keeps the last reader, and as many others as no barrier parts from it.
    #[inline]
    fn note_reader(&mut self, actor: &Actor) {
        if self.read < actor.launch {
            (self.reader, self.readers) = (actor.who, Scope::Thread);
            return;
        }
        if self.readers == Scope::Grid || self.reader == actor.who && self.readers == Scope::Thread {
            return;
        }
        let together = match () {
            _ if block_of(self.reader) != block_of(actor.who) => Scope::Grid,
            _ if warp_of(self.reader) != warp_of(actor.who) => Scope::Block,
            _ => Scope::Warp,
        };
        if self.read < actor.horizon(self.reader, self.readers) {
            (self.reader, self.readers) = (actor.who, Scope::Thread);
        } else if together > self.readers {
            self.readers = together;
        }
    }

    fn by_writer(&self, what: &'static str) -> Conflict {
        Conflict { what, other: self.writer, scope: Scope::Thread, written_at: Some(self.pc) }
    }

    fn by_reader(&self, what: &'static str) -> Conflict {
        Conflict { what, other: self.reader, scope: self.readers, written_at: None }
    }
}
