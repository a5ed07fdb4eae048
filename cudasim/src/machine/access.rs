//! Executing loads, stores and atomics, every one checked.

use super::address;
use super::launch::Order;
use super::memory::Region;
use super::race::{AccessKind, Actor, Conflict, Kind, Scope, WRITES};
use super::registers::{lanes, Register, Registers, Word, LANES};
use super::report::{Fault, Report};
use super::warp::Warp;
use super::Machine;
use crate::isa::Reduce;
use crate::ptx::types::{Space, Type};

#[derive(Clone, Copy)]
pub enum Operation {
    Load,
    Store,
    Atomic(Reduce),
}

/// A decoded memory instruction.
pub struct MemoryOp {
    pub operation: Operation,
    pub space: Space,
    pub base: Register,
    pub offset: u64,
    pub ty: Type,
    /// What is loaded or stored, element by element, or the operands of an atomic.
    pub values: Vec<Register>,
    /// Where an atomic puts what it found.
    pub destination: Option<Register>,
    pub access: AccessKind,
    pub release: bool,
}

impl MemoryOp {
    /// Bytes that each lane accesses.
    fn size(&self) -> usize {
        match self.operation {
            Operation::Atomic(_) => self.ty.bytes(),
            _ => self.values.len() * self.ty.bytes(),
        }
    }

    fn writes(&self) -> bool {
        self.access.kind != Kind::Read
    }
}

/// A piece of memory that lanes access: an allocation, or a block's shared memory.
#[derive(Clone, Copy)]
enum Place {
    Global(usize),
    Shared(usize),
}

impl Machine<'_> {
    pub(super) fn memory(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &MemoryOp,
        mask: u32,
    ) -> Result<(), Report> {
        let mut addresses = [0; LANES];
        for lane in lanes(mask) {
            addresses[lane] = op.base.get(&warp.registers, lane).wrapping_add(op.offset);
        }
        let mut rest = mask;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let generic = op.space == Space::Generic;
            let space = if generic {
                address::space(addresses[first])
            } else {
                op.space
            };
            let of_space = |l: &usize| !generic || address::space(addresses[*l]) == space;
            let group = lanes(rest).filter(of_space).fold(0, |m, l| m | 1 << l);
            rest &= !group;
            let base = match space {
                _ if !generic => 0,
                Space::Shared => address::SHARED,
                Space::Local => address::LOCAL,
                Space::Param => address::PARAM,
                _ => 0,
            };
            let mut offsets = addresses;
            offsets.iter_mut().for_each(|a| *a = a.wrapping_sub(base));
            let misaligned = |l: &usize| offsets[*l] % op.size() as u64 != 0;
            if let Some(lane) = lanes(group).find(misaligned) {
                let (size, address) = (op.size(), addresses[lane]);
                let detail = format!("{} of {size} bytes at {address:#x}", verb(op));
                return Err(self.report(Fault::Misaligned, self.who(at.0, at.1, lane), pc, detail));
            }
            match space {
                Space::Param => self.parameters(at, warp, pc, op, group, &offsets)?,
                Space::Local => self.local(at, warp, pc, op, group, &offsets, generic)?,
                Space::Shared | Space::SharedCluster => {
                    self.shared_access(at, warp, pc, op, group, &offsets)?
                }
                _ => self.global(at, warp, pc, op, group, &offsets)?,
            }
        }
        Ok(())
    }

    fn out_of_bounds(
        &self,
        at: (usize, usize),
        lane: usize,
        pc: u32,
        op: &MemoryOp,
        detail: String,
    ) -> Report {
        let detail = format!("{} of {} bytes: {detail}", verb(op), op.size());
        self.report(Fault::OutOfBounds, self.who(at.0, at.1, lane), pc, detail)
    }

    fn parameters(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &MemoryOp,
        mask: u32,
        offsets: &[u64; LANES],
    ) -> Result<(), Report> {
        for lane in lanes(mask) {
            let offset = offsets[lane] as usize;
            if offset + op.size() > self.params.len() || op.writes() {
                let detail = format!(
                    "at offset {offset} of {} bytes of parameters",
                    self.params.len()
                );
                return Err(self.out_of_bounds(at, lane, pc, op, detail));
            }
            transfer(op, &mut self.params, &mut warp.registers, lane, offset);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn local(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &MemoryOp,
        mask: u32,
        offsets: &[u64; LANES],
        generic: bool,
    ) -> Result<(), Report> {
        let size = self.kernel.local_bytes;
        for lane in lanes(mask) {
            let thread = (at.1 * LANES + lane) as u64;
            let (owner, offset) = match generic {
                true => (
                    offsets[lane] >> address::LOCAL_SHIFT,
                    offsets[lane] as usize & address::OFFSET as usize,
                ),
                false => (thread, offsets[lane] as usize),
            };
            if owner != thread || offset + op.size() > size {
                let detail =
                    format!("at offset {offset} of {size} bytes of thread {owner}'s local memory");
                return Err(self.out_of_bounds(at, lane, pc, op, detail));
            }
            transfer(
                op,
                &mut warp.local,
                &mut warp.registers,
                lane,
                lane * size + offset,
            );
        }
        Ok(())
    }

    fn global(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &MemoryOp,
        mask: u32,
        addresses: &[u64; LANES],
    ) -> Result<(), Report> {
        let size = op.size();
        if self.options.memory_statistics {
            let touched = lanes(mask).map(|l| addresses[l]);
            self.statistics.global(op.writes(), touched, size);
        }
        let mut rest = mask;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let located = self.memory.locate(addresses[first], size);
            let (i, _) = located.map_err(|detail| self.out_of_bounds(at, first, pc, op, detail))?;
            let (start, end) = {
                let allocation = &self.memory.allocations[i];
                (
                    allocation.start,
                    allocation.start + (allocation.bytes - size) as u64,
                )
            };
            let mut group = 0;
            for lane in 0..LANES {
                group |= ((addresses[lane] >= start && addresses[lane] <= end) as u32) << lane;
            }
            group &= rest;
            rest &= !group;
            let offsets = addresses.map(|a| a.wrapping_sub(start) as usize);
            self.region(at, warp, pc, op, group, &offsets, Place::Global(i));
        }
        Ok(())
    }

    fn shared_access(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &MemoryOp,
        mask: u32,
        addresses: &[u64; LANES],
    ) -> Result<(), Report> {
        let size = op.size();
        if self.options.memory_statistics {
            self.statistics
                .shared(lanes(mask).map(|l| addresses[l]), size);
        }
        let cluster_blocks = self.launch.cluster_blocks() as usize;
        let own = self.blocks[at.0].number as usize % cluster_blocks;
        let offsets = addresses.map(|a| (a as u32 & address::OFFSET) as usize);
        let rank = |lane: usize| (addresses[lane] >> address::RANK_SHIFT) as usize;
        for lane in lanes(mask) {
            let (offset, bytes) = (offsets[lane], self.shared[at.0].data.len());
            let variable = self
                .kernel
                .shared
                .iter()
                .find(|v| (v.offset..v.offset + v.bytes).contains(&offset));
            let detail = match variable {
                _ if rank(lane) >= cluster_blocks
                    || op.space == Space::Shared && rank(lane) != own =>
                {
                    format!(
                        "at {:#x}, which is no shared memory of the block",
                        addresses[lane]
                    )
                }
                _ if offset + size > bytes => {
                    format!("at offset {offset} of {bytes} bytes of shared memory")
                }
                Some(v) if offset + size > v.offset + v.bytes => {
                    format!("across the end of {}", v.name)
                }
                _ => continue,
            };
            return Err(self.out_of_bounds(at, lane, pc, op, detail));
        }
        let mut rest = mask;
        while rest != 0 {
            let target = rank(rest.trailing_zeros() as usize);
            let group = lanes(rest)
                .filter(|l| rank(*l) == target)
                .fold(0, |m, l| m | 1 << l);
            rest &= !group;
            self.region(
                at,
                warp,
                pc,
                op,
                group,
                &offsets,
                Place::Shared(at.0 - own + target),
            );
        }
        Ok(())
    }

    /// The lanes that access one region, one after another.
    #[allow(clippy::too_many_arguments)]
    fn region(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &MemoryOp,
        mask: u32,
        offsets: &[usize; LANES],
        place: Place,
    ) {
        let now = self.tick();
        let size = op.size();
        if op.access.strong {
            self.synchronize(at, warp, op, mask, offsets, place);
        }
        let mut found: Vec<(usize, Fault, Option<Conflict>)> = Vec::new();
        let block = &self.blocks[at.0];
        let region: &mut Region = match place {
            Place::Global(i) => &mut self.memory.allocations[i].region,
            Place::Shared(i) => &mut self.shared[i],
        };
        let first = block.number << super::race::THREAD_BITS | (at.1 * LANES) as u32;
        let mut actor = Actor {
            who: 0,
            pc,
            now,
            lanes: &warp.synchronized,
            barrier: block.barrier,
            cluster_barrier: block.cluster_barrier,
            cluster_blocks: self.launch.cluster_blocks(),
            launch: match place {
                Place::Global(_) => self.began,
                Place::Shared(_) => self.blocks_began,
            },
            grid_blocks: self.launch.blocks() as u32,
            known: [
                (!block.known.blocks.is_empty()).then_some(&block.known),
                None,
            ],
        };
        let whole_words = match (op.operation, op.ty.bytes(), op.values[0].bits) {
            (Operation::Load, 4, 32) => 4,
            (Operation::Load, 8, 64) => 8,
            _ => 0,
        };
        let registers = &mut warp.registers;
        let reverse = self.options.order == Order::Reverse;
        for i in 0..LANES {
            let lane = if reverse { LANES - 1 - i } else { i };
            if mask >> lane & 1 == 0 {
                continue;
            }
            let offset = offsets[lane];
            if self.options.checks {
                actor.who = first | lane as u32;
                if !block.acquired.is_empty() {
                    actor.known[1] = block.acquired.get(&actor.who);
                }
                if op.access.kind != Kind::Write && !region.is_valid(offset, size) {
                    found.push((lane, Fault::Uninitialized, None));
                }
                let conflict =
                    region
                        .shadow
                        .access(offset, size, region.data.len(), &actor, &op.access);
                if let Some(conflict) = conflict {
                    // Two threads that write the same value change nothing.
                    let both_write = op.access.kind == Kind::Write && conflict.what == WRITES;
                    if !both_write || !stores_same(op, &region.data, registers, lane, offset) {
                        found.push((lane, Fault::Race, Some(conflict)));
                    }
                }
            }
            if whole_words == 0 {
                transfer(op, &mut region.data, registers, lane, offset);
            }
        }
        match whole_words {
            4 => load::<u32, 4>(op, &region.data, registers, mask, offsets),
            8 => load::<u64, 8>(op, &region.data, registers, mask, offsets),
            _ => {}
        }
        if op.writes() {
            for lane in lanes(mask) {
                region.set_valid(offsets[lane], size);
            }
        }
        if matches!(op.operation, Operation::Atomic(_)) {
            self.statistics.atomics += mask.count_ones() as u64;
        }
        for (lane, fault, conflict) in found {
            let detail = self.detail(op, place, offsets[lane], conflict);
            let report = self.report(fault, self.who(at.0, at.1, lane), pc, detail);
            self.note(report);
        }
    }

    fn detail(
        &self,
        op: &MemoryOp,
        place: Place,
        offset: usize,
        conflict: Option<Conflict>,
    ) -> String {
        let memory = match place {
            Place::Global(i) => format!(
                "offset {offset} of {} bytes in global memory",
                self.memory.allocations[i].bytes
            ),
            Place::Shared(_) => {
                let variable = self
                    .kernel
                    .shared
                    .iter()
                    .find(|v| (v.offset..v.offset + v.bytes).contains(&offset));
                let name = variable.map_or("dynamic shared memory", |v| &v.name);
                format!("offset {offset} of shared memory, in {name},")
            }
        };
        let Some(conflict) = conflict else {
            return format!(
                "{} of {} bytes at {memory} that nothing wrote",
                verb(op),
                op.size()
            );
        };
        let other = self.describe(conflict.other, conflict.written_at);
        let others = match conflict.scope {
            Scope::Thread => "",
            _ => " and others",
        };
        format!(
            "{} at {memory} not ordered with {other}{others}",
            conflict.what
        )
    }

    /// Releases and acquires of a strong access: what was known to be over travels with the value.
    fn synchronize(
        &mut self,
        at: (usize, usize),
        warp: &Warp,
        op: &MemoryOp,
        mask: u32,
        offsets: &[usize; LANES],
        place: Place,
    ) {
        let Place::Global(i) = place else { return };
        let start = self.memory.allocations[i].start;
        for lane in lanes(mask) {
            let (who, address) = (self.who(at.0, at.1, lane), start + offsets[lane] as u64);
            let block = &mut self.blocks[at.0];
            if op.access.kind != Kind::Write {
                if let Some(released) = self.released.get(&address) {
                    block.acquired.entry(who).or_default().merge(released);
                }
            }
            // A relaxed access releases what a fence before it made visible.
            let fenced = warp.fenced[lane];
            if op.writes() && (op.release || fenced >= block.barrier_before && fenced > 0) {
                let released = self.released.entry(address).or_default();
                released.merge(&block.known);
                if let Some(acquired) = block.acquired.get(&who) {
                    released.merge(acquired);
                }
                released.blocks.insert(block.number, block.barrier);
                let until = if op.release {
                    self.memory.now
                } else {
                    fenced.max(block.barrier)
                };
                released.threads.insert(who, until);
            }
        }
    }
}

fn verb(op: &MemoryOp) -> &'static str {
    match op.operation {
        Operation::Load => "read",
        Operation::Store => "write",
        Operation::Atomic(_) => "atomic",
    }
}

fn get(data: &[u8], offset: usize, bytes: usize) -> u64 {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&data[offset..offset + bytes]);
    u64::from_le_bytes(word)
}

fn put(data: &mut [u8], offset: usize, bytes: usize, value: u64) {
    data[offset..offset + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
}

/// Loads whole registers.
fn load<W: Word + TryFrom<u64>, const N: usize>(
    op: &MemoryOp,
    data: &[u8],
    registers: &mut Registers,
    mask: u32,
    offsets: &[usize; LANES],
) {
    for (k, register) in op.values.iter().enumerate() {
        let plane = W::plane_mut(registers, register.index);
        for lane in lanes(mask) {
            let value = get(data, offsets[lane] + k * N, N);
            plane[lane] = W::try_from(value).unwrap_or_default();
        }
    }
}

/// Moves the elements of one lane, or applies an atomic.
fn transfer(op: &MemoryOp, data: &mut [u8], registers: &mut Registers, lane: usize, offset: usize) {
    let bytes = op.ty.bytes();
    match op.operation {
        Operation::Load => {
            for (k, register) in op.values.iter().enumerate() {
                let value = get(data, offset + k * bytes, bytes);
                let above = 64 - op.ty.bits();
                let signed = ((value << above) as i64 >> above) as u64;
                register.set(
                    registers,
                    lane,
                    if op.ty.is_signed() { signed } else { value },
                );
            }
        }
        Operation::Store => {
            for (k, register) in op.values.iter().enumerate() {
                put(
                    data,
                    offset + k * bytes,
                    bytes,
                    register.get(registers, lane),
                );
            }
        }
        Operation::Atomic(reduce) => {
            let old = get(data, offset, bytes);
            let operand = |i: usize| op.values.get(i).map_or(0, |r| r.get(registers, lane));
            put(data, offset, bytes, reduce(old, operand(0), operand(1)));
            if let Some(register) = op.destination {
                register.set(registers, lane, old);
            }
        }
    }
}

fn stores_same(
    op: &MemoryOp,
    data: &[u8],
    registers: &Registers,
    lane: usize,
    offset: usize,
) -> bool {
    let bytes = op.ty.bytes();
    let keep = !0u64 >> (64 - op.ty.bits());
    op.values.iter().enumerate().all(|(k, register)| {
        get(data, offset + k * bytes, bytes) == register.get(registers, lane) & keep
    })
}
