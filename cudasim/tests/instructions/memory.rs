//! Loads, stores and atomics (9.7.9, 9.7.13), lanes together (9.7.9.6), calls, special registers,
//! and what is refused when it is loaded.

use crate::{integer, run, words};
use cudasim::{Launch, Options, Order, Simulator};
use half::{bf16, f16};

#[test]
fn loads_and_stores() {
    // Each lane at its own 16 bytes of shared memory.
    let at = "{ .shared .align 16 .b8 tile[512]; mul.lo.u32 %u, %t, 16; mov.u32 %v, tile; add.s32 %u, %u, %v;";
    integer(
        &format!(
            "{at} st.shared.v2.b64 [%u], {{%a, %b}}; ld.shared.v4.u32 {{%w, %v, %z, %y}}, [%u]; mov.b64 %d, {{%z, %w}}; }}"
        ),
        |a, b, _| (b & 0xffff_ffff) | a << 32,
    );
    integer(
        &format!(
            "{at} st.shared.u64 [%u+8], %a; ld.shared.s8 %w, [%u+9]; ld.shared.u16 %l, [%u+10]; cvt.u32.u16 %v, %l; mov.b64 %d, {{%w, %v}}; }}"
        ),
        |a, _, _| (a >> 8) as i8 as i32 as u32 as u64 | (a >> 16 & 0xffff) << 32,
    );
    // Through the generic window, and through local memory.
    integer(
        &format!("{at} cvt.u64.u32 %q, %u; cvta.shared.u64 %q, %q; st.u64 [%q], %a; ld.u64 %d, [%q]; }}"),
        |a, _, _| a,
    );
    integer(
        "{ .local .align 8 .b8 depot[24]; mov.u64 %q, depot; st.local.u64 [%q+8], %a; st.local.u32 [depot+12], %y; ld.local.u64 %d, [%q+8]; }",
        |a, b, _| a & 0xffff_ffff | b << 32,
    );
}

#[test]
fn calls() {
    let ptx = ".func (.param .b64 r) twice(.param .b64 a, .param .b32 n)\n{\n\
        .reg .b64 %v; .reg .b32 %n; .reg .pred %p; ld.param.u64 %v, [a]; ld.param.u32 %n, [n];\n\
        setp.eq.s32 %p, %n, 0; @%p bra END; add.s64 %v, %v, %v; END: st.param.u64 [r], %v; ret;\n}\n";
    let body = "{ .param .b64 p0; .param .b32 p1; .param .b64 r0; st.param.b64 [p0], %a; st.param.b32 [p1], %y;\n\
        call.uni (r0), twice, (p0, p1); ld.param.b64 %d, [r0]; }";
    let expected = |[a, b, _]: [u64; 3]| if b as u32 == 0 { a } else { a.wrapping_add(a) };
    let found = crate::run_with(ptx, body, &words(3)).expect("a call");
    assert_eq!(found, words(3).map(expected));
}

#[test]
fn shuffles() {
    let inputs = words(2);
    let of = |lane: usize| inputs[lane][0] & 0xffff_ffff;
    for (mode, c, source) in [
        ("bfly.b32 %w|%r, %x, 5", "31", (|l| Some(l ^ 5)) as fn(usize) -> Option<usize>),
        ("down.b32 %w|%r, %x, 3", "31", |l| Some(l + 3).filter(|l| *l < 32)),
        ("up.b32 %w|%r, %x, 3", "0", |l| l.checked_sub(3)),
        ("idx.b32 %w|%r, %x, 9", "31", |_| Some(9)),
        // Segments of 8 lanes.
        ("down.b32 %w|%r, %x, 3", "0x181f", |l| Some(l + 3).filter(|s| s / 8 == l / 8)),
        ("idx.b32 %w|%r, %x, 9", "0x181f", |l| Some(l / 8 * 8 + 1)),
    ] {
        let body = format!("shfl.sync.{mode}, {c}, -1; selp.b32 %v, 1, 0, %r; mov.b64 %d, {{%w, %v}};");
        let expected = |lane: usize| match source(lane) {
            Some(source) => of(source) | 1 << 32,
            None => of(lane),
        };
        assert_eq!(run(&body, &inputs).expect(&body), std::array::from_fn::<_, 32, _>(expected), "{body}");
    }
}

#[test]
fn special_registers() {
    let places = "mov.u32 %w, %ctaid.x; mov.u32 %v, %ntid.x; mad.lo.s32 %w, %w, 1000, %v; mov.u32 %v, %nctaid.y; mov.b64 %d, {%w, %v};";
    assert_eq!(run(places, &words(1)).expect("special registers"), [1 << 32 | 32; 32]);
    let threads = "mov.u32 %w, %tid.x; mov.u32 %v, %tid.y; mov.b64 %d, {%w, %v};";
    assert_eq!(run(threads, &words(1)).expect("special registers"), std::array::from_fn(|l| l as u64));
}

/// Every lane adds its number to one place; the sum, as bits, and what each lane found there.
fn atomic(ty: &str, store: &str, bytes: usize, number: impl Fn(usize) -> u64) -> u64 {
    let ptx = format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p, .param .u64 x)\n{{\n\
         .reg .b64 %p, %x, %q, %v; .reg .b32 %t, %w; .reg .b16 %h;\n\
         ld.param.u64 %p, [p]; ld.param.u64 %x, [x]; mov.u32 %t, %tid.x; mul.wide.u32 %q, %t, 8; add.s64 %x, %x, %q;\n\
         ld.global.u64 %v, [%x]; cvt.u32.u64 %w, %v; cvt.u16.u32 %h, %w; atom.{ty} {store}, [%p], {store}; ret;\n}}\n"
    );
    let mut sums = Order::ALL.map(|order| {
        let mut simulator = Simulator::default();
        let module = simulator.load(&ptx).expect("load");
        let kernel = simulator.kernel(module, "k").expect("decode");
        let (sum, numbers) = (simulator.memory.allocate(bytes), simulator.memory.allocate(64 * 8));
        simulator.memory.write(sum, &vec![0; bytes]).expect("write");
        let words: Vec<u8> = (0..64).flat_map(|i| number(i).to_le_bytes()).collect();
        simulator.memory.write(numbers, &words).expect("write");
        let arguments = [sum.to_le_bytes(), numbers.to_le_bytes()].concat();
        let launch = Launch::new([1, 1, 1], [64, 1, 1]);
        let outcome = simulator.launch(module, &kernel, &launch, &Options { order, ..Options::default() }, arguments);
        let outcome = outcome.expect("run");
        assert_eq!(outcome.reports, []);
        assert_eq!(outcome.statistics.atomics, 64);
        let mut word = [0; 8];
        simulator.memory.read(sum, &mut word[..bytes]).expect("read");
        u64::from_le_bytes(word)
    });
    sums.sort_unstable();
    assert_eq!(sums[0], sums[2], "{ty}: small integers have one sum");
    sums[0]
}

#[test]
fn atomics() {
    let total = (0..64).sum::<usize>();
    assert_eq!(atomic("global.add.u32", "%w", 4, |i| i as u64), total as u64);
    assert_eq!(atomic("add.release.gpu.u32", "%w", 4, |_| u32::MAX as u64), (u32::MAX - 63) as u64);
    assert_eq!(atomic("global.add.u64", "%v", 8, |i| i as u64), total as u64);
    assert_eq!(atomic("global.add.f32", "%w", 4, |i| (i as f32).to_bits() as u64), (total as f32).to_bits() as u64);
    assert_eq!(atomic("global.add.f64", "%v", 8, |i| (i as f64).to_bits()), (total as f64).to_bits());
    let half = |i: usize| f16::from_f32(i as f32 / 2.).to_bits() as u64;
    assert_eq!(atomic("add.noftz.f16", "%h", 2, half), half(total));
    let brain = |i: usize| bf16::from_f32((i % 2) as f32).to_bits() as u64;
    assert_eq!(atomic("add.noftz.bf16", "%h", 2, brain), bf16::from_f32(32.).to_bits() as u64);
}

#[test]
fn what_is_not_supported_is_named_when_it_is_loaded() {
    for instruction in [
        "popc.b32 %w, %x;",
        "shf.l.wrap.b32 %w, %x, %y, %z;",
        "add.ftz.f32 %f, %f, %g;",
        "add.sat.s32 %w, %x, %y;",
        "fma.rp.f32 %f, %f, %g, %h;",
        "cvt.rz.f32.f64 %f, %m;",
        "bar.sync 1;",
        "bar.red.or.pred %r, 0, %s;",
        "fence.sc.gpu;",
        "vote.sync.any.pred %r, %s, -1;",
        "membar.gl;",
        "red.global.add.u32 [%p], %x;",
        "atom.global.cas.b32 %w, [%p], %x, %y;",
        "mov.u32 %w, %laneid;",
        "cp.async.ca.shared.global [%u], [%p], 16;",
        "ld.global.L1::evict_last.u32 %w, [%p];",
        "st.global.v8.u32 [%p], {%w, %w, %w, %w, %w, %w, %w, %w};",
        "setp.lt.and.u32 %r, %x, %y, %s;",
    ] {
        let error = run(instruction, &words(1)).expect_err(instruction);
        let text = instruction.trim_end_matches(';');
        assert!(error.contains(&format!("`{text}`: ")) && error.contains("PTX line"), "{instruction}: {error}");
    }
}
