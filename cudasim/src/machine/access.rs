//! Executing loads, stores and atomics, every one checked: which memory an address names, and
//! whether the access lies within it.

use super::memory::{Region, address};
use super::race::{Access, Actor, Conflict, Kind, Scope, WRITES};
use super::registers::{LANES, Register, Word, lanes};
use super::report::{Fault, Report};
use super::transfer::{stores_same, transfer, transfer_all};
use super::warp::Warp;
use super::{Machine, Site};
use crate::decode::SharedVariable;
use crate::ptx::types::{Space, Type};

/// A decoded memory instruction.
pub struct MemoryOp {
    pub space: Space,
    pub base: Register,
    pub offset: u64,
    pub ty: Type,
    /// The registers of the elements that are loaded or stored, or of the operands of an atomic.
    pub values: Vec<Register>,
    /// The register for the old value of an atomic.
    pub destination: Option<Register>,
    pub access: Access,
}

impl MemoryOp {
    /// Bytes that each lane accesses.
    fn size(&self) -> usize {
        let elements = if matches!(self.access.kind, Kind::Atomic(_)) { 1 } else { self.values.len() };
        elements * self.ty.bytes()
    }

    fn verb(&self) -> &'static str {
        match self.access.kind {
            Kind::Load => "read",
            Kind::Store => "write",
            Kind::Atomic(_) => "atomic",
        }
    }
}

/// A piece of memory that threads share: an allocation, or a block's shared memory.
#[derive(Clone, Copy)]
enum Place {
    Global(usize),
    Shared(usize),
}

/// A memory instruction of a warp, on its way.
struct Request<'a> {
    site: Site,
    op: &'a MemoryOp,
    warp: &'a mut Warp,
    /// Bytes of each lane.
    size: usize,
}

type Addresses = [u64; LANES];
type Checked = Result<(), Report>;

impl Machine<'_> {
    pub(super) fn memory(&mut self, site: Site, warp: &mut Warp, op: &MemoryOp, mask: u32) -> Checked {
        let mut request = Request { site, op, warp, size: op.size() };
        let mut addresses: Addresses = match op.base.bits {
            64 => *u64::plane(&request.warp.registers, op.base.index),
            _ => u32::plane(&request.warp.registers, op.base.index).map(u64::from),
        };
        addresses.iter_mut().for_each(|a| *a = a.wrapping_add(op.offset));
        let is_off = |lane: usize| addresses[lane] & (request.size as u64 - 1) != 0;
        let misaligned = (0..LANES).fold(0, |m, l| m | (is_off(l) as u32) << l) & mask;
        if misaligned != 0 {
            let lane = misaligned.trailing_zeros() as usize;
            let detail = format!("{} of {} bytes at {:#x}", op.verb(), request.size, addresses[lane]);
            return Err(self.report(Fault::Misaligned, site, lane, detail));
        }
        if op.space != Space::Generic {
            return self.in_space(&mut request, mask, &addresses, op.space);
        }
        // Generic addresses tell their space themselves, each lane its own.
        let mut rest = mask;
        while rest != 0 {
            let is_shared = |lane: usize| addresses[lane] >= address::SHARED;
            let first = is_shared(rest.trailing_zeros() as usize);
            let group = lanes(rest).filter(|l| is_shared(*l) == first).fold(0, |m, l| m | 1 << l);
            rest &= !group;
            let (space, base) = if first { (Space::SharedCluster, address::SHARED) } else { (Space::Global, 0) };
            self.in_space(&mut request, group, &addresses.map(|a| a.wrapping_sub(base)), space)?;
        }
        Ok(())
    }

    fn in_space(&mut self, request: &mut Request, mask: u32, addresses: &Addresses, space: Space) -> Checked {
        match space {
            Space::Param | Space::Local => self.private(request, mask, addresses, space),
            Space::Shared | Space::SharedCluster => self.shared_memory(request, mask, addresses, space),
            _ => self.global_memory(request, mask, addresses),
        }
    }

    fn out_of_bounds(&self, request: &Request, lane: usize, detail: String) -> Report {
        let detail = format!("{} of {} bytes: {detail}", request.op.verb(), request.size);
        self.report(Fault::OutOfBounds, request.site, lane, detail)
    }

    /// Parameters, and local memory, which no other thread sees.
    fn private(&mut self, request: &mut Request, mask: u32, offsets: &Addresses, space: Space) -> Checked {
        let is_param = space == Space::Param;
        let limit = if is_param { self.params.len() } else { self.kernel.local_bytes };
        for lane in lanes(mask) {
            let offset = offsets[lane] as usize;
            if offset.saturating_add(request.size) > limit || is_param && request.op.access.kind.writes() {
                let memory = if is_param { "parameters" } else { "the thread's local memory" };
                return Err(self.out_of_bounds(
                    request,
                    lane,
                    format!("at offset {offset} of {limit} bytes of {memory}"),
                ));
            }
            if !is_param {
                let data = &mut request.warp.local[lane * limit..];
                transfer(request.op, data, &mut request.warp.registers, lane, offset);
            }
        }
        if is_param {
            let offsets = offsets.map(|offset| offset as usize);
            transfer_all(request.op, &mut self.params, &mut request.warp.registers, mask, &offsets);
        }
        Ok(())
    }

    fn global_memory(&mut self, request: &mut Request, mask: u32, addresses: &Addresses) -> Checked {
        let size = request.size;
        if self.options.memory_statistics {
            self.statistics.global(request.op.access.kind.writes(), lanes(mask).map(|l| addresses[l]), size);
        }
        let mut rest = mask;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let located = self.memory.locate(addresses[first], size);
            let (i, _) = located.map_err(|detail| self.out_of_bounds(request, first, detail))?;
            let (start, bytes) = (self.memory.allocations[i].start, self.memory.allocations[i].bytes);
            let end = start + (bytes - size) as u64;
            let within = (0..LANES).fold(0, |m, l| m | ((addresses[l] >= start && addresses[l] <= end) as u32) << l);
            let group = within & rest;
            rest &= !group;
            let offsets = addresses.map(|a| a.wrapping_sub(start) as usize);
            self.region(request, group, &offsets, Place::Global(i));
        }
        Ok(())
    }

    fn shared_memory(&mut self, request: &mut Request, mask: u32, addresses: &Addresses, space: Space) -> Checked {
        let (size, block) = (request.size, request.site.block);
        if self.options.memory_statistics {
            self.statistics.shared(lanes(mask).map(|l| addresses[l]), size);
        }
        let cluster_blocks = self.launch.cluster_blocks() as usize;
        let own = self.blocks[block].number as usize % cluster_blocks;
        let offsets = addresses.map(|a| (a as u32 & address::OFFSET) as usize);
        let rank = |lane: usize| (addresses[lane] >> address::RANK_SHIFT) as usize;
        for lane in lanes(mask) {
            let (offset, bytes) = (offsets[lane], self.shared[block].data.len());
            let detail = match self.variable(offset) {
                _ if rank(lane) >= cluster_blocks || space == Space::Shared && rank(lane) != own => {
                    format!("at {:#x}, which is no shared memory of the block", addresses[lane])
                }
                _ if offset + size > bytes => format!("at offset {offset} of {bytes} bytes of shared memory"),
                Some(v) if offset + size > v.offset + v.bytes => format!("across the end of {}", v.name),
                _ => continue,
            };
            return Err(self.out_of_bounds(request, lane, detail));
        }
        let mut rest = mask;
        while rest != 0 {
            let target = rank(rest.trailing_zeros() as usize);
            let group = lanes(rest).filter(|l| rank(*l) == target).fold(0, |m, l| m | 1 << l);
            rest &= !group;
            self.region(request, group, &offsets, Place::Shared(block - own + target));
        }
        Ok(())
    }

    /// The variable that an offset of shared memory belongs to.
    fn variable(&self, offset: usize) -> Option<&SharedVariable> {
        self.kernel.shared.iter().find(|v| (v.offset..v.offset + v.bytes).contains(&offset))
    }

    /// Lanes that access one region: checks them one after another, and moves their bytes.
    fn region(&mut self, request: &mut Request, mask: u32, offsets: &[usize; LANES], place: Place) {
        let now = self.tick();
        let Request { site, op, size, .. } = *request;
        if let (true, Place::Global(i)) = (op.access.strong, place) {
            self.synchronize(request, mask, offsets, self.memory.allocations[i].start);
        }
        let mut found: Vec<(usize, Option<Conflict>)> = Vec::new();
        let block = &self.blocks[site.block];
        let region: &mut Region = match place {
            Place::Global(i) => &mut self.memory.allocations[i].region,
            Place::Shared(i) => &mut self.shared[i],
        };
        let mut actor = Actor {
            who: 0,
            pc: site.pc,
            now,
            lanes: &request.warp.synchronized,
            barrier: block.barrier,
            blocks: &self.blocks,
            cluster_blocks: self.launch.cluster_blocks(),
            launch: if matches!(place, Place::Global(_)) { self.began } else { self.blocks_began },
            grid_blocks: self.launch.blocks() as u32,
            known: [(!block.known.blocks.is_empty()).then_some(&block.known), None],
        };
        let first = site.who(block.number, 0);
        let length = region.data.len();
        let reverse = self.options.order == super::launch::Order::Reverse;
        let in_order = |i: usize| if reverse { LANES - 1 - i } else { i };
        for lane in (0..LANES).map(in_order).filter(|l| mask >> l & 1 != 0) {
            let offset = offsets[lane];
            if self.options.checks {
                actor.who = first | lane as u32;
                if !block.acquired.is_empty() {
                    actor.known[1] = block.acquired.get(&actor.who);
                }
                if op.access.kind.reads() && !region.is_valid(offset, size) {
                    found.push((lane, None));
                }
                if let Some(conflict) = region.shadow.access(offset, size, length, &actor, &op.access) {
                    // Two threads that write the same value change nothing.
                    let both_write = !op.access.kind.reads() && conflict.what == WRITES;
                    if !both_write || !stores_same(op, &region.data, &request.warp.registers, lane, offset) {
                        found.push((lane, Some(conflict)));
                    }
                }
            }
            if op.access.kind.writes() {
                transfer(op, &mut region.data, &mut request.warp.registers, lane, offset);
                region.set_valid(offset, size);
            }
        }
        match op.access.kind {
            Kind::Load => transfer_all(op, &mut region.data, &mut request.warp.registers, mask, offsets),
            Kind::Store => {}
            Kind::Atomic(_) => self.statistics.atomics += mask.count_ones() as u64,
        }
        for (lane, conflict) in found {
            let fault = if conflict.is_some() { Fault::Race } else { Fault::Uninitialized };
            let detail = self.detail(request, place, offsets[lane], conflict);
            let report = self.report(fault, site, lane, detail);
            self.note(report);
        }
    }

    fn detail(&self, request: &Request, place: Place, offset: usize, conflict: Option<Conflict>) -> String {
        let memory = match place {
            Place::Global(i) => format!("{} bytes in global memory", self.memory.allocations[i].bytes),
            Place::Shared(_) => {
                let name = self.variable(offset).map_or("dynamic shared memory", |v| &v.name);
                format!("shared memory, in {name}")
            }
        };
        let Some(Conflict { what, other, scope, written_at }) = conflict else {
            let (verb, size) = (request.op.verb(), request.size);
            return format!("{verb} of {size} bytes at offset {offset} of {memory}, which nothing wrote");
        };
        let others = if scope == Scope::Thread { "" } else { " and others" };
        format!("{what} at offset {offset} of {memory}, not ordered with {}{others}", self.describe(other, written_at))
    }

    /// Releases and acquires of a strong access: what was known to be over travels with the value.
    fn synchronize(&mut self, request: &Request, mask: u32, offsets: &[usize; LANES], start: u64) {
        let Access { kind, release, .. } = request.op.access;
        let block = &mut self.blocks[request.site.block];
        for lane in lanes(mask) {
            let (who, address) = (request.site.who(block.number, lane), start + offsets[lane] as u64);
            if let (true, Some(released)) = (kind.reads(), self.released.get(&address)) {
                block.acquired.entry(who).or_default().merge(released);
            }
            if kind.writes() && release {
                let released = self.released.entry(address).or_default();
                released.merge(&block.known);
                if let Some(acquired) = block.acquired.get(&who) {
                    released.merge(acquired);
                }
                released.blocks.insert(block.number, block.barrier);
                released.threads.insert(who, self.memory.now);
            }
        }
    }
}
