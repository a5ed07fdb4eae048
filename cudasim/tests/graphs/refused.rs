//! Calls that a capture refuses.

use super::api::*;
use std::ptr::null_mut;
use std::thread;

#[test]
fn what_waits_is_no_part_of_a_capture() {
    let _alone = one_at_a_time();
    let (s, other, x, mut address, mut data) = (stream(), stream(), allocate(), 0, [0f32; N]);
    let (outside, inside) = (event(0), event(0));
    ok!(cuEventRecord(outside, s));
    let refused = |mode, expected, call: &mut dyn FnMut() -> Status| {
        begin(s, mode);
        ok!(cuEventRecord(inside, s));
        assert_eq!(call(), expected);
        assert_eq!(state(s), 2);
        assert_eq!(status!(cuMemsetD8Async(x, 0, BYTES, s)), CAPTURE_INVALIDATED);
        assert_eq!(end(s), (CAPTURE_INVALIDATED, null_mut()));
        assert_eq!(state(s), 0);
    };
    for mode in [GLOBAL, THREAD_LOCAL, RELAXED] {
        refused(mode, CAPTURE_UNSUPPORTED, &mut || status!(cuStreamSynchronize(s)));
        refused(mode, CAPTURE_UNSUPPORTED, &mut || status!(cuCtxSynchronize()));
        refused(mode, CAPTURE_UNSUPPORTED, &mut || status!(cuMemcpyDtoHAsync_v2(data.as_mut_ptr(), x, BYTES, s)));
        refused(mode, CAPTURED_EVENT, &mut || status!(cuEventQuery(inside)));
        refused(mode, CAPTURED_EVENT, &mut || status!(cuEventSynchronize(inside)));
        refused(mode, CAPTURE_ISOLATION, &mut || status!(cuStreamWaitEvent(s, outside, 0)));
        refused(mode, NOT_SUPPORTED, &mut || status!(cuStreamWaitEvent(other, inside, 0)));
        refused(mode, INVALID_VALUE, &mut || status!(cuMemFreeAsync(x, s))); // it is not the graph's
        refused(mode, RAND_LAUNCH_FAILURE, &mut || status!(curandGenerateUniform(null_mut(), x, N)));
    }
    for mode in [GLOBAL, THREAD_LOCAL] {
        refused(mode, CAPTURE_UNSUPPORTED, &mut || status!(cuMemAlloc_v2(&mut address, BYTES)));
        refused(mode, CAPTURE_UNSUPPORTED, &mut || status!(cuMemFree_v2(x)));
        refused(mode, CAPTURE_UNSUPPORTED, &mut || status!(cuEventSynchronize(outside)));
    }
    let elsewhere = || thread::spawn(|| status!(cuMemAlloc_v2(&mut 0, BYTES))).join().expect("no panic");
    refused(GLOBAL, CAPTURE_UNSUPPORTED, &mut || elsewhere());
    begin(s, THREAD_LOCAL);
    assert_eq!(elsewhere(), SUCCESS);
    assert_eq!(end(s).0, SUCCESS);
    begin(PER_THREAD, THREAD_LOCAL);
    assert_eq!(thread::spawn(|| state(PER_THREAD)).join().expect("no panic"), 0);
    assert_eq!(end(PER_THREAD).0, SUCCESS);
    begin(s, RELAXED);
    ok!(cuMemAlloc_v2(&mut address, BYTES));
    ok!(cuMemFree_v2(address));
    ok!(cuEventSynchronize(outside));
    // Within the capture an event orders nothing that is not ordered.
    ok!(cuEventRecord(inside, s));
    ok!(cuStreamWaitEvent(s, inside, 0));
    assert_eq!(end(s).0, SUCCESS);
}

#[test]
fn captures_have_a_beginning_and_an_end() {
    let _alone = one_at_a_time();
    let (s, mut executable) = (stream(), null_mut());
    assert_eq!(end(s), (ILLEGAL_STATE, null_mut()));
    assert_eq!(status!(cuStreamBeginCapture_v2(null_mut(), RELAXED)), CAPTURE_UNSUPPORTED);
    begin(s, THREAD_LOCAL);
    assert_eq!(status!(cuStreamBeginCapture_v2(s, THREAD_LOCAL)), ILLEGAL_STATE);
    let (status, graph) = end(s);
    assert_eq!(status, SUCCESS);
    assert_eq!(status!(cuGraphInstantiateWithFlags(&mut executable, graph, AUTO_FREE | DEVICE_LAUNCH)), INVALID_VALUE);
    ok!(cuGraphDestroy(graph));
    assert_eq!(status!(cuGraphInstantiateWithFlags(&mut executable, graph, 0)), INVALID_VALUE);
}
