//! What a launch asks for, and what the device allows.

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

    /// Where the block of a number is in the grid. Blocks of a cluster have consecutive numbers.
    pub fn block_id(&self, number: u32) -> [u32; 3] {
        let size = self.cluster_blocks();
        let split = |n: u32, [x, y, _]: [u32; 3]| [n % x, n / x % y, n / x / y];
        let cluster = split(number / size, self.clusters());
        let inside = split(number % size, self.cluster);
        std::array::from_fn(|i| cluster[i] * self.cluster[i] + inside[i])
    }
}

/// Which of the runnable warps and lanes goes on.
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
        90.. => 227 << 10,
        80 => 163 << 10,
        81..=89 => 99 << 10,
        _ => 64 << 10,
    }
}

/// What a launch leaves behind besides memory.
#[derive(Debug)]
pub struct Outcome {
    pub statistics: Statistics,
    /// Races and uninitialised reads, one of a kind for each line.
    pub reports: Vec<Report>,
    pub covered: Vec<bool>,
}

/// Refuses what a driver refuses.
pub fn check(kernel: &Kernel, launch: &Launch, options: &Options) -> Result<(), Report> {
    let refuse = |detail: String| Err(Report::launch(&kernel.name, detail));
    let threads: u64 = launch.block.iter().map(|n| *n as u64).product();
    let [_, grid_y, grid_z] = launch.grid;
    if threads == 0 || threads > 1024 || launch.block[2] > 64 {
        return refuse(format!("blocks of {:?} threads", launch.block));
    }
    if launch.blocks() == 0 || grid_y > 65535 || grid_z > 65535 {
        return refuse(format!("a grid of {:?} blocks", launch.grid));
    }
    if launch.blocks() > 1 << 22 {
        return refuse(format!("unsupported: {} blocks, more than 4194304", launch.blocks()));
    }
    if kernel.max_threads.is_some_and(|max| threads > max as u64) {
        return refuse(format!("{threads} threads, more than its launch bounds"));
    }
    if kernel.required_threads.is_some_and(|required| required != launch.block) {
        return refuse(format!("blocks of {:?}, not what it requires", launch.block));
    }
    if kernel.required_cluster.is_some_and(|required| required != launch.cluster) {
        return refuse(format!("clusters of {:?}, not what it requires", launch.cluster));
    }
    let size = launch.cluster_blocks();
    let divides = (0..3).all(|i| launch.cluster[i] > 0 && launch.grid[i].is_multiple_of(launch.cluster[i]));
    if !divides || size > 8 || size > 1 && options.compute_capability < 90 {
        return refuse(format!("clusters of {:?} in a grid of {:?}", launch.cluster, launch.grid));
    }
    let shared = kernel.shared_bytes + launch.dynamic_shared;
    if shared > max_shared(options.compute_capability) {
        return refuse(format!("{shared} bytes of shared memory"));
    }
    if launch.cooperative && launch.blocks() > resident(kernel, threads as usize, launch, options) {
        return refuse(format!("{} blocks that cannot all be resident", launch.blocks()));
    }
    Ok(())
}

/// Multiprocessors of the device, as an H100 has.
pub const MULTIPROCESSORS: u64 = 132;

/// Blocks that can be resident together: by threads and shared memory, not by registers.
fn resident(kernel: &Kernel, threads: usize, launch: &Launch, options: &Options) -> u64 {
    let shared = kernel.shared_bytes + launch.dynamic_shared + 1024;
    let by_shared = (max_shared(options.compute_capability) + 1024) / shared;
    let by_threads = 2048 / threads.next_multiple_of(32);
    MULTIPROCESSORS * by_shared.min(by_threads).min(32) as u64
}
