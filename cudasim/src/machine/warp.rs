//! A warp, and executing it: the lanes at one program counter run together until they diverge,
//! wait, or come to where others are.

use super::registers::{LANES, Registers, lanes};
use super::report::{Fault, Report};
use super::{Machine, Site};
use crate::isa::Action;

#[derive(Default)]
pub struct Warp {
    pub registers: Registers,
    pub pc: [u32; LANES],
    /// Lanes that exist, and those of them that have not exited.
    pub lanes: u32,
    pub live: u32,
    /// Lanes that wait, for others of the warp, of the block, of the cluster.
    pub at_collective: u32,
    pub at_barrier: u32,
    pub at_cluster: u32,
    /// Arrived at the cluster barrier and not waiting yet; and past it already.
    pub cluster_arrived: u32,
    pub cluster_passed: u32,
    /// The knowledge that each lane released to the cluster: last, at its last arrival, and of its own
    /// at the cluster's last barrier.
    pub released: [Released; LANES],
    pub shown: [Released; LANES],
    pub published: [u64; LANES],
    /// When a lane last passed a `bar.warp.sync`.
    pub synchronized: [u64; LANES],
    pub local: Vec<u8>,
}

/// Until when: what the thread did, and what its block did.
#[derive(Clone, Copy, Default)]
pub struct Released {
    pub of_thread: u64,
    pub of_block: u64,
}

impl Warp {
    pub fn runnable(&self) -> u32 {
        self.live & !(self.at_collective | self.at_barrier | self.at_cluster)
    }

    /// The lanes of `mask` go on at `pc`.
    pub fn go_on(&mut self, mask: u32, pc: u32) {
        for (lane, at) in self.pc.iter_mut().enumerate() {
            *at = if mask >> lane & 1 != 0 { pc } else { *at };
        }
    }
}

/// The lanes of `mask` whose program counter is `pc`.
fn at_pc(warp: &Warp, mask: u32, pc: u32) -> u32 {
    let equal = (0..LANES).fold(0, |m, l| m | ((warp.pc[l] == pc) as u32) << l);
    equal & mask
}

impl Machine<'_> {
    /// Runs a warp until it cannot go on, or for about `quantum` instructions.
    pub(super) fn run_warp(
        &mut self, block: usize, number: usize, warp: &mut Warp, quantum: u64,
    ) -> Result<(), Report> {
        let end = self.statistics.warp_instructions.saturating_add(quantum);
        let random = self.options.order == super::launch::Order::Random;
        while self.statistics.warp_instructions < end {
            let runnable = warp.runnable();
            if runnable == 0 {
                return Ok(());
            }
            let lowest = lanes(runnable).map(|l| warp.pc[l]).min().unwrap_or(0);
            let mut pc = lowest;
            if random && at_pc(warp, runnable, lowest) != runnable {
                let nth = self.random() % runnable.count_ones() as u64;
                pc = warp.pc[lanes(runnable).nth(nth as usize).unwrap_or(0)];
            }
            let group = at_pc(warp, runnable, pc);
            let others = runnable & !group;
            // Lowest first, up to the next higher: diverged lanes meet again where paths join.
            let (until, end) = if random && others != 0 {
                (u32::MAX, self.statistics.warp_instructions + 1 + self.random() % 16)
            } else {
                (lanes(others).map(|l| warp.pc[l]).min().unwrap_or(u32::MAX), end)
            };
            let site = Site { block, warp: number, pc };
            self.run_group(site, warp, group, until, end)?;
            if self.statistics.warp_instructions > self.options.budget {
                let detail = format!("still running after {} instructions", self.options.budget);
                let lane = group.trailing_zeros() as usize;
                return Err(self.report(Fault::Deadlock, site, lane, detail));
            }
        }
        Ok(())
    }

    /// Runs lanes that are at the same place until they are no longer, or reach `until`.
    fn run_group(&mut self, mut site: Site, warp: &mut Warp, group: u32, until: u32, end: u64) -> Result<(), Report> {
        let kernel = self.kernel;
        loop {
            let instruction = &kernel.code[site.pc as usize];
            let mask = match instruction.guard {
                None => group,
                Some(guard) => group & guard.mask(&warp.registers),
            };
            self.statistics.warp_instructions += 1;
            self.statistics.thread_instructions += mask.count_ones() as u64;
            let mut next = site.pc + 1;
            if mask != 0 {
                self.covered[site.pc as usize] = true;
                match &instruction.action {
                    Action::Lanes(op) => op.run(&mut warp.registers, mask),
                    Action::Memory(op) => self.memory(site, warp, op, mask)?,
                    Action::Branch(target) if mask == group => next = *target,
                    action => {
                        warp.go_on(group, next);
                        if self.step(site, warp, action, mask)? != group || mask != group {
                            return Ok(());
                        }
                    }
                }
            }
            site.pc = next;
            if next >= until || self.statistics.warp_instructions >= end {
                warp.go_on(group, next);
                return Ok(());
            }
        }
    }

    /// An instruction after which the lanes may part. Their program counters are at the next one;
    /// returns the lanes that go on there.
    fn step(&mut self, site: Site, warp: &mut Warp, action: &Action, mask: u32) -> Result<u32, Report> {
        match action {
            Action::Collective(op) => self.collective(site, warp, op, mask),
            Action::Barrier(op) => {
                let on = self.reach(site, warp, *op, mask)?;
                warp.go_on(mask & !on, site.pc);
                Ok(on)
            }
            Action::Branch(target) => {
                self.statistics.divergent_branches += 1;
                warp.go_on(mask, *target);
                Ok(0)
            }
            Action::Exit => {
                warp.live &= !mask;
                self.barriers_changed = true;
                Ok(0)
            }
            Action::Trap(why) => Err(self.report(Fault::Trap, site, mask.trailing_zeros() as usize, why.to_string())),
            Action::Lanes(_) | Action::Memory(_) | Action::Nothing => Ok(mask),
        }
    }
}
