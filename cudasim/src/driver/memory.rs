//! Allocations and copies. Device addresses are none of the host's: to follow one there crashes, as
//! it does with a GPU.

use super::{do_nothing, entry_points, Device, Handle, Status, INVALID_VALUE, LAUNCH_FAILED, SUCCESS};
use std::ffi::{c_int, c_uint};

type Pointer = u64;

impl Device {
    /// A copy to the host; an error where nothing ever wrote what is copied.
    fn copy_to_host(&mut self, host: &mut [u8], from: Pointer) -> Status {
        let (bytes, strict) = (host.len(), self.settings.strict && self.settings.options.checks);
        match self.simulator.memory.read(from, host) {
            Ok(unwritten) if unwritten > 0 && strict && self.broken == SUCCESS => {
                let message =
                    format!("Uninitialized: copy to the host of {bytes} bytes, {unwritten} of which nothing wrote");
                self.fail(LAUNCH_FAILED, message)
            }
            result => self.check(result.map(|_| ())),
        }
    }

    fn write(&mut self, stream: Handle, to: Pointer, data: Vec<u8>) -> Status {
        self.submit(stream, move |device| {
            let written = device.simulator.memory.write(to, &data);
            device.check(written)
        })
    }

    fn copy(&mut self, stream: Handle, to: Pointer, from: Pointer, bytes: usize) -> Status {
        self.submit(stream, move |device| {
            let copied = device.simulator.memory.copy(to, from, bytes);
            device.check(copied)
        })
    }

    fn free(&mut self, address: Pointer) -> Status {
        let freed = self.simulator.memory.free(address);
        self.check(freed)
    }
}

/// The host's side of a copy. Null goes with a size of 0.
unsafe fn host<'a>(pointer: *const u8, bytes: usize) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: the caller of the C API promises `bytes` bytes there.
    unsafe { std::slice::from_raw_parts(pointer, bytes) }
}

unsafe fn host_mut<'a>(pointer: *mut u8, bytes: usize) -> &'a mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: as in `host`, and nobody else uses them meanwhile.
    unsafe { std::slice::from_raw_parts_mut(pointer, bytes) }
}

entry_points! {
    cuMemAlloc_v2 |device| (address: *mut Pointer, bytes: usize) {
        *address = device.simulator.memory.allocate(bytes);
        if bytes == 0 { INVALID_VALUE } else { device.broken }
    }
    cuMemAllocAsync |device| (address: *mut Pointer, bytes: usize, stream: Handle) {
        *address = device.simulator.memory.allocate(bytes);
        device.broken
    }
    cuMemFree_v2 |device| (address: Pointer) {
        device.free(address)
    }
    cuMemFreeAsync |device| (address: Pointer, stream: Handle) {
        // What a graph uses lives as long as the graph.
        if device.is_capturing(stream) { SUCCESS } else { device.free(address) }
    }
    cuMemHostAlloc |device| (pointer: *mut Handle, bytes: usize, flags: c_uint) {
        let layout = std::alloc::Layout::from_size_align(bytes + 64, 64);
        let Ok(layout) = layout else { return INVALID_VALUE };
        let base = std::alloc::alloc_zeroed(layout);
        if base.is_null() {
            return INVALID_VALUE;
        }
        base.cast::<usize>().write(layout.size());
        *pointer = base.add(64).cast();
        SUCCESS
    }
    cuMemFreeHost |device| (pointer: Handle) {
        let base = pointer.cast::<u8>().sub(64);
        let size = base.cast::<usize>().read();
        std::alloc::dealloc(base, std::alloc::Layout::from_size_align_unchecked(size, 64));
        SUCCESS
    }
    cuMemcpyHtoD_v2 |device| (to: Pointer, from: *const u8, bytes: usize) {
        device.write(std::ptr::null_mut(), to, host(from, bytes).to_vec())
    }
    cuMemcpyHtoDAsync_v2 |device| (to: Pointer, from: *const u8, bytes: usize, stream: Handle) {
        device.write(stream, to, host(from, bytes).to_vec())
    }
    cuMemcpyDtoH_v2 |device| (to: *mut u8, from: Pointer, bytes: usize) {
        device.copy_to_host(host_mut(to, bytes), from)
    }
    cuMemcpyDtoHAsync_v2 |device| (to: *mut u8, from: Pointer, bytes: usize, stream: Handle) {
        device.copy_to_host(host_mut(to, bytes), from)
    }
    cuMemcpyDtoD_v2 |device| (to: Pointer, from: Pointer, bytes: usize) {
        device.copy(std::ptr::null_mut(), to, from, bytes)
    }
    cuMemcpyDtoDAsync_v2 |device| (to: Pointer, from: Pointer, bytes: usize, stream: Handle) {
        device.copy(stream, to, from, bytes)
    }
    cuMemcpyPeerAsync |device| (to: Pointer, to_context: Handle, from: Pointer, from_context: Handle, bytes: usize, stream: Handle) {
        device.copy(stream, to, from, bytes)
    }
    cuMemsetD8_v2 |device| (to: Pointer, value: u8, count: usize) {
        device.write(std::ptr::null_mut(), to, vec![value; count])
    }
    cuMemsetD8Async |device| (to: Pointer, value: u8, count: usize, stream: Handle) {
        device.write(stream, to, vec![value; count])
    }
    cuMemsetD16Async |device| (to: Pointer, value: u16, count: usize, stream: Handle) {
        device.write(stream, to, value.to_le_bytes().repeat(count))
    }
    cuMemsetD32Async |device| (to: Pointer, value: u32, count: usize, stream: Handle) {
        device.write(stream, to, value.to_le_bytes().repeat(count))
    }
    cuDeviceGetDefaultMemPool |device| (pool: *mut Handle, handle: c_int) {
        *pool = 0x6000 as Handle;
        SUCCESS
    }
}

do_nothing! { cuMemPoolSetAttribute cuMemPoolTrimTo cuMemPrefetchAsync_v2 }
