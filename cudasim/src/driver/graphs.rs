//! Stream capture and graphs: the calls on a capturing stream are kept, and executed when the graph is
//! launched.

use super::{
    CAPTURE_INVALIDATED, CAPTURE_UNSUPPORTED, Device, Handle, ILLEGAL_STATE, INVALID_VALUE, NOT_SUPPORTED, Pointer,
    SUCCESS, Status, entry_points,
};
use std::ffi::{c_int, c_ulonglong};
use std::ptr::null_mut;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// The action of a captured call, at each launch of the graph.
type Node = Box<dyn Fn(&mut Device) -> Status + Send + Sync>;

#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    allocations: Vec<Pointer>,
}

pub struct Executable {
    graph: Arc<Graph>,
    auto_free: bool,
}

/// `CU_STREAM_LEGACY` is another name of the null stream.
const LEGACY: usize = 1;
/// `CU_STREAM_PER_THREAD`, the stream of a candle device: another one for each thread.
const PER_THREAD: usize = 2;

type Stream = (usize, Option<ThreadId>);

fn identify(stream: Handle) -> Stream {
    let stream = stream as usize;
    (stream, (stream == PER_THREAD).then(|| thread::current().id()))
}

/// `CUstreamCaptureMode`.
const GLOBAL: c_int = 0;
const RELAXED: c_int = 2;

/// `CUgraphInstantiate_flags`.
const AUTO_FREE: c_ulonglong = 1;
const NODE_PRIORITY: c_ulonglong = 8;

pub struct Capture {
    pub id: usize,
    stream: Stream,
    thread: ThreadId,
    mode: c_int,
    invalid: bool,
    graph: Graph,
    /// The allocations of the graph that it has not freed yet.
    live: Vec<Pointer>,
}

impl Capture {
    pub fn is_of_this_thread(&self) -> bool {
        self.thread == thread::current().id()
    }

    /// True if the capture forbids the calls that CUDA names potentially unsafe, since they are done at
    /// once.
    pub fn forbids_unsafe_calls(&self) -> bool {
        if self.is_of_this_thread() { self.mode != RELAXED } else { self.mode == GLOBAL }
    }
}

/// The capture of a stream.
pub fn of(stream: Handle) -> impl Fn(&Capture) -> bool {
    let stream = identify(stream);
    move |capture| capture.stream == stream
}

impl Device {
    pub fn capture(&mut self, stream: Handle) -> Option<&mut Capture> {
        let of_stream = of(stream);
        self.captures.iter_mut().find(|capture| of_stream(capture))
    }

    /// Does something at once, or keeps it for the graph where the stream is capturing.
    pub fn enqueue(&mut self, stream: Handle, work: impl Fn(&mut Device) -> Status + Send + Sync + 'static) -> Status {
        match self.capture(stream) {
            None => work(self),
            Some(capture) if capture.invalid => CAPTURE_INVALIDATED,
            Some(capture) => {
                capture.graph.nodes.push(Box::new(work));
                self.broken
            }
        }
    }

    /// Makes captures end in an error, and tells whether there were any.
    pub fn invalidate(&mut self, which: impl Fn(&Capture) -> bool) -> bool {
        let mut found = self.captures.iter_mut().filter(|capture| which(capture)).peekable();
        let any = found.peek().is_some();
        found.for_each(|capture| capture.invalid = true);
        any
    }

    /// A call that is an error during these captures, and makes them fail.
    pub fn outside(
        &mut self, which: impl Fn(&Capture) -> bool, call: &str, work: impl FnOnce(&mut Self) -> Status,
    ) -> Status {
        if self.invalidate(which) {
            return self.fail(CAPTURE_UNSUPPORTED, format!("{call} during a capture"));
        }
        work(self)
    }

    /// The address is there at once, the memory when the graph is launched.
    pub fn allocate_in_graph(&mut self, address: &mut Pointer, bytes: usize, stream: Handle) -> Status {
        let start = self.simulator.memory.allocate(bytes);
        let reserved = self.simulator.memory.free(start);
        if let Some(capture) = self.capture(stream) {
            capture.graph.allocations.push(start);
            capture.live.push(start);
        }
        *address = start;
        match self.check(reserved) {
            SUCCESS => self.enqueue(stream, move |device| {
                let renewed = device.simulator.memory.renew(start);
                device.check(renewed)
            }),
            status => status,
        }
    }

    /// A graph frees what it allocated, and nothing else.
    pub fn free_in_graph(&mut self, address: Pointer, stream: Handle) -> Status {
        if let Some(capture) = self.capture(stream).filter(|capture| !capture.invalid) {
            let Some(i) = capture.live.iter().position(|a| *a == address) else {
                capture.invalid = true;
                let what = format!("free of {address:#x} during a capture that did not allocate it");
                return self.fail(INVALID_VALUE, what);
            };
            capture.live.remove(i);
        }
        self.enqueue(stream, move |device| device.free(address))
    }

    fn launch_graph(&mut self, executable: Handle, stream: Handle) -> Status {
        let Some(Executable { graph, auto_free }) = self.executables.get(&(executable as usize)) else {
            return self.fail(INVALID_VALUE, "no such executable graph");
        };
        let (graph, auto_free) = (graph.clone(), *auto_free);
        if self.invalidate(of(stream)) {
            return self.fail(NOT_SUPPORTED, "a graph within a capture is not emulated");
        }
        if self.broken != SUCCESS {
            return self.broken;
        }
        for address in &graph.allocations {
            if self.simulator.memory.is_live(*address) {
                if !auto_free {
                    let what = format!("launch of a graph whose allocation at {address:#x} was not freed");
                    return self.fail(INVALID_VALUE, what);
                }
                self.free(*address);
            }
        }
        graph.nodes.iter().map(|node| node(self)).find(|status| *status != SUCCESS).unwrap_or(SUCCESS)
    }
}

entry_points! {
    cuStreamBeginCapture_v2 |device| (stream: Handle, mode: c_int) {
        if stream as usize <= LEGACY {
            return device.fail(CAPTURE_UNSUPPORTED, "capture of the null stream");
        }
        if device.capture(stream).is_some() {
            return device.fail(ILLEGAL_STATE, "the stream is capturing");
        }
        let (id, stream, thread) = (device.new_handle(), identify(stream), thread::current().id());
        let (graph, live) = (Graph::default(), Vec::new());
        device.captures.push(Capture { id, stream, thread, mode, invalid: false, graph, live });
        SUCCESS
    }
    cuStreamEndCapture |device| (stream: Handle, graph: *mut Handle) {
        *graph = null_mut();
        let Some(i) = device.captures.iter().position(of(stream)) else {
            return device.fail(ILLEGAL_STATE, "the stream is not capturing");
        };
        let capture = device.captures.remove(i);
        if capture.invalid {
            return device.fail(CAPTURE_INVALIDATED, "the capture failed at a call before");
        }
        let handle = device.new_handle();
        device.graphs.insert(handle, Arc::new(capture.graph));
        *graph = handle as Handle;
        SUCCESS
    }
    cuStreamIsCapturing |device| (stream: Handle, status: *mut c_int) {
        *status = device.capture(stream).map_or(0, |capture| 1 + capture.invalid as c_int);
        SUCCESS
    }
    cuGraphInstantiateWithFlags |device| (executable: *mut Handle, graph: Handle, flags: c_ulonglong) {
        let Some(graph) = device.graphs.get(&(graph as usize)).cloned() else {
            return device.fail(INVALID_VALUE, "no such graph");
        };
        if flags & !(AUTO_FREE | NODE_PRIORITY) != 0 {
            return device.fail(INVALID_VALUE, format!("flags {flags:#x} of a graph are not emulated"));
        }
        let handle = device.new_handle();
        device.executables.insert(handle, Executable { graph, auto_free: flags & AUTO_FREE != 0 });
        *executable = handle as Handle;
        SUCCESS
    }
    cuGraphLaunch |device| (executable: Handle, stream: Handle) {
        device.launch_graph(executable, stream)
    }
    cuGraphUpload |device| (executable: Handle, stream: Handle) {
        if device.executables.contains_key(&(executable as usize)) { SUCCESS } else { INVALID_VALUE }
    }
    cuGraphExecDestroy |device| (executable: Handle) {
        device.executables.remove(&(executable as usize)).map_or(INVALID_VALUE, |_| SUCCESS)
    }
    cuGraphDestroy |device| (graph: Handle) {
        device.graphs.remove(&(graph as usize)).map_or(INVALID_VALUE, |_| SUCCESS)
    }
}
