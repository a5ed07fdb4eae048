//! Captured calls, which are executed at each launch, and timed events.

mod api;
mod refused;

use api::*;
use std::ffi::{CStr, c_int, c_uint};
use std::process::Command;
use std::ptr::null;
use std::{env, thread};

#[test]
fn replays_compute_from_what_is_there_then() {
    let _alone = one_at_a_time();
    for stream in [stream(), PER_THREAD] {
        let (x, y, zeros, mut scratch, mut copy) = (allocate(), allocate(), allocate(), 0, 0);
        write(y, -1.);
        write(zeros, -1.);
        assert_eq!(state(stream), 0);
        begin(stream, THREAD_LOCAL);
        assert_eq!(state(stream), 1);
        ok!(cuMemAllocAsync(&mut scratch, BYTES, stream));
        double(x, scratch, stream);
        ok!(cuMemAllocAsync(&mut copy, BYTES, stream));
        ok!(cuMemcpyDtoDAsync_v2(copy, scratch, BYTES, stream));
        ok!(cuMemFreeAsync(scratch, stream));
        double(copy, y, stream);
        ok!(cuMemFreeAsync(copy, stream));
        ok!(cuMemsetD8Async(zeros, 0, BYTES, stream));
        assert_eq!((read(y), read(zeros)), ([-1.; N], [-1.; N]), "a capture does nothing, and other streams go on");
        let executable = executable(stream, 0);
        assert_eq!(state(stream), 0);
        for value in [1., 3.] {
            write(x, value);
            write(zeros, value);
            assert_eq!(launch(executable, stream), SUCCESS);
            ok!(cuStreamSynchronize(stream));
            assert_eq!((read(y), read(zeros)), ([4. * value; N], [0.; N]));
        }
        ok!(cuGraphExecDestroy(executable));
        assert_eq!(launch(executable, stream), INVALID_VALUE);
    }
}

#[test]
fn a_graph_takes_what_the_host_copies_to_it() {
    let _alone = one_at_a_time();
    let (stream, x, values) = (stream(), allocate(), [5f32; N]);
    begin(stream, THREAD_LOCAL);
    ok!(cuMemcpyHtoDAsync_v2(x, values.as_ptr(), BYTES, stream));
    let executable = executable(stream, 0);
    for _ in 0..2 {
        write(x, 0.);
        assert_eq!(launch(executable, stream), SUCCESS);
        assert_eq!(read(x), values);
    }
}

#[test]
fn what_a_graph_leaves_allocated() {
    let _alone = one_at_a_time();
    let s = stream();
    let capture = |flags| {
        let mut y = 0;
        begin(s, THREAD_LOCAL);
        ok!(cuMemAllocAsync(&mut y, BYTES, s));
        ok!(cuMemsetD8Async(y, 0, BYTES, s));
        (executable(s, flags), y)
    };
    let (once, y) = capture(0);
    assert_eq!(status!(cuMemFreeAsync(y, s)), INVALID_VALUE, "nothing is allocated before the launch");
    assert_eq!(launch(once, s), SUCCESS);
    assert_eq!(read(y), [0.; N]);
    assert_eq!(launch(once, s), INVALID_VALUE);
    ok!(cuMemFreeAsync(y, s));
    assert_eq!(launch(once, s), SUCCESS);
    let (often, y) = capture(AUTO_FREE);
    for _ in 0..2 {
        assert_eq!(launch(often, s), SUCCESS);
        assert_eq!(read(y), [0.; N]);
        write(y, 1.);
    }
}

/// A fault leaves the device unusable: this test is run by the next, in a process of its own.
#[test]
#[ignore]
fn uninitialized_in_a_replay() {
    let (s, y, mut x, mut text) = (stream(), allocate(), 0, null());
    begin(s, THREAD_LOCAL);
    ok!(cuMemAllocAsync(&mut x, BYTES, s));
    let allocates = executable(s, AUTO_FREE);
    begin(s, THREAD_LOCAL);
    double(x, y, s);
    let reads = executable(s, 0);
    assert_eq!(launch(allocates, s), SUCCESS);
    write(x, 1.);
    assert_eq!(launch(reads, s), SUCCESS);
    // The same address, and nothing is there again.
    assert_eq!(launch(allocates, s), SUCCESS);
    assert_eq!(launch(reads, s), LAUNCH_FAILED);
    ok!(cuGetErrorString(LAUNCH_FAILED, &mut text));
    // SAFETY: the entry point leaves a C string.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    assert!(text.contains("Uninitialized") && text.contains("out_of_bounds_fixed"), "{text}");
}

#[test]
fn faults_of_a_replay_are_reported() {
    let mut command = Command::new(env::current_exe().expect("the test's binary"));
    command.args(["--ignored", "--exact", "uninitialized_in_a_replay"]);
    let output = command.output().expect("run the test's binary");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn events_tell_the_time() {
    const DISABLE_TIMING: c_uint = 2;
    let (s, mut time) = (stream(), -1.);
    let [start, end, never, untimed] = [event(0), event(0), event(0), event(DISABLE_TIMING)];
    ok!(cuEventRecord(start, s));
    thread::sleep(std::time::Duration::from_millis(20));
    for event in [end, untimed] {
        ok!(cuEventRecord(event, s));
    }
    ok!(cuEventElapsedTime_v2(&mut time, start, end));
    assert!((20. ..20_000.).contains(&time), "{time} ms");
    ok!(cuEventElapsedTime(&mut time, end, start));
    assert!((-20_000. ..=-20.).contains(&time), "{time} ms");
    ok!(cuEventDestroy_v2(end));
    for other in [never, untimed, end] {
        assert_eq!(status!(cuEventElapsedTime_v2(&mut time, start, other)), INVALID_HANDLE);
        assert_eq!(status!(cuEventElapsedTime_v2(&mut time, other, start)), INVALID_HANDLE);
    }
}

#[test]
fn the_device_describes_itself() {
    const L2_BYTES: c_int = 38;
    let (mut name, mut bytes, mut value) = ([1; 128], 0, 0);
    ok!(cuDeviceGetName(name.as_mut_ptr(), 128, 0));
    // SAFETY: it ends in a zero byte, or the test fails.
    assert_eq!(unsafe { CStr::from_ptr(name.as_ptr()) }, c"cudasim");
    ok!(cuDeviceTotalMem_v2(&mut bytes, 0));
    assert_eq!(bytes, 80 << 30);
    ok!(cuDeviceGetAttribute(&mut value, L2_BYTES, 0));
    assert_eq!(value, 50 << 20);
    ok!(cuDriverGetVersion(&mut value));
    assert_eq!(value, 13000);
}
