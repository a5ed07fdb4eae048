//! The entry points of libcuda that no test of the kernels calls: launches with attributes, events,
//! and what is refused. Called as a C program would.

use cudasim as _; // links the entry points
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};

type Handle = *mut c_void;
type Status = c_int;

const SUCCESS: Status = 0;
const INVALID_VALUE: Status = 1;
const NOT_FOUND: Status = 500;
const NOT_SUPPORTED: Status = 801;

/// `CUlaunchConfig` and `CUlaunchAttribute` of cuda.h.
#[repr(C)]
struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: Handle,
    attributes: *const Attribute,
    count: c_uint,
}

#[repr(C)]
struct Attribute {
    id: c_int,
    padding: [u8; 4],
    value: [c_uint; 16],
}

const COOPERATIVE: c_int = 2;
const CLUSTER_DIMENSION: c_int = 4;

unsafe extern "C" {
    fn cuInit(flags: c_uint) -> Status;
    fn cuGetErrorString(status: Status, text: *mut *const c_char) -> Status;
    fn cuModuleLoadData(module: *mut Handle, image: *const c_char) -> Status;
    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> Status;
    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: Handle) -> Status;
    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) -> Status;
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(count: *mut c_int, f: Handle, threads: c_int, s: usize) -> Status;
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> Status;
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, stream: Handle) -> Status;
    fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, stream: Handle) -> Status;
    fn cuLaunchCooperativeKernel(
        f: Handle, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint, shared: c_uint,
        stream: Handle, params: *const *const u8,
    ) -> Status;
    fn cuLaunchKernelEx(
        config: *const Config, f: Handle, params: *const *const u8, extra: *const *mut c_void,
    ) -> Status;
    fn cuStreamCreate(stream: *mut Handle, flags: c_uint) -> Status;
    fn cuStreamIsCapturing(stream: Handle, status: *mut c_int) -> Status;
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) -> Status;
    fn cuStreamSynchronize(stream: Handle) -> Status;
    fn cuStreamDestroy_v2(stream: Handle) -> Status;
    fn cuEventCreate(event: *mut Handle, flags: c_uint) -> Status;
    fn cuEventRecord(event: Handle, stream: Handle) -> Status;
    fn cuEventQuery(event: Handle) -> Status;
    fn cuEventDestroy_v2(event: Handle) -> Status;
}

const N: usize = 512;
const THREADS: c_uint = 128;
const BLOCKS: c_uint = N as c_uint / THREADS;

fn message(status: Status) -> String {
    let mut text = null();
    // SAFETY: the entry point leaves a C string that is never freed.
    unsafe {
        assert_eq!(cuGetErrorString(status, &mut text), SUCCESS);
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

fn module() -> Handle {
    let image = CString::new(include_str!("defects.ptx")).expect("no zero byte");
    let mut module = null_mut();
    // SAFETY: the pointers are of the types that the C API asks for, here and below.
    unsafe {
        assert_eq!(cuInit(0), SUCCESS);
        assert_eq!(cuModuleLoadData(&mut module, image.as_ptr()), SUCCESS);
    }
    module
}

fn function(name: &str) -> Handle {
    let (mut function, name) = (null_mut(), CString::new(name).expect("no zero byte"));
    // SAFETY: as in `module`.
    assert_eq!(unsafe { cuModuleGetFunction(&mut function, module(), name.as_ptr()) }, SUCCESS);
    function
}

/// Runs a kernel `(x, y, n)` on x = 0, 1, 2 ... with `launch`, and returns its status and y.
fn run(launch: impl FnOnce(*const *const u8) -> Status) -> (Status, Vec<f32>) {
    let x: Vec<u8> = (0..N).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let (mut input, mut output, n, mut y) = (0u64, 0u64, N as i32, vec![0u8; 4 * N]);
    // SAFETY: as in `module`; the buffers have the lengths that are given.
    unsafe {
        assert_eq!(cuMemAlloc_v2(&mut input, 4 * N), SUCCESS);
        assert_eq!(cuMemAlloc_v2(&mut output, 4 * N), SUCCESS);
        assert_eq!(cuMemcpyHtoDAsync_v2(input, x.as_ptr(), 4 * N, null_mut()), SUCCESS);
        let params = [(&raw const input).cast(), (&raw const output).cast(), (&raw const n).cast()];
        let status = launch(params.as_ptr());
        if status == SUCCESS {
            assert_eq!(cuMemcpyDtoHAsync_v2(y.as_mut_ptr(), output, 4 * N, null_mut()), SUCCESS);
        }
        (status, y.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

/// `cuLaunchKernelEx` with one attribute, or none.
fn launch_ex(f: Handle, blocks: c_uint, attribute: Option<(c_int, [c_uint; 3])>) -> (Status, Vec<f32>) {
    let attributes: Vec<Attribute> = attribute
        .into_iter()
        .map(|(id, [x, y, z])| {
            let mut value = [0; 16];
            value[..3].copy_from_slice(&[x, y, z]);
            Attribute { id, padding: [0; 4], value }
        })
        .collect();
    let config = Config {
        grid: [blocks, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        stream: null_mut(),
        attributes: attributes.as_ptr(),
        count: attributes.len() as c_uint,
    };
    // SAFETY: as in `module`; the configuration and its attributes outlive the call.
    run(|params| unsafe { cuLaunchKernelEx(&config, f, params, null()) })
}

/// Block b gets what block b + 1 has, across a barrier of the grid.
fn next_block() -> Vec<f32> {
    (0..N).map(|i| ((i + THREADS as usize) % N) as f32).collect()
}

#[test]
fn cooperative_launch() {
    let f = function("grid_barrier_fixed");
    let cooperative = |blocks| {
        // SAFETY: as in `module`.
        run(|params| unsafe { cuLaunchCooperativeKernel(f, blocks, 1, 1, THREADS, 1, 1, 0, null_mut(), params) })
    };
    assert_eq!(cooperative(BLOCKS), (SUCCESS, next_block()));
    let (status, _) = cooperative(100_000);
    assert_eq!(status, INVALID_VALUE);
    assert!(message(status).contains("100000 blocks that cannot all be resident"), "{}", message(status));
}

#[test]
fn cooperative_attribute() {
    let f = function("grid_barrier_fixed");
    assert_eq!(launch_ex(f, BLOCKS, Some((COOPERATIVE, [1, 0, 0]))), (SUCCESS, next_block()));
}

#[test]
fn cluster_attribute() {
    let f = function("block_barrier_fixed");
    let neighbour: Vec<f32> = (0..N).map(|i| (i ^ THREADS as usize) as f32).collect();
    assert_eq!(launch_ex(f, BLOCKS, Some((CLUSTER_DIMENSION, [2, 1, 1]))), (SUCCESS, neighbour));
    for (blocks, attribute, why) in [
        (BLOCKS, None, "clusters of [1, 1, 1], not what it requires"),
        (BLOCKS, Some((CLUSTER_DIMENSION, [4, 1, 1])), "clusters of [4, 1, 1], not what it requires"),
        (BLOCKS + 1, Some((CLUSTER_DIMENSION, [2, 1, 1])), "clusters of [2, 1, 1] in a grid of [5, 1, 1]"),
    ] {
        let (status, _) = launch_ex(f, blocks, attribute);
        assert_eq!(status, INVALID_VALUE);
        assert!(message(status).contains(why), "{}", message(status));
    }
}

#[test]
fn other_attributes_are_refused() {
    let (status, _) = launch_ex(function("misaligned_fixed"), BLOCKS, Some((6, [1, 0, 0])));
    assert_eq!(status, NOT_SUPPORTED);
    assert!(message(status).contains("launch attribute 6 is not emulated"), "{}", message(status));
}

#[test]
fn functions_tell_and_take_their_limits() {
    const SHARED_BYTES: c_int = 1;
    const MAX_DYNAMIC_SHARED: c_int = 8;
    let (f, mut value, mut count) = (function("missing_barrier_fixed"), 0, 0);
    // SAFETY: as in `module`.
    unsafe {
        assert_eq!(cuFuncGetAttribute(&mut value, SHARED_BYTES, f), SUCCESS);
        assert_eq!(value, 4 * THREADS as c_int);
        assert_eq!(cuFuncSetAttribute(f, MAX_DYNAMIC_SHARED, 227 << 10), INVALID_VALUE); // with the 512 static bytes
        assert_eq!(cuFuncSetAttribute(f, MAX_DYNAMIC_SHARED, 100 << 10), SUCCESS);
        assert_eq!(cuFuncGetAttribute(&mut value, MAX_DYNAMIC_SHARED, f), SUCCESS);
        assert_eq!(value, 100 << 10);
        for (threads, shared, blocks) in [(1024, 0, 2), (32, 0, 32), (128, 100 << 10, 2)] {
            assert_eq!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, f, threads, shared), SUCCESS);
            assert_eq!(count, blocks, "{threads} threads, {shared} bytes");
        }
    }
}

#[test]
fn missing_names_are_errors() {
    let (module, name, mut f) = (module(), c"nothing", null_mut());
    // SAFETY: as in `module`.
    unsafe {
        assert_eq!(cuModuleGetFunction(&mut f, module, name.as_ptr()), NOT_FOUND);
        assert!(message(NOT_FOUND).contains("no kernel nothing"));
    }
}

#[test]
fn streams_and_events() {
    let (mut stream, mut start, mut end, mut capturing) = (null_mut(), null_mut(), null_mut(), 1);
    // SAFETY: as in `module`.
    unsafe {
        assert_eq!(cuStreamCreate(&mut stream, 0), SUCCESS);
        assert_eq!(cuStreamIsCapturing(stream, &mut capturing), SUCCESS);
        assert_eq!(capturing, 0);
        for event in [&mut start, &mut end] {
            assert_eq!(cuEventCreate(event, 0), SUCCESS);
        }
        assert_eq!(cuEventRecord(start, stream), SUCCESS);
        assert_eq!(cuStreamWaitEvent(stream, start, 0), SUCCESS);
        assert_eq!(cuEventRecord(end, stream), SUCCESS);
        assert_eq!(cuEventQuery(end), SUCCESS);
        assert_eq!(cuStreamSynchronize(stream), SUCCESS);
        assert_eq!(cuEventDestroy_v2(start), SUCCESS);
        assert_eq!(cuEventDestroy_v2(end), SUCCESS);
        assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
    }
}
