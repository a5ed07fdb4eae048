//! The device, its context, and streams, which order nothing that is not ordered already.

use super::graphs::of;
use super::{Handle, INVALID_DEVICE, SUCCESS, all, entry_points};
use crate::MULTIPROCESSORS;
use crate::machine::launch::max_shared;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint};

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The one context there is.
const CONTEXT: usize = 0x1000;

const NAME: &[u8] = b"cudasim\0";
/// The memory of an H100. Allocations are not counted against it.
const TOTAL_BYTES: usize = 80 << 30;
/// The version of CUDA that the driver API is of.
const VERSION: c_int = 13000;

/// `CUdevice_attribute`, as an H100 answers, but for the compute capability that was asked for.
fn attribute(number: c_int, compute_capability: u32) -> c_int {
    let shared = max_shared(compute_capability) as c_int;
    match number {
        1..=3 => 1024,                              // threads of a block, along x, y
        4 => 64,                                    // and z
        5 => c_int::MAX,                            // blocks of a grid along x
        6 | 7 => 65535,                             // y and z
        8 => 48 << 10,                              // shared memory of a block without opting in
        10 => 32,                                   // lanes of a warp
        12 | 82 => 65536,                           // registers of a block, of a multiprocessor
        13 => 1_980_000,                            // kHz of the multiprocessors
        16 => MULTIPROCESSORS as c_int,             // multiprocessors
        36 => 2_619_000,                            // kHz of the memory
        38 => 50 << 20,                             // bytes of the L2 cache
        39 => 2048,                                 // threads of a multiprocessor
        75 => compute_capability as c_int / 10,     // major
        76 => compute_capability as c_int % 10,     // minor
        81 => shared + 1024,                        // shared memory of a multiprocessor
        95 | 115 => 1,                              // cooperative launches, memory pools
        97 => shared,                               // shared memory of a block that opts in
        106 => 32,                                  // blocks of a multiprocessor
        111 => 1024,                                // shared memory that the system keeps
        120 => (compute_capability >= 90) as c_int, // clusters
        _ => 0,
    }
}

entry_points! {
    cuDeviceGet |device| (handle: *mut c_int, ordinal: c_int) {
        *handle = 0;
        if ordinal == 0 { SUCCESS } else { INVALID_DEVICE }
    }
    cuDeviceGetAttribute |device| (value: *mut c_int, number: c_int, handle: c_int) {
        *value = attribute(number, device.settings.options.compute_capability);
        SUCCESS
    }
    cuDeviceGetName |device| (name: *mut c_char, length: c_int, handle: c_int) {
        let length = NAME.len().min(length.max(0) as usize);
        std::ptr::copy_nonoverlapping(NAME.as_ptr().cast(), name, length);
        SUCCESS
    }
    cuDeviceTotalMem_v2 |device| (bytes: *mut usize, handle: c_int) {
        *bytes = TOTAL_BYTES;
        SUCCESS
    }
    cuDriverGetVersion |device| (version: *mut c_int) {
        *version = VERSION;
        SUCCESS
    }
    cuDevicePrimaryCtxRetain |device| (context: *mut Handle, handle: c_int) {
        *context = CONTEXT as Handle;
        SUCCESS
    }
    cuCtxGetCurrent |device| (context: *mut Handle) {
        *context = CURRENT.get() as Handle;
        SUCCESS
    }
    cuCtxSetCurrent |device| (context: Handle) {
        CURRENT.set(context as usize);
        SUCCESS
    }
    cuStreamCreate |device| (stream: *mut Handle, flags: c_uint) {
        *stream = device.new_handle() as Handle;
        SUCCESS
    }
    cuStreamSynchronize |device| (stream: Handle) {
        device.outside(of(stream), "cuStreamSynchronize", |device| device.broken)
    }
    cuCtxSynchronize |device| () {
        device.outside(|_| true, "cuCtxSynchronize", |device| device.broken)
    }
}

all! { SUCCESS;
    cuInit cuCtxDestroy_v2 cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxSetFlags_v2 cuStreamDestroy_v2
}

#[cfg(test)]
mod tests {
    use super::attribute;

    #[test]
    fn shared_memory_of_a_block_that_opts_in() {
        for (compute_capability, kb) in [(75, 64), (80, 163), (86, 99), (89, 99), (90, 227), (100, 227), (120, 99)] {
            assert_eq!(attribute(97, compute_capability), kb << 10, "{compute_capability}");
        }
    }
}
