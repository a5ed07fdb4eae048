//! Accesses to one region, an allocation or a block's shared memory: races, uninitialised reads, and
//! what releases and acquires carry between blocks.

use super::access::{verb, Place, Request};
use super::launch::Order;
use super::memory::Region;
use super::race::{Actor, Conflict, Kind, Scope, THREAD_BITS, WRITES};
use super::registers::{lanes, LANES};
use super::report::Fault;
use super::transfer::{stores_same, transfer, transfer_all};
use super::warp::Warp;
use super::Machine;

impl Machine<'_> {
    /// Lanes that access one region: checks them one after another, and moves their bytes.
    pub(super) fn region(
        &mut self,
        request: &Request,
        warp: &mut Warp,
        mask: u32,
        offsets: &[usize; LANES],
        place: Place,
    ) {
        let now = self.tick();
        let Request { at, pc, op, size } = *request;
        if op.access.strong {
            self.synchronize(request, warp, mask, offsets, place);
        }
        let mut found: Vec<(usize, Fault, Option<Conflict>)> = Vec::new();
        let block = &self.blocks[at.0];
        let region: &mut Region = match place {
            Place::Global(i) => &mut self.memory.allocations[i].region,
            Place::Shared(i) => &mut self.shared[i],
        };
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
            known: [(!block.known.blocks.is_empty()).then_some(&block.known), None],
        };
        let first = block.number << THREAD_BITS | (at.1 * LANES) as u32;
        let length = region.data.len();
        let reverse = self.options.order == Order::Reverse;
        let in_order = |i: usize| if reverse { LANES - 1 - i } else { i };
        let loads = op.access.kind == Kind::Read;
        for lane in (0..LANES).map(in_order).filter(|l| mask >> l & 1 != 0) {
            let offset = offsets[lane];
            if self.options.checks {
                actor.who = first | lane as u32;
                if !block.acquired.is_empty() {
                    actor.known[1] = block.acquired.get(&actor.who);
                }
                if op.access.kind != Kind::Write && !region.is_valid(offset, size) {
                    found.push((lane, Fault::Uninitialized, None));
                }
                if let Some(conflict) = region.shadow.access(offset, size, length, &actor, &op.access) {
                    // Two threads that write the same value change nothing.
                    let both_write = op.access.kind == Kind::Write && conflict.what == WRITES;
                    if !both_write || !stores_same(op, &region.data, &warp.registers, lane, offset) {
                        found.push((lane, Fault::Race, Some(conflict)));
                    }
                }
            }
            if !loads {
                transfer(op, &mut region.data, &mut warp.registers, lane, offset);
                region.set_valid(offset, size);
            }
        }
        if loads {
            transfer_all(op, &mut region.data, &mut warp.registers, mask, offsets);
        }
        if op.access.kind == Kind::Atomic {
            self.statistics.atomics += mask.count_ones() as u64;
        }
        for (lane, fault, conflict) in found {
            let detail = self.detail(request, place, offsets[lane], conflict);
            let report = self.report(fault, self.who(at.0, at.1, lane), pc, detail);
            self.note(report);
        }
    }

    fn detail(&self, request: &Request, place: Place, offset: usize, conflict: Option<Conflict>) -> String {
        let memory = match place {
            Place::Global(i) => {
                format!("offset {offset} of {} bytes in global memory", self.memory.allocations[i].bytes)
            }
            Place::Shared(_) => {
                let name = self.variable(offset).map_or("dynamic shared memory", |v| &v.name);
                format!("offset {offset} of shared memory, in {name}")
            }
        };
        let Some(conflict) = conflict else {
            return format!("{} of {} bytes at {memory}, which nothing wrote", verb(request.op), request.size);
        };
        let other = self.describe(conflict.other, conflict.written_at);
        let others = if conflict.scope == Scope::Thread { "" } else { " and others" };
        format!("{} at {memory}, not ordered with {other}{others}", conflict.what)
    }

    /// Releases and acquires of a strong access: what was known to be over travels with the value.
    fn synchronize(&mut self, request: &Request, warp: &Warp, mask: u32, offsets: &[usize; LANES], place: Place) {
        let Place::Global(i) = place else { return };
        let (start, op) = (self.memory.allocations[i].start, request.op);
        for lane in lanes(mask) {
            let (who, address) = (self.who(request.at.0, request.at.1, lane), start + offsets[lane] as u64);
            let block = &mut self.blocks[request.at.0];
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
                let until = if op.release { self.memory.now } else { fenced.max(block.barrier) };
                released.threads.insert(who, until);
            }
        }
    }
}
