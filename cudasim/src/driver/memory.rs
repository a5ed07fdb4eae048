//! Allocations and copies. Device addresses are none of the host's: to follow one there crashes, as
//! it does with a GPU.

use super::{entry_points, Device, Handle, Pointer, Status, INVALID_VALUE, LAUNCH_FAILED, SUCCESS};

impl Device {
    fn allocate(&mut self, address: &mut Pointer, bytes: usize) -> Status {
        *address = self.simulator.memory.allocate(bytes);
        self.broken
    }

    fn free(&mut self, address: Pointer) -> Status {
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
        if bytes == 0 { INVALID_VALUE } else { device.allocate(&mut *address, bytes) }
    }
    cuMemAllocAsync |device| (address: *mut Pointer, bytes: usize, stream: Handle) {
        device.allocate(&mut *address, bytes)
    }
    cuMemFree_v2 |device| (address: Pointer) {
        device.free(address)
    }
    cuMemFreeAsync |device| (address: Pointer, stream: Handle) {
        device.free(address)
    }
    // Null goes with a size of 0.
    cuMemcpyHtoDAsync_v2 |device| (to: Pointer, from: *const u8, bytes: usize, stream: Handle) {
        if bytes == 0 { SUCCESS } else { device.write(to, std::slice::from_raw_parts(from, bytes)) }
    }
    cuMemcpyDtoHAsync_v2 |device| (to: *mut u8, from: Pointer, bytes: usize, stream: Handle) {
        if bytes == 0 { SUCCESS } else { device.read(std::slice::from_raw_parts_mut(to, bytes), from) }
    }
    cuMemcpyDtoDAsync_v2 |device| (to: Pointer, from: Pointer, bytes: usize, stream: Handle) {
        device.copy(to, from, bytes)
    }
    cuMemcpyPeerAsync |device| (to: Pointer, to_context: Handle, from: Pointer, from_context: Handle, bytes: usize, stream: Handle) {
        device.copy(to, from, bytes)
    }
    cuMemsetD8Async |device| (to: Pointer, value: u8, count: usize, stream: Handle) {
        device.write(to, &vec![value; count])
    }
}
