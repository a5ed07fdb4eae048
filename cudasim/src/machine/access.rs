//! Executing loads, stores and atomics, every one checked.

use super::address;
use super::race::{AccessKind, Kind};
use super::registers::{lanes, Register, Word, LANES};
use super::report::{Fault, Report};
use super::transfer::{transfer, transfer_all};
use super::warp::Warp;
use super::Machine;
use crate::decode::SharedVariable;
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

    pub(super) fn writes(&self) -> bool {
        self.access.kind != Kind::Read
    }
}

/// A piece of memory that lanes access: an allocation, or a block's shared memory.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Global(usize),
    Shared(usize),
}

/// A memory instruction of a warp, on its way.
pub(super) struct Request<'a> {
    /// The block, among those that run, and the warp in it.
    pub at: (usize, usize),
    pub pc: u32,
    pub op: &'a MemoryOp,
    /// Bytes of each lane.
    pub size: usize,
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
        let request = Request { at, pc, op, size: op.size() };
        let plus = |a: u64| a.wrapping_add(op.offset);
        let addresses: [u64; LANES] = match op.base.bits {
            64 => u64::plane(&warp.registers, op.base.index).map(plus),
            _ => u32::plane(&warp.registers, op.base.index).map(|a| plus(a as u64)),
        };
        let size = request.size as u64 - 1;
        if lanes(mask).fold(0, |all, l| all | addresses[l]) & size != 0 {
            let lane = lanes(mask).find(|l| addresses[*l] & size != 0).unwrap_or(0);
            let detail = format!("{} of {} bytes at {:#x}", verb(op), request.size, addresses[lane]);
            return Err(self.report(Fault::Misaligned, self.who(at.0, at.1, lane), pc, detail));
        }
        if op.space != Space::Generic {
            return self.in_space(&request, warp, mask, &addresses, op.space);
        }
        // Generic addresses tell their space themselves, each lane its own.
        for (space, base) in [
            (Space::Global, 0),
            (Space::Shared, address::SHARED),
            (Space::Local, address::LOCAL),
            (Space::Param, address::PARAM),
        ] {
            let there = lanes(mask).filter(|l| address::space(addresses[*l]) == space);
            let group = there.fold(0, |m, l| m | 1 << l);
            if group != 0 {
                let space = if space == Space::Shared { Space::SharedCluster } else { space };
                let offsets = addresses.map(|a| a.wrapping_sub(base));
                self.in_space(&request, warp, group, &offsets, space)?;
            }
        }
        Ok(())
    }

    fn in_space(
        &mut self,
        request: &Request,
        warp: &mut Warp,
        mask: u32,
        addresses: &[u64; LANES],
        space: Space,
    ) -> Result<(), Report> {
        match space {
            Space::Param => self.parameters(request, warp, mask, addresses),
            Space::Local => self.local(request, warp, mask, addresses),
            Space::Shared | Space::SharedCluster => self.shared_access(request, warp, mask, addresses, space),
            _ => self.global(request, warp, mask, addresses),
        }
    }

    fn out_of_bounds(&self, request: &Request, lane: usize, detail: String) -> Report {
        let detail = format!("{} of {} bytes: {detail}", verb(request.op), request.size);
        self.report(Fault::OutOfBounds, self.who(request.at.0, request.at.1, lane), request.pc, detail)
    }

    fn parameters(
        &mut self,
        request: &Request,
        warp: &mut Warp,
        mask: u32,
        offsets: &[u64; LANES],
    ) -> Result<(), Report> {
        let fits = |l: &usize| offsets[*l] as usize + request.size <= self.params.len() && !request.op.writes();
        if let Some(lane) = lanes(mask).find(|l| !fits(l)) {
            let detail = format!("at offset {} of {} bytes of parameters", offsets[lane], self.params.len());
            return Err(self.out_of_bounds(request, lane, detail));
        }
        let offsets = offsets.map(|o| o as usize);
        transfer_all(request.op, &mut self.params, &mut warp.registers, mask, &offsets);
        Ok(())
    }

    fn local(&mut self, request: &Request, warp: &mut Warp, mask: u32, offsets: &[u64; LANES]) -> Result<(), Report> {
        let size = self.kernel.local_bytes;
        let generic = request.op.space == Space::Generic;
        for lane in lanes(mask) {
            let thread = (request.at.1 * LANES + lane) as u64;
            let owner = if generic { offsets[lane] >> address::LOCAL_SHIFT } else { thread };
            let offset = offsets[lane] as usize & if generic { address::OFFSET as usize } else { !0 };
            if owner != thread || offset + request.size > size {
                let detail = format!("at offset {offset} of {size} bytes of thread {owner}'s local memory");
                return Err(self.out_of_bounds(request, lane, detail));
            }
            transfer(request.op, &mut warp.local, &mut warp.registers, lane, lane * size + offset);
        }
        Ok(())
    }

    fn global(
        &mut self,
        request: &Request,
        warp: &mut Warp,
        mask: u32,
        addresses: &[u64; LANES],
    ) -> Result<(), Report> {
        let size = request.size;
        if self.options.memory_statistics {
            self.statistics.global(request.op.writes(), lanes(mask).map(|l| addresses[l]), size);
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
            self.region(request, warp, group, &offsets, Place::Global(i));
        }
        Ok(())
    }

    fn shared_access(
        &mut self,
        request: &Request,
        warp: &mut Warp,
        mask: u32,
        addresses: &[u64; LANES],
        space: Space,
    ) -> Result<(), Report> {
        let size = request.size;
        if self.options.memory_statistics {
            self.statistics.shared(lanes(mask).map(|l| addresses[l]), size);
        }
        let block = request.at.0;
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
            self.region(request, warp, group, &offsets, Place::Shared(block - own + target));
        }
        Ok(())
    }

    /// The variable that an offset of shared memory belongs to.
    pub(super) fn variable(&self, offset: usize) -> Option<&SharedVariable> {
        self.kernel.shared.iter().find(|v| (v.offset..v.offset + v.bytes).contains(&offset))
    }
}

pub(super) fn verb(op: &MemoryOp) -> &'static str {
    match op.operation {
        Operation::Load => "read",
        Operation::Store => "write",
        Operation::Atomic(_) => "atomic",
    }
}
