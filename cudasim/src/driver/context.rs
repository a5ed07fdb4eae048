//! The device, its context, and streams and events, which order nothing that is not ordered already.

use super::{all, entry_points, Handle, INVALID_DEVICE, INVALID_VALUE, SUCCESS};
use crate::machine::launch::max_shared;
use crate::MULTIPROCESSORS;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint};
use std::time::Instant;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The one context there is, and any stream.
const CONTEXT: usize = 0x1000;
const STREAM: usize = 0x2000;
const MEMORY: usize = 8 << 30;

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

/// When an event was recorded.
type Event = *mut Option<Instant>;

entry_points! {
    cuDriverGetVersion |device| (version: *mut c_int) {
        *version = 13000;
        SUCCESS
    }
    cuDeviceGetCount |device| (count: *mut c_int) {
        *count = 1;
        SUCCESS
    }
    cuDeviceGet |device| (handle: *mut c_int, ordinal: c_int) {
        *handle = 0;
        if ordinal == 0 { SUCCESS } else { INVALID_DEVICE }
    }
    cuDeviceGetName |device| (name: *mut c_char, length: c_int, handle: c_int) {
        let text = c"cudasim, an emulated GPU".to_bytes_with_nul();
        let length = text.len().min(length.max(0) as usize);
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, length);
        SUCCESS
    }
    cuDeviceGetAttribute |device| (value: *mut c_int, number: c_int, handle: c_int) {
        *value = attribute(number, device.settings.options.compute_capability);
        SUCCESS
    }
    cuDeviceTotalMem_v2 |device| (bytes: *mut usize, handle: c_int) {
        *bytes = MEMORY;
        SUCCESS
    }
    cuMemGetInfo_v2 |device| (free: *mut usize, total: *mut usize) {
        (*free, *total) = (MEMORY, MEMORY);
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
    cuStreamIsCapturing |device| (stream: Handle, status: *mut c_int) {
        *status = 0;
        SUCCESS
    }
    cuEventCreate |device| (event: *mut Event, flags: c_uint) {
        *event = Box::into_raw(Box::new(None));
        SUCCESS
    }
    cuEventRecord |device| (event: Event, stream: Handle) {
        *event = Some(Instant::now());
        SUCCESS
    }
    // The emulator's own time.
    cuEventElapsedTime_v2 |device| (milliseconds: *mut f32, start: Event, end: Event) {
        let (Some(start), Some(end)) = (*start, *end) else { return INVALID_VALUE };
        *milliseconds = (end - start).as_secs_f32() * 1e3;
        SUCCESS
    }
    cuEventDestroy_v2 |device| (event: Event) {
        drop(Box::from_raw(event));
        SUCCESS
    }
}

all! { |device, name| device.broken; cuCtxSynchronize cuStreamSynchronize cuEventSynchronize cuEventQuery }
all! { |device, name| SUCCESS;
    cuInit cuCtxDestroy_v2 cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxSetFlags_v2 cuStreamDestroy_v2
    cuStreamWaitEvent
}
