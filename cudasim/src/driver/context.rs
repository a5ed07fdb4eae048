//! The device, its context, and streams and events, which order nothing that is not ordered already.

use super::{all, device, entry_points, Handle, INVALID_DEVICE, SUCCESS};
use crate::machine::launch::max_shared;
use crate::MULTIPROCESSORS;
use std::cell::Cell;
use std::ffi::{c_int, c_uint};

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The one context there is, any stream and any event.
const CONTEXT: usize = 0x1000;
const STREAM: usize = 0x2000;
const EVENT: usize = 0x3000;

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
        16 => MULTIPROCESSORS as c_int,             // multiprocessors
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
        *stream = STREAM as Handle;
        SUCCESS
    }
    cuEventCreate |device| (event: *mut Handle, flags: c_uint) {
        *event = EVENT as Handle;
        SUCCESS
    }
    cuStreamIsCapturing |device| (stream: Handle, status: *mut c_int) {
        *status = 0;
        SUCCESS
    }
}

all! { device().broken; cuCtxSynchronize cuStreamSynchronize cuEventSynchronize cuEventQuery }
all! { SUCCESS;
    cuInit cuCtxDestroy_v2 cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxSetFlags_v2 cuStreamDestroy_v2
    cuStreamWaitEvent cuEventRecord cuEventDestroy_v2
}
