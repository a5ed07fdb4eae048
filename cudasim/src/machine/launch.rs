//! The request of a launch, and the limits of the device.

use super::race::{THREAD_BITS, block_of};
use super::report::Report;
use super::statistics::Statistics;
use crate::decode::Kernel;

/// Grid, block and the rest of a launch's configuration.
#[derive(Clone, Debug)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub dynamic_shared: usize,
    /// All blocks are resident together, and may wait for each other.
    pub cooperative: bool,
}

impl Launch {
    pub fn new(grid: [u32; 3], block: [u32; 3]) -> Self {
        Self { grid, block, cluster: [1; 3], dynamic_shared: 0, cooperative: false }
    }

    pub fn cluster_blocks(&self) -> u32 {
        self.cluster.iter().product()
    }

    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|n| *n as u64).product()
    }

    /// Clusters along each axis.
    pub fn clusters(&self) -> [u32; 3] {
        std::array::from_fn(|i| self.grid[i] / self.cluster[i])
    }

    /// The position in the grid of the block with a number. Blocks of a cluster have consecutive numbers.
    pub fn block_id(&self, number: u32) -> [u32; 3] {
        let size = self.cluster_blocks();
        let split = |n: u32, [x, y, _]: [u32; 3]| [n % x, n / x % y, n / x / y];
        let cluster = split(number / size, self.clusters());
        let inside = split(number % size, self.cluster);
        std::array::from_fn(|i| cluster[i] * self.cluster[i] + inside[i])
    }

    /// The block of a thread of the launch, and the thread's place in it.
    pub fn thread(&self, who: u32) -> ([u32; 3], [u32; 3]) {
        (self.block_id(block_of(who)), self.thread_id(who & ((1 << THREAD_BITS) - 1)))
    }

    /// The position in its block of the thread with a number.
    pub fn thread_id(&self, number: u32) -> [u32; 3] {
        let [x, y, _] = self.block;
        [number % x, number / x % y, number / x / y]
    }
}

/// The order in which runnable warps and lanes go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// The first one, until it waits.
    #[default]
    Forward,
    /// The last one.
    Reverse,
    /// A random one for a random while, and lanes that diverged in a random order.
    Random,
}

impl Order {
    pub const ALL: [Order; 3] = [Order::Forward, Order::Reverse, Order::Random];
}

#[derive(Clone, Debug)]
pub struct Options {
    pub order: Order,
    pub seed: u64,
    /// 90 for `sm_90`.
    pub compute_capability: u32,
    /// Races, uninitialised reads.
    pub checks: bool,
    /// Sectors and shared-memory waves; instructions are always counted.
    pub memory_statistics: bool,
    /// Warp instructions after which a launch counts as hung.
    pub budget: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            order: Order::Forward,
            seed: 1,
            compute_capability: 90,
            checks: true,
            memory_statistics: false,
            budget: 2_000_000_000,
        }
    }
}

/// Shared memory of a block at most, `cudaDevAttrMaxSharedMemoryPerBlockOptin`.
pub fn max_shared(compute_capability: u32) -> usize {
    match compute_capability {
        120.. => 99 << 10,
        90.. => 227 << 10,
        80 | 87 => 163 << 10,
        81.. => 99 << 10,
        _ => 64 << 10,
    }
}

/// The results of a launch besides memory.
#[derive(Debug)]
pub struct Outcome {
    pub statistics: Statistics,
    /// Races and uninitialised reads, one of a kind for each line.
    pub reports: Vec<Report>,
    pub covered: Vec<bool>,
}

/// Refuses what a driver refuses.
pub fn check(kernel: &Kernel, launch: &Launch, options: &Options) -> Result<(), Report> {
    let Launch { grid, block, cluster, .. } = launch;
    let threads: u64 = block.iter().map(|n| *n as u64).product();
    let shared = kernel.shared_bytes + launch.dynamic_shared;
    let size = launch.cluster_blocks();
    let divides = (0..3).all(|i| cluster[i] > 0 && grid[i].is_multiple_of(cluster[i]));
    let differs = |required: Option<[u32; 3]>, is: &[u32; 3]| required.is_some_and(|required| required != *is);
    let refused = match () {
        _ if threads == 0 || threads > 1024 || block[2] > 64 => format!("blocks of {block:?} threads"),
        _ if launch.blocks() == 0 || grid[1] > 65535 || grid[2] > 65535 => format!("a grid of {grid:?} blocks"),
        _ if launch.blocks() > 1 << 22 => format!("unsupported: {} blocks, more than 4194304", launch.blocks()),
        _ if kernel.max_threads.is_some_and(|max| threads > max as u64) => {
            format!("{threads} threads, more than its launch bounds")
        }
        _ if differs(kernel.required_threads, block) => format!("blocks of {block:?}, not what it requires"),
        _ if differs(kernel.required_cluster, cluster) => format!("clusters of {cluster:?}, not what it requires"),
        _ if !divides || size > 8 || size > 1 && options.compute_capability < 90 => {
            format!("clusters of {cluster:?} in a grid of {grid:?}")
        }
        _ if shared > max_shared(options.compute_capability) => format!("{shared} bytes of shared memory"),
        _ if launch.cooperative && launch.blocks() > resident(kernel, threads as usize, launch, options) => {
            format!("{} blocks that cannot all be resident", launch.blocks())
        }
        _ => return Ok(()),
    };
    Err(Report::launch(&kernel.name, refused))
}

/// Multiprocessors of the device, as an H100 has.
pub const MULTIPROCESSORS: u64 = 132;

/// Blocks that can be resident together: by threads and shared memory, not by registers.
fn resident(kernel: &Kernel, threads: usize, launch: &Launch, options: &Options) -> u64 {
    MULTIPROCESSORS * per_multiprocessor(kernel, threads, launch.dynamic_shared, options) as u64
}

pub fn per_multiprocessor(kernel: &Kernel, threads: usize, dynamic_shared: usize, options: &Options) -> usize {
    let by_shared = (max_shared(options.compute_capability) + 1024) / (kernel.shared_bytes + dynamic_shared + 1024);
    by_shared.min(2048 / threads.next_multiple_of(32)).min(32)
}
