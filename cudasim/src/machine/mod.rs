//! The machine that executes a launch: blocks of warps of 32 lanes, each lane with a program
//! counter of its own (independent thread scheduling), and the memory they share.

pub mod access;
pub mod barrier;
pub mod collective;
pub mod launch;
pub mod memory;
pub mod race;
pub mod registers;
pub mod report;
mod schedule;
pub mod setup;
pub mod statistics;
mod transfer;
pub mod warp;

use crate::decode::Kernel;
use launch::{Launch, Options};
use memory::{Memory, Region};
use race::Known;
use registers::Registers;
use report::{Fault, Report};
use statistics::Statistics;
use std::collections::HashMap;
use warp::Warp;

/// The place of an executed instruction: the block, among the running ones, the warp in it, and the
/// address in the code.
#[derive(Clone, Copy)]
pub struct Site {
    pub block: usize,
    pub warp: usize,
    pub pc: u32,
}

impl Site {
    /// The number over the whole launch of a thread of block `number`.
    fn who(self, number: u32, lane: usize) -> u32 {
        number << race::THREAD_BITS | (self.warp * 32 + lane) as u32
    }
}

/// A block while it runs.
#[derive(Default)]
pub struct Block {
    pub id: [u32; 3],
    /// Over the whole launch, blocks of a cluster next to each other.
    pub number: u32,
    /// The last barrier that the whole block passed.
    pub barrier: u64,
    /// Until when the other blocks of the cluster know what this one did.
    pub published: u64,
    pub known: Known,
    /// The knowledge that single threads acquired since the last barrier.
    pub acquired: HashMap<u32, Known>,
    pub warps: Vec<Warp>,
    /// The initial registers of a warp, and the registers of warps that have ended.
    pub fresh: Registers,
    pub spare: Vec<Registers>,
}

/// A launch in progress.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    pub memory: &'a mut Memory,
    /// The addresses of the module's variables.
    pub variables: &'a [u64],
    pub launch: &'a Launch,
    pub options: &'a Options,
    /// The time at which it began.
    pub began: u64,
    /// The time at which the blocks began that run now: their shared memory has no older history.
    pub blocks_began: u64,
    /// The blocks that run at the same time: a cluster, or all of a cooperative launch.
    pub blocks: Vec<Block>,
    /// Their shared memory.
    pub shared: Vec<Region>,
    /// The grid barrier of a cooperative launch, or 0.
    pub workspace: u64,
    /// The knowledge released at an address, for later readers.
    pub released: HashMap<u64, Known>,
    pub params: Vec<u8>,
    pub reports: Vec<Report>,
    pub statistics: Statistics,
    /// The instructions that were executed at least once.
    pub covered: Vec<bool>,
    random: u64,
    /// True if a barrier may be complete.
    barriers_changed: bool,
}

impl<'a> Machine<'a> {
    pub fn new(
        kernel: &'a Kernel, memory: &'a mut Memory, variables: &'a [u64], launch: &'a Launch, options: &'a Options,
        params: Vec<u8>, workspace: u64,
    ) -> Self {
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
            released: HashMap::new(),
            params,
            reports: Vec::new(),
            statistics: Statistics::default(),
            covered: vec![false; kernel.code.len()],
            random: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            barriers_changed: false,
        }
    }

    /// A moment later.
    fn tick(&mut self) -> u64 {
        self.memory.now += 1;
        self.memory.now
    }

    /// xorshift64: the same seed gives the same schedule.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn who(&self, site: Site, lane: usize) -> u32 {
        site.who(self.blocks[site.block].number, lane)
    }

    /// `block [1, 0, 0] thread [40, 0, 0]`, and the line of its instruction where that is known.
    fn describe(&self, who: u32, pc: Option<u32>) -> String {
        let (block, thread) = self.launch.thread(who);
        let source = pc.and_then(|pc| self.kernel.source(pc));
        let at = source.map_or(String::new(), |(file, line)| format!(" at {file}:{line}"));
        format!("block {block:?} thread {thread:?}{at}")
    }

    fn report(&self, fault: Fault, site: Site, lane: usize, detail: String) -> Report {
        Report::new(fault, self.kernel, self.launch, self.who(site, lane), site.pc, detail)
    }

    /// Keeps a report that the launch survives: the first of its kind at its line.
    fn note(&mut self, report: Report) {
        let same = |r: &Report| (r.fault, r.ptx_line) == (report.fault, report.ptx_line);
        if !self.reports.iter().any(same) {
            self.reports.push(report);
        }
    }
}
