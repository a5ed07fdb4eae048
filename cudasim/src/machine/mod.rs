//! The machine that executes a launch: blocks of warps of 32 lanes, each lane with a program
//! counter of its own (independent thread scheduling), and the memory they share.

pub mod access;
pub mod address;
pub mod barrier;
pub mod collective;
pub mod launch;
pub mod memory;
pub mod race;
mod region;
pub mod registers;
pub mod report;
mod schedule;
mod setup;
pub mod statistics;
mod transfer;
pub mod warp;

use crate::decode::Kernel;
use launch::{Launch, Options};
use memory::{Memory, Region};
use race::Known;
use report::{Fault, Report};
use statistics::Statistics;
use std::collections::HashMap;
use warp::Warp;

/// A block while it runs.
#[derive(Default)]
pub struct Block {
    pub id: [u32; 3],
    /// Over the whole launch, blocks of a cluster next to each other.
    pub number: u32,
    /// The last barrier that the whole block passed, and the one before.
    pub barrier: u64,
    pub barrier_before: u64,
    pub cluster_barrier: u64,
    /// Arrivals at the named barriers by `bar.arrive`.
    pub arrived: [u32; 16],
    pub known: Known,
    /// What single threads acquired since the last barrier.
    pub acquired: HashMap<u32, Known>,
    pub warps: Vec<Warp>,
}

/// A launch in progress.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    pub memory: &'a mut Memory,
    pub variables: &'a [u64],
    pub launch: &'a Launch,
    pub options: &'a Options,
    /// The time at which it began.
    pub began: u64,
    /// The time at which the blocks began that run now: their shared memory has no older history.
    pub blocks_began: u64,
    /// Those that run at the same time: a cluster, or all of a cooperative launch.
    pub blocks: Vec<Block>,
    /// Their shared memory.
    pub shared: Vec<Region>,
    /// The grid barrier of a cooperative launch, or 0.
    pub workspace: u64,
    /// What was released at an address, for who reads it later.
    pub released: HashMap<u64, Known>,
    pub params: Vec<u8>,
    pub reports: Vec<Report>,
    pub statistics: Statistics,
    /// The instructions that were executed at least once.
    pub covered: Vec<bool>,
    random: u64,
    /// Whether a barrier may be complete.
    barriers_changed: bool,
    relaxed_arrival: bool,
}

impl Machine<'_> {
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

    fn threads(&self) -> u32 {
        self.launch.block.iter().product()
    }

    /// The number of a thread over the whole launch.
    fn who(&self, block: usize, warp: usize, lane: usize) -> u32 {
        self.blocks[block].number << race::THREAD_BITS | (warp * 32 + lane) as u32
    }

    fn thread_id(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.launch.block;
        [thread % x, thread / x % y, thread / x / y]
    }

    /// `block (1,0,0) thread (40,0,0)`, and the line of its instruction where that is known.
    fn describe(&self, who: u32, pc: Option<u32>) -> String {
        let block = self.launch.block_id(race::block_of(who));
        let thread = self.thread_id(who & ((1 << race::THREAD_BITS) - 1));
        let source = pc.and_then(|pc| self.source(pc));
        let at = source.map_or(String::new(), |(file, line)| format!(" at {file}:{line}"));
        format!("block {block:?} thread {thread:?}{at}")
    }

    fn source(&self, pc: u32) -> Option<(String, u32)> {
        let (file, line) = self.kernel.code[pc as usize].source;
        let name = self.kernel.files.get(&file)?;
        Some((name.clone(), line))
    }

    fn report(&self, fault: Fault, who: u32, pc: u32, detail: String) -> Report {
        Report {
            fault,
            kernel: self.kernel.name.clone(),
            block: self.launch.block_id(race::block_of(who)),
            thread: self.thread_id(who & ((1 << race::THREAD_BITS) - 1)),
            source: self.source(pc),
            ptx_line: self.kernel.code[pc as usize].ptx_line,
            detail,
        }
    }

    /// Keeps a report that the launch survives: the first of its kind at its line.
    fn note(&mut self, report: Report) {
        let same = |r: &Report| (r.fault, r.ptx_line) == (report.fault, report.ptx_line);
        if !self.reports.iter().any(same) {
            self.reports.push(report);
        }
    }
}
