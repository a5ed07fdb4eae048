//! What a block finds when it starts: registers with constants, empty shared memory.

use super::launch::Launch;
use super::memory::{address, Region};
use super::registers::{Registers, ALL, LANES};
use super::warp::Warp;
use super::{Block, Machine};
use crate::decode::Constant;

/// A thread, for its special registers.
pub struct Thread<'a> {
    launch: &'a Launch,
    id: [u32; 3],
    block: [u32; 3],
    /// The block's in its cluster.
    rank: u32,
    /// Where a cooperative launch keeps its grid barrier.
    workspace: u64,
}

/// Along each axis, or three times the same.
pub type Special = fn(&Thread) -> [u32; 3];

/// Special registers (10), without the `.x` of those that have axes.
pub fn special(name: &str) -> Option<Special> {
    Some(match name {
        "%tid" => |t| t.id,
        "%ntid" => |t| t.launch.block,
        "%ctaid" => |t| t.block,
        "%nctaid" => |t| t.launch.grid,
        "%cluster_ctarank" => |t| [t.rank; 3],
        "%envreg1" => |t| [(t.workspace >> 32) as u32; 3],
        "%envreg2" => |t| [t.workspace as u32; 3],
        _ => return None,
    })
}

impl Machine<'_> {
    /// Makes the blocks that run together; `start` uses them again and again.
    pub(super) fn prepare(&mut self, together: usize) {
        let kernel = self.kernel;
        let warps = self.launch.block.iter().product::<u32>().div_ceil(32);
        let warp = || Warp {
            registers: Registers::new(kernel.units, kernel.predicates),
            local: vec![0xa5; kernel.local_bytes * LANES],
            ..Warp::default()
        };
        for _ in 0..together {
            let dynamic = kernel.shared_bytes.next_multiple_of(kernel.dynamic_align);
            self.shared.push(Region::new(dynamic + self.launch.dynamic_shared));
            self.blocks.push(Block { warps: (0..warps).map(|_| warp()).collect(), ..Block::default() });
        }
        self.set_constants(false);
    }

    /// The blocks from number `first` on begin.
    pub(super) fn start(&mut self, first: u32) {
        let now = self.tick();
        let threads: u32 = self.launch.block.iter().product();
        self.blocks_began = now;
        self.shared.iter_mut().for_each(Region::invalidate);
        for (block, number) in self.blocks.iter_mut().zip(first..) {
            (block.number, block.id) = (number, self.launch.block_id(number));
            (block.barrier, block.cluster_barrier) = (now, now);
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
        self.set_constants(true);
    }

    /// Sets the special registers, or what else stays the same.
    fn set_constants(&mut self, specials: bool) {
        for (b, block) in self.blocks.iter_mut().enumerate() {
            let (launch, workspace) = (self.launch, self.workspace);
            let rank = b as u32 % launch.cluster_blocks();
            let window = (rank as u64) << address::RANK_SHIFT;
            let dynamic = self.kernel.shared_bytes.next_multiple_of(self.kernel.dynamic_align) as u64;
            for (w, warp) in block.warps.iter_mut().enumerate() {
                for lane in 0..LANES {
                    let id = launch.thread_id((w * LANES + lane) as u32);
                    let thread = Thread { launch, id, block: block.id, rank, workspace };
                    for (register, constant) in &self.kernel.constants {
                        let value = match *constant {
                            Constant::Special(special, axis) if specials => special(&thread)[axis] as u64,
                            Constant::Number(number) if !specials => number,
                            Constant::Shared(offset) if !specials => window + offset,
                            Constant::DynamicShared(offset) if !specials => window + dynamic + offset,
                            Constant::Variable(i, offset) if !specials => self.variables[i] + offset,
                            _ => continue,
                        };
                        register.set(&mut warp.registers, lane, value);
                    }
                }
            }
        }
    }
}
