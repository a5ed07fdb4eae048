//! The state of a block at its start: registers with constants, empty shared memory.

use super::launch::Launch;
use super::memory::{Region, address};
use super::registers::{ALL, LANES, Registers};
use super::warp::Warp;
use super::{Block, Machine};
use crate::decode::Constant;

/// A warp, for the special registers of its threads.
pub struct Place<'a> {
    launch: &'a Launch,
    block: [u32; 3],
    warp: usize,
    /// The block's in its cluster.
    rank: u32,
    /// The address of the grid barrier of a cooperative launch.
    workspace: u64,
}

/// The value of a lane along each axis, or three times the same one.
pub type Special = fn(&Place, usize) -> [u32; 3];

/// Special registers (10), without the `.x` of those that have axes.
pub fn special(name: &str) -> Option<Special> {
    Some(match name {
        "%tid" => |p, lane| p.launch.thread_id((p.warp * LANES + lane) as u32),
        "%ntid" => |p, _| p.launch.block,
        "%ctaid" => |p, _| p.block,
        "%nctaid" => |p, _| p.launch.grid,
        "%cluster_ctarank" => |p, _| [p.rank; 3],
        "%cluster_nctarank" => |p, _| [p.launch.cluster_blocks(); 3],
        "%envreg1" => |p, _| [(p.workspace >> 32) as u32; 3],
        "%envreg2" => |p, _| [p.workspace as u32; 3],
        _ => return None,
    })
}

impl Machine<'_> {
    /// Makes the blocks that run together; `start` uses them again and again.
    pub(super) fn prepare(&mut self, together: usize) {
        let warps = self.launch.block.iter().product::<u32>().div_ceil(32);
        let warp = || Warp { local: vec![0xa5; self.kernel.local_bytes * LANES], ..Warp::default() };
        let dynamic = self.kernel.shared_bytes.next_multiple_of(self.kernel.dynamic_align);
        for block in 0..together as u32 {
            let fresh = self.constant_registers(block % self.launch.cluster_blocks(), dynamic as u64);
            self.shared.push(Region::new(dynamic + self.launch.dynamic_shared));
            self.blocks.push(Block { warps: (0..warps).map(|_| warp()).collect(), fresh, ..Block::default() });
        }
    }

    /// The registers of a warp of any block of this rank: what holds for the whole launch is set.
    fn constant_registers(&self, rank: u32, dynamic: u64) -> Registers {
        let mut registers = Registers::new(self.kernel.units, self.kernel.predicates);
        let window = (rank as u64) << address::RANK_SHIFT;
        for (register, constant) in &self.kernel.constants {
            let value = match *constant {
                Constant::Number(number) => number,
                Constant::Shared(offset) => window + offset,
                Constant::DynamicShared(offset) => window + dynamic + offset,
                Constant::Variable(i, offset) => self.variables[i] + offset,
                Constant::Special(..) => continue,
            };
            register.fill(&mut registers, |_| value);
        }
        registers
    }

    /// The registers of a warp that begins, of one that has ended if there is any: few are in use at
    /// a time, and stay in the cache.
    pub(super) fn registers(&mut self, block: usize, warp: usize) -> Registers {
        let block = &mut self.blocks[block];
        let mut registers = block.spare.pop().unwrap_or_else(|| block.fresh.clone());
        let rank = block.number % self.launch.cluster_blocks();
        let place = Place { launch: self.launch, block: block.id, warp, rank, workspace: self.workspace };
        for (register, constant) in &self.kernel.constants {
            if let Constant::Special(special, axis) = *constant {
                register.fill(&mut registers, |lane| special(&place, lane)[axis] as u64);
            }
        }
        registers
    }

    /// The blocks from number `first` on begin.
    pub(super) fn start(&mut self, first: u32) {
        let now = self.tick();
        let threads: u32 = self.launch.block.iter().product();
        self.blocks_began = now;
        self.shared.iter_mut().for_each(Region::invalidate);
        for (block, number) in self.blocks.iter_mut().zip(first..) {
            (block.number, block.id) = (number, self.launch.block_id(number));
            (block.barrier, block.published) = (now, now);
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
            }
        }
    }
}
