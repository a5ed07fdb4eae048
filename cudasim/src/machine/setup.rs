//! What a block finds when it starts: registers with constants, empty shared memory.

use super::memory::Region;
use super::registers::{Register, Registers, ALL, LANES};
use super::warp::Warp;
use super::{address, launch, Block, Machine};
use crate::decode::Constant;
use crate::ptx::types::Special;

impl Machine<'_> {
    /// Makes the blocks that run together; `start` uses them again and again.
    pub(super) fn prepare(&mut self, together: usize) {
        let warps = self.threads().div_ceil(32);
        let kernel = self.kernel;
        let bytes = match kernel.dynamic_align {
            Some(_) => self.dynamic_offset() + self.launch.dynamic_shared,
            None => kernel.shared_bytes + self.launch.dynamic_shared,
        };
        let warp = || Warp {
            registers: Registers::new(kernel.units, kernel.predicates),
            local: vec![0xa5; kernel.local_bytes * LANES],
            ..Warp::default()
        };
        for number in 0..together {
            self.shared.push(Region::new(bytes));
            self.blocks.push(Block {
                number: number as u32,
                id: self.launch.block_id(number as u32),
                warps: (0..warps).map(|_| warp()).collect(),
                ..Block::default()
            });
            for warp in 0..warps as usize {
                self.set_constants(number, warp, |_| true);
            }
        }
    }

    /// Where `extern __shared__` begins.
    fn dynamic_offset(&self) -> usize {
        let align = self.kernel.dynamic_align.unwrap_or(16);
        self.kernel.shared_bytes.next_multiple_of(align)
    }

    /// The blocks from number `first` on begin.
    pub(super) fn start(&mut self, first: u32) {
        let now = self.tick();
        let threads = self.threads();
        self.relaxed_arrival = false;
        self.blocks_began = now;
        for i in 0..self.blocks.len() {
            self.shared[i].invalidate();
            let number = first + i as u32;
            let id = self.launch.block_id(number);
            let block = &mut self.blocks[i];
            (block.number, block.id) = (number, id);
            (block.barrier, block.barrier_before, block.cluster_barrier) = (now, now, now);
            block.arrived = [0; 16];
            block.known = Default::default();
            block.acquired.clear();
            for (w, warp) in block.warps.iter_mut().enumerate() {
                let count = (threads - w as u32 * 32).min(32);
                warp.lanes = ALL >> (32 - count);
                warp.live = warp.lanes;
                warp.pc = [0; LANES];
                (warp.at_collective, warp.at_barrier, warp.at_cluster) = (0, 0, 0);
                (warp.cluster_arrived, warp.cluster_passed) = (0, 0);
                // Lanes that do not exist hold nobody up.
                warp.synchronized = std::array::from_fn(|l| if (l as u32) < count { now } else { u64::MAX });
                warp.fenced = [0; LANES];
            }
            let per_block = |constant: Constant| {
                use Special::*;
                matches!(constant, Constant::Special(Ctaid(_) | Clusterid(_) | ClusterCtaid(_)))
            };
            for warp in 0..self.blocks[i].warps.len() {
                self.set_constants(i, warp, per_block);
            }
        }
    }

    fn set_constants(&mut self, block: usize, warp: usize, which: impl Fn(Constant) -> bool) {
        let kernel = self.kernel;
        let mut registers = std::mem::take(&mut self.blocks[block].warps[warp].registers);
        for (register, constant, add) in kernel.constants.iter().filter(|c| which(c.1)) {
            let value = |lane| self.constant(block, warp, lane, *constant, *register).wrapping_add(*add);
            let values: [u64; LANES] = std::array::from_fn(value);
            for (lane, value) in values.into_iter().enumerate() {
                register.set(&mut registers, lane, value);
            }
        }
        self.blocks[block].warps[warp].registers = registers;
    }

    fn constant(&self, block: usize, warp: usize, lane: usize, constant: Constant, register: Register) -> u64 {
        let rank = self.blocks[block].number % self.launch.cluster_blocks();
        let window = (rank as u64) << address::RANK_SHIFT;
        match constant {
            Constant::Number | Constant::Local | Constant::Param => 0,
            Constant::Shared => window,
            Constant::DynamicShared => window + self.dynamic_offset() as u64,
            Constant::Variable(i) => self.variables[i],
            Constant::LocalWindow => address::LOCAL + (((warp * LANES + lane) as u64) << address::LOCAL_SHIFT),
            Constant::Special(special) => self.special(block, warp, lane, special, register),
        }
    }

    /// Special registers (10).
    fn special(&self, block: usize, warp: usize, lane: usize, special: Special, register: Register) -> u64 {
        let (launch, id) = (self.launch, self.blocks[block].id);
        let rank = self.blocks[block].number % launch.cluster_blocks();
        let below = (1u32 << lane) - 1;
        let value = match special {
            Special::Tid(axis) => self.thread_id((warp * LANES + lane) as u32)[axis],
            Special::Ntid(axis) => launch.block[axis],
            Special::Ctaid(axis) => id[axis],
            Special::Nctaid(axis) => launch.grid[axis],
            Special::Clusterid(axis) => id[axis] / launch.cluster[axis],
            Special::Nclusterid(axis) => launch.clusters()[axis],
            Special::ClusterCtaid(axis) => id[axis] % launch.cluster[axis],
            Special::ClusterNctaid(axis) => launch.cluster[axis],
            Special::ClusterCtarank => rank,
            Special::ClusterNctarank => launch.cluster_blocks(),
            Special::IsExplicitCluster => (launch.cluster_blocks() > 1) as u32,
            Special::Laneid => lane as u32,
            Special::Warpid => warp as u32,
            Special::Nwarpid => self.threads().div_ceil(32),
            Special::Nsmid => launch::MULTIPROCESSORS as u32,
            Special::LanemaskEq => 1 << lane,
            Special::LanemaskLt => below,
            Special::LanemaskLe => below | 1 << lane,
            Special::LanemaskGt => !(below | 1 << lane),
            Special::LanemaskGe => !below,
            Special::DynamicSmemSize => launch.dynamic_shared as u32,
            Special::TotalSmemSize => (self.kernel.shared_bytes + launch.dynamic_shared) as u32,
            // There is no time here, and one multiprocessor and launch after another.
            Special::Clock | Special::Smid | Special::Gridid => 0,
            Special::Envreg(n) => {
                let shift = if n == 1 { 32 } else { 0 };
                return self.workspace >> shift & (!0 >> (64 - register.bits));
            }
        };
        value as u64
    }
}
