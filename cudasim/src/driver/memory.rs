//! Allocations and copies. Device addresses are none of the host's: to follow one there crashes, as
//! it does with a GPU.

use super::graphs::{Capture, of};
use super::{Device, Handle, INVALID_VALUE, LAUNCH_FAILED, Pointer, SUCCESS, Status, entry_points};

impl Device {
    fn allocate(&mut self, address: &mut Pointer, bytes: usize) -> Status {
        *address = self.simulator.memory.allocate(bytes);
        self.broken
    }

    pub fn free(&mut self, address: Pointer) -> Status {
        let freed = self.simulator.memory.free(address);
        self.check(freed)
    }

    fn write(&mut self, to: Pointer, data: &[u8]) -> Status {
        let written = self.simulator.memory.write(to, data);
        self.check(written)
    }

    fn copy(&mut self, to: Pointer, from: Pointer, bytes: usize) -> Status {
        let copied = self.simulator.memory.copy(to, from, bytes);
        self.check(copied)
    }

    /// A copy to the host; an error where nothing ever wrote what is copied.
    fn read(&mut self, host: &mut [u8], from: Pointer) -> Status {
        let (bytes, strict) = (host.len(), self.settings.strict && self.settings.options.checks);
        match self.simulator.memory.read(from, host) {
            Ok(unwritten) if unwritten > 0 && strict && self.broken == SUCCESS => {
                let what = format!("copy to the host of {bytes} bytes, {unwritten} of which nothing wrote");
                self.fail(LAUNCH_FAILED, format!("Uninitialized: {what}"))
            }
            result => self.check(result.map(|_| ())),
        }
    }
}

entry_points! {
    cuMemAlloc_v2 |device| (address: *mut Pointer, bytes: usize) {
        device.outside(Capture::forbids_unsafe_calls, "cuMemAlloc", |device| {
            if bytes == 0 { INVALID_VALUE } else { device.allocate(&mut *address, bytes) }
        })
    }
    cuMemAllocAsync |device| (address: *mut Pointer, bytes: usize, stream: Handle) {
        match device.capture(stream) {
            Some(_) => device.allocate_in_graph(&mut *address, bytes, stream),
            None => device.allocate(&mut *address, bytes),
        }
    }
    cuMemFree_v2 |device| (address: Pointer) {
        device.outside(Capture::forbids_unsafe_calls, "cuMemFree", |device| device.free(address))
    }
    cuMemFreeAsync |device| (address: Pointer, stream: Handle) {
        match device.capture(stream) {
            Some(_) => device.free_in_graph(address, stream),
            None => device.free(address),
        }
    }
    // Null goes with a size of 0. A graph gets the bytes of now. A GPU reads the host's memory at each
    // launch, which is the caller's to keep; here it would be undefined behaviour where it is not kept.
    cuMemcpyHtoDAsync_v2 |device| (to: Pointer, from: *const u8, bytes: usize, stream: Handle) {
        let data = if bytes == 0 { Vec::new() } else { std::slice::from_raw_parts(from, bytes).to_vec() };
        device.enqueue(stream, move |device| device.write(to, &data))
    }
    cuMemcpyDtoHAsync_v2 |device| (to: *mut u8, from: Pointer, bytes: usize, stream: Handle) {
        device.outside(of(stream), "a copy to the host", |device| {
            if bytes == 0 { SUCCESS } else { device.read(std::slice::from_raw_parts_mut(to, bytes), from) }
        })
    }
    cuMemcpyDtoDAsync_v2 |device| (to: Pointer, from: Pointer, bytes: usize, stream: Handle) {
        device.enqueue(stream, move |device| device.copy(to, from, bytes))
    }
    cuMemcpyPeerAsync |device| (to: Pointer, to_context: Handle, from: Pointer, from_context: Handle, bytes: usize, stream: Handle) {
        device.enqueue(stream, move |device| device.copy(to, from, bytes))
    }
    cuMemsetD8Async |device| (to: Pointer, value: u8, count: usize, stream: Handle) {
        device.enqueue(stream, move |device| device.write(to, &vec![value; count]))
    }
}
