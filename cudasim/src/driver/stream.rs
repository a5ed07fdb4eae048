//! Streams and events, which order nothing that is not ordered already, and graphs.

use super::{do_nothing, entry_points, Device, Handle, Status, INVALID_VALUE, NOT_SUPPORTED, SUCCESS};
use std::ffi::{c_int, c_uint};
use std::sync::Arc;
use std::time::Instant;

type Work = Arc<dyn Fn(&mut Device) -> Status + Send + Sync>;

/// What was captured, to be done at each launch.
pub type Graph = Vec<Work>;

/// A stream; while it captures, the work so far.
#[derive(Default)]
pub struct Stream {
    captured: Option<Graph>,
}

impl Device {
    /// Does the work now, or at the graph's launches if the stream captures.
    pub fn submit(&mut self, stream: Handle, work: impl Fn(&mut Device) -> Status + Send + Sync + 'static) -> Status {
        let stream = self.streams.get_mut(&(stream as usize));
        match stream.and_then(|s| s.captured.as_mut()) {
            Some(captured) => {
                captured.push(Arc::new(work));
                SUCCESS
            }
            None => work(self),
        }
    }

    pub fn is_capturing(&self, stream: Handle) -> bool {
        self.streams.get(&(stream as usize)).is_some_and(|s| s.captured.is_some())
    }

    fn new_stream(&mut self) -> Handle {
        let handle = 0x2000 + 16 * self.streams.len();
        self.streams.insert(handle, Stream::default());
        handle as Handle
    }
}

/// When an event was recorded.
type Event = *mut Option<Instant>;

entry_points! {
    cuStreamCreate |device| (stream: *mut Handle, flags: c_uint) {
        *stream = device.new_stream();
        SUCCESS
    }
    cuStreamCreateWithPriority |device| (stream: *mut Handle, flags: c_uint, priority: c_int) {
        *stream = device.new_stream();
        SUCCESS
    }
    cuStreamSynchronize |device| (stream: Handle) {
        device.broken
    }
    cuStreamIsCapturing |device| (stream: Handle, status: *mut c_int) {
        *status = device.is_capturing(stream) as c_int;
        SUCCESS
    }
    cuStreamBeginCapture_v2 |device| (stream: Handle, mode: c_int) {
        match device.streams.get_mut(&(stream as usize)) {
            Some(stream) if stream.captured.is_none() => {
                stream.captured = Some(Graph::new());
                SUCCESS
            }
            _ => device.fail(INVALID_VALUE, "no stream that could begin to capture"),
        }
    }
    cuStreamEndCapture |device| (stream: Handle, graph: *mut Handle) {
        let stream = device.streams.get_mut(&(stream as usize));
        let Some(captured) = stream.and_then(|s| s.captured.take()) else {
            return device.fail(INVALID_VALUE, "the stream does not capture");
        };
        device.graphs.push(captured);
        *graph = device.graphs.len() as Handle;
        SUCCESS
    }
    cuGraphInstantiateWithFlags |device| (executable: *mut Handle, graph: Handle, flags: u64) {
        *executable = graph;
        SUCCESS
    }
    cuGraphLaunch |device| (executable: Handle, stream: Handle) {
        let Some(graph) = (executable as usize).checked_sub(1).and_then(|i| device.graphs.get(i)) else {
            return device.fail(INVALID_VALUE, "no such graph");
        };
        if device.is_capturing(stream) {
            return device.fail(NOT_SUPPORTED, "a graph launched into a capture is not emulated");
        }
        let failed = |device: &mut Device, work: Work| Some(work(device)).filter(|s| *s != SUCCESS);
        graph.clone().into_iter().find_map(|work| failed(device, work)).unwrap_or(SUCCESS)
    }
    cuEventCreate |device| (event: *mut Event, flags: c_uint) {
        *event = Box::into_raw(Box::new(None));
        SUCCESS
    }
    cuEventRecord |device| (event: Event, stream: Handle) {
        *event = Some(Instant::now());
        SUCCESS
    }
    cuEventElapsedTime |device| (milliseconds: *mut f32, start: Event, end: Event) {
        elapsed(milliseconds, start, end)
    }
    cuEventElapsedTime_v2 |device| (milliseconds: *mut f32, start: Event, end: Event) {
        elapsed(milliseconds, start, end)
    }
    cuEventDestroy_v2 |device| (event: Event) {
        drop(Box::from_raw(event));
        SUCCESS
    }
}

/// The emulator's own time between two events.
unsafe fn elapsed(milliseconds: *mut f32, start: Event, end: Event) -> Status {
    // SAFETY: both come from `cuEventCreate`.
    let (Some(start), Some(end)) = (unsafe { *start }, unsafe { *end }) else {
        return INVALID_VALUE;
    };
    // SAFETY: the caller's.
    unsafe { *milliseconds = (end - start).as_secs_f32() * 1e3 };
    SUCCESS
}

do_nothing! {
    cuStreamDestroy_v2 cuStreamWaitEvent cuEventSynchronize cuEventQuery cuGraphDestroy
    cuGraphExecDestroy cuGraphUpload
}
