//! The stand-in for a CUDA device: it writes down what it is to launch.

use super::super::arguments::{behind, both_to_addresses, to_addresses};
use crate::gpu::Gpu;
use crate::gpu::bytes::arguments;
use crate::gpu::launch::{Arg, Launch, Size, Slot};
use crate::plan::{Caps, Kernel};
use crate::tuning::MAX_PARAMS;
use candle_core::{DType, Result};
use std::cell::{Cell, RefCell};

/// The memory of a slot starts there, and that of the next one so far behind it.
const ADDRESS: u64 = 0x7f00_0000_0000;
const APART: u64 = 0x10_0000_0000;

/// A launch with a call. The sums of shares over N, which are small, are not written down.
pub struct Recorded {
    pub kernel: Kernel,
    /// The PTX that has it.
    pub source: String,
    pub size: Size,
    /// The kernel's parameters as they lie in memory: call, chunks, and the buffers between launches; or calls.
    pub arguments: Vec<u8>,
}

/// A device with these properties. A dtype is all that its storages have, and it computes in f32.
pub struct Recorder {
    caps: Caps,
    launches: RefCell<Vec<Recorded>>,
    allocations: Cell<usize>,
}

impl Recorder {
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            launches: RefCell::default(),
            allocations: Cell::default(),
        }
    }

    pub fn allocations(&self) -> usize {
        self.allocations.get()
    }

    /// All launches, in their order.
    pub fn into_launches(self) -> Vec<Recorded> {
        self.launches.into_inner()
    }
}

pub fn address_of(slot: Slot) -> u64 {
    ADDRESS + slot as u64 * APART
}

impl Gpu for Recorder {
    type Storage = DType;
    type Real = f32;

    const SUMS_PER_LAUNCH: usize = MAX_PARAMS;

    fn dtype(storage: &DType) -> DType {
        *storage
    }

    fn caps(&self) -> Caps {
        self.caps
    }

    fn alloc(&self, dtype: DType, _: usize) -> Result<DType> {
        self.allocations.update(|count| count + 1);
        Ok(dtype)
    }

    fn zeros(&self, dtype: DType, _: usize) -> Result<DType> {
        Ok(dtype)
    }

    unsafe fn launch(&self, mut launch: Launch<Self>) -> Result<()> {
        let is_bound = |slot| launch.buffers.iter().any(|bound| bound.has(slot));
        let address = |slot| if is_bound(slot) { address_of(slot) } else { 0 };
        let buffers = behind(launch.kernel, address);
        match &mut launch.arg {
            Arg::Call(call) => to_addresses(call, launch.dtype.size_in_bytes(), address),
            Arg::AdaIn(calls) => both_to_addresses(calls, launch.dtype.size_in_bytes(), address),
            Arg::Sums(_) => return Ok(()),
        }
        let mut arguments = arguments(&launch).concat();
        // An address lies at a multiple of its size.
        arguments.resize(arguments.len().next_multiple_of(size_of::<u64>()), 0);
        arguments.extend(buffers.into_iter().flat_map(u64::to_le_bytes));
        self.launches.borrow_mut().push(Recorded {
            kernel: launch.kernel,
            source: launch.kernel.source(launch.plain, launch.dtype),
            size: launch.size,
            arguments,
        });
        Ok(())
    }
}
