//! Barriers of a block (`bar.sync 0`) and of a cluster (9.7.13).
//!
//! For the other blocks of a cluster, the accesses that a thread released before it arrived at the
//! barrier are ordered: by the arrival, or by a fence if that is relaxed. A release covers the accesses
//! of the thread, and those of its block before the block's last barrier (8.9).

use super::registers::lanes;
use super::report::{Fault, Report};
use super::warp::{Released, Warp};
use super::{Machine, Site};

#[derive(Clone, Copy, Debug)]
pub enum BarrierOp {
    Block,
    /// `fence.acq_rel.cluster`. As an acquire it is of no use: the wait of a cluster's barrier is one.
    Release,
    ClusterArrive {
        releases: bool,
    },
    ClusterWait,
}

impl Machine<'_> {
    /// Lanes `mask` reach a barrier. Returns those that go on at once.
    pub(super) fn reach(&mut self, site: Site, warp: &mut Warp, op: BarrierOp, mask: u32) -> Result<u32, Report> {
        self.barriers_changed = true;
        let fail = |machine: &Self, detail: &str| {
            let first = mask.trailing_zeros() as usize;
            Err(machine.report(Fault::Synchronization, site, first, detail.to_string()))
        };
        match op {
            BarrierOp::Block => {
                warp.at_barrier |= mask;
                Ok(0)
            }
            BarrierOp::Release => {
                self.release(site, warp, mask);
                Ok(mask)
            }
            BarrierOp::ClusterArrive { releases } => {
                if warp.cluster_arrived & mask != 0 {
                    return fail(self, "barrier.cluster.arrive twice without a wait between");
                }
                warp.cluster_arrived |= mask;
                if releases {
                    self.release(site, warp, mask);
                }
                lanes(mask).for_each(|l| warp.shown[l] = warp.released[l]);
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

    fn release(&mut self, site: Site, warp: &mut Warp, mask: u32) {
        let now = self.tick();
        let of_block = self.blocks[site.block].barrier;
        lanes(mask).for_each(|l| warp.released[l] = Released { of_thread: now, of_block });
    }

    /// Lets go on whom a complete barrier held; whether there was any.
    pub(super) fn release_barriers(&mut self) -> Result<bool, Report> {
        self.barriers_changed = false;
        let mut released = false;
        for block in 0..self.blocks.len() {
            released |= self.block_barrier(block)?;
        }
        let cluster = self.launch.cluster_blocks() as usize;
        for first in (0..self.blocks.len()).step_by(cluster) {
            released |= self.cluster_barrier(first..first + cluster);
        }
        Ok(released)
    }

    fn block_barrier(&mut self, block: usize) -> Result<bool, Report> {
        let warps = &self.blocks[block].warps;
        if warps.iter().any(|w| w.at_barrier != w.live) || warps.iter().all(|w| w.live == 0) {
            return Ok(false);
        }
        let mut places = warps
            .iter()
            .enumerate()
            .flat_map(|(warp, w)| lanes(w.at_barrier).map(move |lane| (Site { block, warp, pc: w.pc[lane] }, lane)));
        let first = places.next();
        let other = first.and_then(|(first, _)| places.find(|(site, _)| site.pc != first.pc));
        if let (Some((there, first)), Some((site, lane))) = (first, other) {
            let there = self.describe(self.who(there, first), Some(there.pc));
            let detail = format!("the barrier is reached here, and at another place by {there}");
            return Err(self.report(Fault::Synchronization, site, lane, detail));
        }
        let now = self.tick();
        let block = &mut self.blocks[block];
        block.barrier = now;
        for (_, acquired) in std::mem::take(&mut block.acquired) {
            block.known.merge(&acquired);
        }
        for warp in &mut block.warps {
            lanes(warp.at_barrier).for_each(|l| warp.pc[l] += 1);
            warp.at_barrier = 0;
        }
        self.statistics.barriers += 1;
        Ok(true)
    }

    /// The blocks of one cluster.
    fn cluster_barrier(&mut self, blocks: std::ops::Range<usize>) -> bool {
        let warps = || self.blocks[blocks.clone()].iter().flat_map(|b| &b.warps);
        if warps().any(|w| w.live & !w.cluster_arrived != 0) || warps().all(|w| w.cluster_arrived == 0) {
            return false;
        }
        let now = self.tick();
        for block in &mut self.blocks[blocks] {
            block.barrier = now;
            for warp in &mut block.warps {
                let of_block = lanes(warp.cluster_arrived).map(|l| warp.shown[l].of_block).max();
                block.published = block.published.max(of_block.unwrap_or(0));
                lanes(warp.cluster_arrived).for_each(|l| warp.published[l] = warp.shown[l].of_thread);
                // Waiting lanes go on; lanes that have only arrived will not have to wait.
                warp.cluster_passed |= warp.cluster_arrived & !warp.at_cluster;
                warp.cluster_arrived = 0;
                lanes(warp.at_cluster).for_each(|l| warp.pc[l] += 1);
                warp.at_cluster = 0;
            }
        }
        self.statistics.barriers += 1;
        true
    }
}
