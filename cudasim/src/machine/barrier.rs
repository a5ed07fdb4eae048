//! Barriers of a block (bar.sync and its kin) and of a cluster (barrier.cluster) (9.7.13).

use super::registers::{lanes, Register};
use super::report::{Fault, Report};
use super::warp::Warp;
use super::Machine;
use crate::isa::lanes::Predicate;
use crate::isa::Action;

#[derive(Clone, Copy, Debug)]
pub enum Joined {
    Count,
    All,
    Any,
}

#[derive(Clone, Copy, Debug)]
pub enum BarrierOp {
    /// `bar.sync`, and `bar.red`, which also joins a predicate of all threads.
    Wait {
        id: u32,
        threads: Option<u32>,
        joined: Option<(Joined, Register, Predicate)>,
    },
    Arrive {
        id: u32,
        threads: u32,
    },
    ClusterArrive {
        relaxed: bool,
    },
    ClusterWait,
}

impl Machine<'_> {
    /// Lanes `mask` reach a barrier. Returns those that go on at once.
    pub(super) fn reach(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &BarrierOp,
        mask: u32,
    ) -> Result<u32, Report> {
        self.barriers_changed = true;
        let first = mask.trailing_zeros() as usize;
        let fail = |machine: &Self, detail: &str| {
            Err(machine.report(Fault::Synchronization, machine.who(at.0, at.1, first), pc, detail.to_string()))
        };
        let of = |register: u32, warp: &Warp, lane| Register { index: register, bits: 32 }.get(&warp.registers, lane);
        match *op {
            BarrierOp::Wait { id, .. } => {
                for lane in lanes(mask) {
                    warp.barrier[lane] = of(id, warp, lane) as u8 & 15;
                }
                warp.at_barrier |= mask;
                Ok(0)
            }
            BarrierOp::Arrive { id, .. } => {
                for lane in lanes(mask) {
                    let id = of(id, warp, lane) as usize & 15;
                    self.blocks[at.0].arrived[id] += 1;
                }
                Ok(mask)
            }
            BarrierOp::ClusterArrive { relaxed } => {
                if warp.cluster_arrived & mask != 0 {
                    return fail(self, "barrier.cluster.arrive twice without a wait between");
                }
                self.relaxed_arrival |= relaxed;
                warp.cluster_arrived |= mask;
                Ok(mask)
            }
            BarrierOp::ClusterWait => {
                let passed = warp.cluster_passed & mask;
                warp.cluster_passed &= !passed;
                if mask & !passed & !warp.cluster_arrived != 0 {
                    return fail(self, "barrier.cluster.wait without arrive");
                }
                warp.at_cluster |= mask & !passed;
                Ok(passed)
            }
        }
    }

    /// Lets go on whom a complete barrier held; whether there was any.
    pub(super) fn release_barriers(&mut self) -> Result<bool, Report> {
        self.barriers_changed = false;
        let mut released = false;
        for block in 0..self.blocks.len() {
            let waiting = self.blocks[block].warps.iter().fold(0, |m, w| m | w.at_barrier);
            if waiting != 0 {
                for id in 0..16 {
                    released |= self.block_barrier(block, id)?;
                }
            }
        }
        let cluster = self.launch.cluster_blocks() as usize;
        for first in (0..self.blocks.len()).step_by(cluster) {
            released |= self.cluster_barrier(first..first + cluster);
        }
        Ok(released)
    }

    fn block_barrier(&mut self, block: usize, id: u8) -> Result<bool, Report> {
        // Who waits where; the count that the instruction gives.
        let (mut waiting, mut alive, mut expected) = (Vec::new(), 0, None);
        for (w, warp) in self.blocks[block].warps.iter().enumerate() {
            alive += warp.live.count_ones();
            for lane in lanes(warp.at_barrier).filter(|l| warp.barrier[*l] == id) {
                waiting.push((w, lane, warp.pc[lane]));
                if let Action::Barrier(BarrierOp::Wait { threads: Some(threads), .. }) =
                    self.kernel.code[warp.pc[lane] as usize].action
                {
                    expected = Some(Register { index: threads, bits: 32 }.get(&warp.registers, lane) as u32);
                }
            }
        }
        let arrived = if expected.is_some() { self.blocks[block].arrived[id as usize] } else { 0 };
        if waiting.is_empty() || (waiting.len() as u32 + arrived) < expected.unwrap_or(alive) {
            return Ok(false);
        }
        let (first_warp, first_lane, first_pc) = waiting[0];
        let other = waiting.iter().find(|(w, _, pc)| *pc != first_pc && (expected.is_none() || *w == first_warp));
        if let Some((warp, lane, pc)) = other {
            let there = self.describe(self.who(block, first_warp, first_lane), Some(first_pc));
            let detail = format!("barrier {id} is reached here, and at another place by {there}");
            return Err(self.report(Fault::Synchronization, self.who(block, *warp, *lane), *pc, detail));
        }
        self.join(block, &waiting);
        let now = self.tick();
        let block = &mut self.blocks[block];
        (block.barrier_before, block.barrier) = (block.barrier, now);
        block.arrived[id as usize] = 0;
        for (_, acquired) in std::mem::take(&mut block.acquired) {
            block.known.merge(&acquired);
        }
        for (warp, lane, pc) in waiting {
            block.warps[warp].at_barrier &= !(1 << lane);
            block.warps[warp].pc[lane] = pc + 1;
        }
        self.statistics.barriers += 1;
        Ok(true)
    }

    /// `bar.red`: gives every thread the predicates of all.
    fn join(&mut self, block: usize, waiting: &[(usize, usize, u32)]) {
        let code = &self.kernel.code;
        let joined = |pc: u32| match code[pc as usize].action {
            Action::Barrier(BarrierOp::Wait { joined, .. }) => joined,
            _ => None,
        };
        let warps = &mut self.blocks[block].warps;
        let holds = waiting
            .iter()
            .filter(|(w, lane, pc)| joined(*pc).is_some_and(|(_, _, p)| p.mask(&warps[*w].registers) >> lane & 1 != 0));
        let count = holds.count();
        for (w, lane, pc) in waiting {
            if let Some((how, d, _)) = joined(*pc) {
                let value = match how {
                    Joined::Count => count,
                    Joined::All => (count == waiting.len()) as usize,
                    Joined::Any => (count > 0) as usize,
                };
                d.set(&mut warps[*w].registers, *lane, value as u64);
            }
        }
    }

    /// The blocks of one cluster.
    fn cluster_barrier(&mut self, blocks: std::ops::Range<usize>) -> bool {
        let warps = || self.blocks[blocks.clone()].iter().flat_map(|b| &b.warps);
        let live: u32 = warps().map(|w| w.live.count_ones()).sum();
        let arrived: u32 = warps().map(|w| (w.cluster_arrived & w.live).count_ones()).sum();
        if arrived == 0 || arrived < live {
            return false;
        }
        let now = self.tick();
        for block in &mut self.blocks[blocks] {
            if !self.relaxed_arrival {
                (block.barrier, block.cluster_barrier) = (now, now);
            }
            for warp in &mut block.warps {
                // Those that wait go on; the others will not have to.
                warp.cluster_passed |= warp.cluster_arrived & !warp.at_cluster;
                warp.cluster_arrived = 0;
                lanes(warp.at_cluster).for_each(|l| warp.pc[l] += 1);
                warp.at_cluster = 0;
            }
        }
        self.relaxed_arrival = false;
        self.statistics.barriers += 1;
        true
    }
}
