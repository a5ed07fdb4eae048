//! The schedule: the block and the warp that run next.

use super::launch::{Order, Outcome};
use super::registers::lanes;
use super::report::{Fault, Report};
use super::{Machine, Site};

/// Instructions of a warp before another one of a cooperative launch has its turn: it may wait for
/// what the other does.
const TURN: u64 = 1000;

impl Machine<'_> {
    /// Executes all blocks, the resident ones together.
    pub fn run(mut self) -> Result<Outcome, Report> {
        let together = if self.launch.cooperative { self.launch.blocks() as u32 } else { self.launch.cluster_blocks() };
        let mut order: Vec<u32> = (0..self.launch.blocks() as u32 / together).collect();
        match self.options.order {
            Order::Forward => {}
            Order::Reverse => order.reverse(),
            Order::Random => {
                for i in (1..order.len()).rev() {
                    let j = self.random() % (i as u64 + 1);
                    order.swap(i, j as usize);
                }
            }
        }
        self.prepare(together as usize);
        for number in order {
            self.start(number * together);
            self.run_together()?;
        }
        Ok(Outcome { statistics: self.statistics, reports: self.reports, covered: self.covered })
    }

    fn run_together(&mut self) -> Result<(), Report> {
        let mut turn = 0;
        loop {
            let Some((block, warp)) = self.next_warp(&mut turn) else {
                if self.blocks.iter().flat_map(|b| &b.warps).all(|w| w.live == 0) {
                    return Ok(());
                }
                if !self.release_barriers()? {
                    return Err(self.deadlock());
                }
                continue;
            };
            let quantum = match self.options.order {
                Order::Random => 1 + self.random() % 64,
                _ if self.launch.cooperative => TURN,
                _ => u64::MAX,
            };
            let mut running = std::mem::take(&mut self.blocks[block].warps[warp]);
            if running.registers.is_empty() {
                running.registers = self.registers(block, warp);
            }
            let result = self.run_warp(block, warp, &mut running, quantum);
            if running.live == 0 {
                self.blocks[block].spare.push(std::mem::take(&mut running.registers));
            }
            self.blocks[block].warps[warp] = running;
            result?;
            if self.barriers_changed {
                self.release_barriers()?;
            }
        }
    }

    /// A warp that can go on: the next in turn, or one at a random place.
    fn next_warp(&mut self, turn: &mut usize) -> Option<(usize, usize)> {
        let warps = self.blocks[0].warps.len();
        let count = self.blocks.len() * warps;
        if self.options.order == Order::Random {
            *turn = self.random() as usize % count;
        }
        let last = if self.options.order == Order::Reverse { count - 1 } else { 0 };
        let place = |i: usize| last.abs_diff(i % count);
        let runnable = |i: usize| self.blocks[i / warps].warps[i % warps].runnable() != 0;
        let i = (*turn..*turn + count).find(|i| runnable(place(*i)))?;
        *turn = i + 1;
        Some((place(i) / warps, place(i) % warps))
    }

    /// Nobody can go on: says who waits where.
    fn deadlock(&self) -> Report {
        let mut places: Vec<(Site, &str, usize, u32)> = Vec::new();
        for (b, block) in self.blocks.iter().enumerate() {
            for (w, warp) in block.warps.iter().enumerate() {
                for lane in lanes(warp.live) {
                    let what = match 1 << lane {
                        bit if warp.at_collective & bit != 0 => "lanes of their warp",
                        bit if warp.at_barrier & bit != 0 => "their block",
                        _ => "their cluster",
                    };
                    let site = Site { block: b, warp: w, pc: warp.pc[lane] };
                    match places.iter_mut().find(|p| (p.0.pc, p.1) == (site.pc, what)) {
                        Some(place) => place.3 += 1,
                        None => places.push((site, what, lane, 1)),
                    }
                }
            }
        }
        let describe = |(site, what, lane, count): &(Site, &str, usize, u32)| {
            let first = self.describe(self.who(*site, *lane), Some(site.pc));
            format!("{count} threads wait for {what}, first {first}")
        };
        let all: Vec<String> = places.iter().map(describe).collect();
        self.report(Fault::Deadlock, places[0].0, places[0].2, all.join("; "))
    }
}
