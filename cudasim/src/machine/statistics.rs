//! Counts that tell about performance without a clock.

use std::fmt;

#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Statistics {
    pub warp_instructions: u64,
    pub thread_instructions: u64,
    pub divergent_branches: u64,
    pub barriers: u64,
    pub atomics: u64,
    pub global_loads: Requests,
    pub global_stores: Requests,
    pub shared: Requests,
}

/// Memory instructions of a warp and what they cost: sectors of 32 bytes for global memory (4 for
/// 32 lanes that read floats side by side), waves for shared memory (1 without bank conflicts).
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Requests {
    pub count: u64,
    pub cost: u64,
}

impl Requests {
    fn add(&mut self, cost: usize) {
        self.count += 1;
        self.cost += cost as u64;
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} instructions of threads, {} of warps; ", self.thread_instructions, self.warp_instructions)?;
        let [load, store, shared] = [self.global_loads, self.global_stores, self.shared];
        write!(f, "{} sectors read in {} loads, ", load.cost, load.count)?;
        write!(f, "{} sectors written in {} stores; ", store.cost, store.count)?;
        write!(f, "{} waves in {} accesses to shared memory; ", shared.cost, shared.count)?;
        let Self { barriers, atomics, divergent_branches, .. } = self;
        write!(f, "{barriers} barriers, {atomics} atomics, {divergent_branches} divergent branches")
    }
}

impl Statistics {
    /// Counts an access to global memory: `size` bytes at each address.
    pub fn global(&mut self, writes: bool, addresses: impl Iterator<Item = u64>, size: usize) {
        let sectors = distinct(addresses, size, 32).len();
        let requests = if writes { &mut self.global_stores } else { &mut self.global_loads };
        requests.add(sectors);
    }

    /// Counts an access to shared memory, which has 32 banks of 4 bytes.
    pub fn shared(&mut self, addresses: impl Iterator<Item = u64>, size: usize) {
        let mut banks = [0; 32];
        for word in distinct(addresses, size, 4) {
            banks[word as usize % 32] += 1;
        }
        self.shared.add(banks.into_iter().max().unwrap_or(0));
    }
}

/// The units of `unit` bytes that accesses of `size` bytes touch.
fn distinct(addresses: impl Iterator<Item = u64>, size: usize, unit: u64) -> Vec<u64> {
    let touched = |a: u64| a / unit..=(a + size as u64 - 1) / unit;
    let mut units: Vec<u64> = addresses.flat_map(touched).collect();
    units.sort_unstable();
    units.dedup();
    units
}
