//! Which block and which warp runs next.

use super::launch::{Launch, Options, Order, Outcome};
use super::race::THREAD_BITS;
use super::registers::lanes;
use super::report::{Fault, Report};
use super::Machine;

/// Instructions of a warp before another one of a cooperative launch has its turn: it may wait for
/// what the other does.
const TURN: u64 = 1000;

impl Machine<'_> {
    /// Executes all blocks, the resident ones together.
    pub fn run(mut self) -> Result<Outcome, Report> {
        let together = match self.launch.cooperative {
            true => self.launch.blocks() as u32,
            false => self.launch.cluster_blocks(),
        };
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
            let result = self.run_warp((block, warp), &mut running, quantum);
            self.blocks[block].warps[warp] = running;
            result?;
            if self.barriers_changed {
                self.release_barriers()?;
            }
        }
    }

    /// A warp that can go on. In a cooperative launch each has its turn.
    fn next_warp(&mut self, turn: &mut usize) -> Option<(usize, usize)> {
        let warps = self.blocks.first().map_or(0, |b| b.warps.len());
        let count = self.blocks.len() * warps;
        let runnable = |i: usize| self.blocks[i / warps].warps[i % warps].runnable() != 0;
        let found = match self.options.order {
            Order::Random => {
                let candidates: Vec<usize> = (0..count).filter(|i| runnable(*i)).collect();
                let nth = if candidates.len() > 1 { self.random() as usize % candidates.len() } else { 0 };
                candidates.get(nth).copied()
            }
            order => {
                let start = if self.launch.cooperative { *turn } else { 0 };
                let place = |i: usize| match order {
                    Order::Reverse => count - 1 - (start + i) % count,
                    _ => (start + i) % count,
                };
                let steps = (0..count).find(|i| runnable(place(*i)))?;
                *turn = start + steps + 1;
                Some(place(steps))
            }
        };
        found.map(|i| (i / warps, i % warps))
    }

    /// Nobody can go on: says who waits where.
    fn deadlock(&self) -> Report {
        let mut places: Vec<(u32, &str, u32, u32)> = Vec::new();
        for (b, block) in self.blocks.iter().enumerate() {
            for (w, warp) in block.warps.iter().enumerate() {
                for lane in lanes(warp.live) {
                    let what = match 1 << lane {
                        bit if warp.at_collective & bit != 0 => "lanes of their warp",
                        bit if warp.at_barrier & bit != 0 => "their block",
                        _ => "their cluster",
                    };
                    let (pc, who) = (warp.pc[lane], self.who(b, w, lane));
                    match places.iter_mut().find(|p| (p.0, p.1) == (pc, what)) {
                        Some(place) => place.3 += 1,
                        None => places.push((pc, what, who, 1)),
                    }
                }
            }
        }
        let describe = |(pc, what, who, count): &(u32, &str, u32, u32)| {
            format!("{count} threads wait for {what}, first {}", self.describe(*who, Some(*pc)))
        };
        let all: Vec<String> = places.iter().map(describe).collect();
        let (pc, _, who, _) = places[0];
        self.report(Fault::Deadlock, who, pc, all.join("; "))
    }
}

/// A machine for a launch, before its first block.
impl<'a> Machine<'a> {
    pub fn new(
        kernel: &'a crate::decode::Kernel,
        memory: &'a mut super::memory::Memory,
        variables: &'a [u64],
        launch: &'a Launch,
        options: &'a Options,
        params: Vec<u8>,
        workspace: u64,
    ) -> Self {
        debug_assert!(launch.block.iter().product::<u32>() <= 1 << THREAD_BITS);
        memory.now += 1;
        Machine {
            began: memory.now,
            blocks_began: memory.now,
            kernel,
            memory,
            variables,
            launch,
            options,
            blocks: Vec::new(),
            shared: Vec::new(),
            workspace,
            released: Default::default(),
            params,
            reports: Vec::new(),
            statistics: Default::default(),
            covered: vec![false; kernel.code.len()],
            random: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            barriers_changed: false,
            relaxed_arrival: false,
        }
    }
}
