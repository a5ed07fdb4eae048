//! Events: the host's time. As everything is done at once, they have always passed, and order
//! nothing that is not ordered already.

use super::graphs::{Capture, of};
use super::{
    CAPTURE_ISOLATION, CAPTURED_EVENT, Device, Handle, INVALID_HANDLE, NOT_SUPPORTED, SUCCESS, Status, entry_points,
};
use std::ffi::c_uint;
use std::time::Instant;

#[derive(Clone, Copy, PartialEq)]
enum Recorded {
    Never,
    At(Instant),
    /// In a capture, by its number: no point in time.
    In(usize),
}

pub struct Event {
    timed: bool,
    recorded: Recorded,
}

/// `CU_EVENT_DISABLE_TIMING`, which is what cudarc takes where nothing is asked for.
const DISABLE_TIMING: c_uint = 2;

impl Device {
    fn recorded(&self, event: Handle) -> Option<Recorded> {
        self.events.get(&(event as usize)).map(|event| event.recorded)
    }

    fn wait_for_event(&mut self, event: Handle, call: &str) -> Status {
        match self.recorded(event) {
            None => INVALID_HANDLE,
            Some(Recorded::In(id)) => {
                self.invalidate(|capture| capture.id == id);
                self.fail(CAPTURED_EVENT, format!("{call} of an event that was recorded in a capture"))
            }
            Some(_) => self.outside(Capture::forbids_unsafe_calls, call, |device| device.broken),
        }
    }

    fn stream_waits(&mut self, stream: Handle, event: Handle) -> Status {
        let here = self.capture(stream).map(|capture| capture.id);
        match self.recorded(event) {
            None => INVALID_HANDLE,
            Some(Recorded::At(_)) if self.invalidate(of(stream)) => {
                self.fail(CAPTURE_ISOLATION, "a capture that waits for an event recorded outside of it")
            }
            Some(Recorded::In(id)) if here != Some(id) && self.invalidate(|capture| capture.id == id) => {
                self.fail(NOT_SUPPORTED, "captures of more than one stream are not emulated")
            }
            Some(_) => SUCCESS,
        }
    }

    fn elapsed(&self, milliseconds: &mut f32, start: Handle, end: Handle) -> Status {
        let time = |event: Handle| match self.events.get(&(event as usize)) {
            Some(Event { timed: true, recorded: Recorded::At(time) }) => Some(*time),
            _ => None,
        };
        let (Some(start), Some(end)) = (time(start), time(end)) else { return INVALID_HANDLE };
        // One of the two is zero: a duration is never negative, and this may be.
        *milliseconds = 1e3 * (end.duration_since(start).as_secs_f32() - start.duration_since(end).as_secs_f32());
        SUCCESS
    }
}

entry_points! {
    cuEventCreate |device| (event: *mut Handle, flags: c_uint) {
        let handle = device.new_handle();
        device.events.insert(handle, Event { timed: flags & DISABLE_TIMING == 0, recorded: Recorded::Never });
        *event = handle as Handle;
        SUCCESS
    }
    cuEventDestroy_v2 |device| (event: Handle) {
        device.events.remove(&(event as usize)).map_or(INVALID_HANDLE, |_| SUCCESS)
    }
    cuEventRecord |device| (event: Handle, stream: Handle) {
        let recorded = match device.capture(stream) {
            Some(capture) => Recorded::In(capture.id),
            None => Recorded::At(Instant::now()),
        };
        let event = device.events.get_mut(&(event as usize));
        event.map_or(INVALID_HANDLE, |event| {
            event.recorded = recorded;
            SUCCESS
        })
    }
    cuEventQuery |device| (event: Handle) {
        device.wait_for_event(event, "cuEventQuery")
    }
    cuEventSynchronize |device| (event: Handle) {
        device.wait_for_event(event, "cuEventSynchronize")
    }
    cuStreamWaitEvent |device| (stream: Handle, event: Handle, flags: c_uint) {
        device.stream_waits(stream, event)
    }
    // cudarc calls the one before CUDA 13, the other since.
    cuEventElapsedTime |device| (milliseconds: *mut f32, start: Handle, end: Handle) {
        device.elapsed(&mut *milliseconds, start, end)
    }
    cuEventElapsedTime_v2 |device| (milliseconds: *mut f32, start: Handle, end: Handle) {
        device.elapsed(&mut *milliseconds, start, end)
    }
}
