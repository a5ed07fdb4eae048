//! The generic address space (5.1): windows for shared, local and parameter memory, the rest is
//! global. No address is one of the host's.

use crate::ptx::types::Space;

pub const GLOBAL: u64 = 0x10_0000_0000;
pub const SHARED: u64 = 0x200_0000_0000;
pub const LOCAL: u64 = 0x300_0000_0000;
pub const PARAM: u64 = 0x400_0000_0000;

/// Within shared memory a block's rank in its cluster stands above the offset.
pub const RANK_SHIFT: u32 = 24;
pub const OFFSET: u32 = (1 << RANK_SHIFT) - 1;

/// A thread's local memory begins at `LOCAL + (thread << LOCAL_SHIFT)`.
pub const LOCAL_SHIFT: u32 = 24;

pub fn space(address: u64) -> Space {
    match address {
        PARAM.. => Space::Param,
        LOCAL.. => Space::Local,
        SHARED.. => Space::Shared,
        _ => Space::Global,
    }
}
