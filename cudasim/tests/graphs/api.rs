//! The entry points that these tests call, and what they do with them more than once.

use cudasim as _; // links the entry points
use std::ffi::{CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard};

pub type Handle = *mut c_void;
pub type Status = c_int;

pub const SUCCESS: Status = 0;
pub const INVALID_VALUE: Status = 1;
pub const INVALID_HANDLE: Status = 400;
pub const ILLEGAL_STATE: Status = 401;
pub const LAUNCH_FAILED: Status = 719;
pub const NOT_SUPPORTED: Status = 801;
pub const CAPTURE_UNSUPPORTED: Status = 900;
pub const CAPTURE_INVALIDATED: Status = 901;
pub const CAPTURE_ISOLATION: Status = 905;
pub const CAPTURED_EVENT: Status = 907;
pub const RAND_LAUNCH_FAILURE: Status = 201;

/// The stream of a candle device, of which each thread has its own.
pub const PER_THREAD: Handle = 2 as Handle;

pub const GLOBAL: c_int = 0;
pub const THREAD_LOCAL: c_int = 1;
pub const RELAXED: c_int = 2;
pub const AUTO_FREE: c_ulonglong = 1;
pub const DEVICE_LAUNCH: c_ulonglong = 4;

unsafe extern "C" {
    pub fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> Status;
    pub fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> Status;
    pub fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> Status;
    pub fn cuDriverGetVersion(version: *mut c_int) -> Status;
    pub fn cuModuleLoadData(module: *mut Handle, image: *const c_char) -> Status;
    pub fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> Status;
    pub fn cuGetErrorString(status: Status, text: *mut *const c_char) -> Status;
    pub fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> Status;
    pub fn cuMemFree_v2(address: u64) -> Status;
    pub fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle) -> Status;
    pub fn cuMemFreeAsync(address: u64, stream: Handle) -> Status;
    pub fn cuMemcpyHtoDAsync_v2(to: u64, from: *const f32, bytes: usize, stream: Handle) -> Status;
    pub fn cuMemcpyDtoHAsync_v2(to: *mut f32, from: u64, bytes: usize, stream: Handle) -> Status;
    pub fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> Status;
    pub fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) -> Status;
    pub fn cuLaunchKernel(
        f: Handle, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint, shared: c_uint,
        stream: Handle, params: *const *const u8, extra: *const *mut c_void,
    ) -> Status;
    pub fn cuCtxSynchronize() -> Status;
    pub fn cuStreamCreate(stream: *mut Handle, flags: c_uint) -> Status;
    pub fn cuStreamSynchronize(stream: Handle) -> Status;
    pub fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) -> Status;
    pub fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> Status;
    pub fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> Status;
    pub fn cuStreamIsCapturing(stream: Handle, status: *mut c_int) -> Status;
    pub fn cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, flags: c_ulonglong) -> Status;
    pub fn cuGraphUpload(executable: Handle, stream: Handle) -> Status;
    pub fn cuGraphLaunch(executable: Handle, stream: Handle) -> Status;
    pub fn cuGraphExecDestroy(executable: Handle) -> Status;
    pub fn cuGraphDestroy(graph: Handle) -> Status;
    pub fn cuEventCreate(event: *mut Handle, flags: c_uint) -> Status;
    pub fn cuEventRecord(event: Handle, stream: Handle) -> Status;
    pub fn cuEventQuery(event: Handle) -> Status;
    pub fn cuEventSynchronize(event: Handle) -> Status;
    pub fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> Status;
    pub fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle) -> Status;
    pub fn cuEventDestroy_v2(event: Handle) -> Status;
    pub fn curandGenerateUniform(generator: Handle, to: u64, count: usize) -> Status;
}

pub const N: usize = 512;
pub const BYTES: usize = 4 * N;

/// A call's status.
macro_rules! status {
    ($($call:tt)*) => {
        // SAFETY: the pointers are of the types that the C API asks for, to as much as it asks for.
        unsafe { $($call)* }
    };
}
pub(crate) use status;

/// A call that must succeed.
macro_rules! ok {
    ($($call:tt)*) => { assert_eq!(status!($($call)*), SUCCESS) };
}
pub(crate) use ok;

/// A capture is spoilt by a `cuCtxSynchronize` of whatever thread.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn stream() -> Handle {
    let mut stream = null_mut();
    ok!(cuStreamCreate(&mut stream, 1));
    stream
}

pub fn event(flags: c_uint) -> Handle {
    let mut event = null_mut();
    ok!(cuEventCreate(&mut event, flags));
    event
}

pub fn allocate() -> u64 {
    let mut address = 0;
    ok!(cuMemAlloc_v2(&mut address, BYTES));
    address
}

pub fn write(to: u64, value: f32) {
    ok!(cuMemcpyHtoDAsync_v2(to, [value; N].as_ptr(), BYTES, null_mut()));
}

pub fn read(from: u64) -> [f32; N] {
    let mut data = [0.; N];
    ok!(cuMemcpyDtoHAsync_v2(data.as_mut_ptr(), from, BYTES, null_mut()));
    data
}

/// y = 2 x.
pub fn double(x: u64, y: u64, stream: Handle) {
    let (mut module, mut f, n) = (null_mut(), null_mut(), N as c_int);
    let image = CString::new(include_str!("../defects.ptx")).expect("no zero byte");
    ok!(cuModuleLoadData(&mut module, image.as_ptr()));
    ok!(cuModuleGetFunction(&mut f, module, c"out_of_bounds_fixed".as_ptr()));
    // Gone when the graph is launched: a capture keeps the values.
    let params = [(&raw const x).cast(), (&raw const y).cast(), (&raw const n).cast()];
    ok!(cuLaunchKernel(f, 4, 1, 1, 128, 1, 1, 0, stream, params.as_ptr(), null()));
}

pub fn begin(stream: Handle, mode: c_int) {
    ok!(cuStreamBeginCapture_v2(stream, mode));
}

pub fn state(stream: Handle) -> c_int {
    let mut state = -1;
    ok!(cuStreamIsCapturing(stream, &mut state));
    state
}

pub fn end(stream: Handle) -> (Status, Handle) {
    let mut graph = 1 as Handle;
    (status!(cuStreamEndCapture(stream, &mut graph)), graph)
}

/// Ends the capture; the executable does not need the graph.
pub fn executable(stream: Handle, flags: c_ulonglong) -> Handle {
    let ((status, graph), mut executable) = (end(stream), null_mut());
    assert_eq!(status, SUCCESS);
    ok!(cuGraphInstantiateWithFlags(&mut executable, graph, flags));
    ok!(cuGraphDestroy(graph));
    ok!(cuGraphUpload(executable, stream));
    executable
}

pub fn launch(executable: Handle, stream: Handle) -> Status {
    status!(cuGraphLaunch(executable, stream))
}
