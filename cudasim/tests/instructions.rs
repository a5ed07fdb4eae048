//! Every instruction form against results computed here by other means: plain Rust on one lane's
//! numbers, i128 or f64 arithmetic, or numbers from the manual.

use cudasim::{Arguments, Launch, Options, Order, Simulator};
use half::{bf16, f16};

/// Runs `body` in one warp. Each lane finds its three words in `%a`, `%b`, `%c` (64 bits; `%x`, `%y`,
/// `%z` are the lower halves, `%f`, `%g`, `%h` those as f32) and leaves one in `%d`.
fn run(body: &str, inputs: &[[u64; 3]; 32]) -> Result<[u64; 32], String> {
    let ptx = format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n\
         .reg .b64 %a, %b, %c, %d, %p, %q; .reg .b32 %x, %y, %z, %w, %v, %t, %u; .reg .f32 %f, %g, %h; .reg .pred %r, %s;\n\
         .reg .b16 %i, %j, %k, %l; .reg .f64 %m, %n, %o;\n\
         ld.param.u64 %p, [p]; cvta.to.global.u64 %p, %p; mov.u32 %t, %tid.x; mul.wide.u32 %q, %t, 32; add.s64 %p, %p, %q;\n\
         ld.global.v2.u64 {{%a, %b}}, [%p]; ld.global.u64 %c, [%p+16]; mov.u64 %d, 0;\n\
         cvt.u32.u64 %x, %a; cvt.u32.u64 %y, %b; cvt.u32.u64 %z, %c; mov.b32 %f, %x; mov.b32 %g, %y; mov.b32 %h, %z;\n\
         cvt.u16.u64 %i, %a; cvt.u16.u64 %j, %b; cvt.u16.u64 %k, %c; mov.b64 %m, %a; mov.b64 %n, %b; mov.b64 %o, %c;\n\
         {body}\nst.global.u64 [%p+24], %d;\nret;\n}}\n"
    );
    let mut results = None;
    for order in Order::ALL {
        let mut simulator = Simulator::default();
        let module = simulator.load(&ptx)?;
        let kernel = simulator.kernel(module, "k")?;
        let memory = simulator.memory.allocate(32 * 32);
        let bytes: Vec<u8> = inputs.iter().flat_map(|[a, b, c]| [*a, *b, *c, 0]).flat_map(u64::to_le_bytes).collect();
        simulator.memory.write(memory, &bytes)?;
        let options = Options { order, ..Options::default() };
        let launch = Launch::new([1, 1, 1], [32, 1, 1]);
        let outcome = simulator.launch(module, &kernel, &launch, &options, Arguments::new().u64(memory).build());
        let reports = outcome.map_err(|r| r.to_string())?.reports;
        assert_eq!(reports, [], "{body}");
        let mut out = vec![0; 32 * 32];
        simulator.memory.read(memory, &mut out)?;
        let word = |i: usize| u64::from_le_bytes(out[32 * i + 24..][..8].try_into().expect("8 bytes"));
        let found: [u64; 32] = std::array::from_fn(word);
        assert_eq!(*results.get_or_insert(found), found, "{body}: the schedules differ");
    }
    results.ok_or_else(|| "no schedule".to_string())
}

/// Words with all kinds of bits: edges of every width, then a pseudo-random sequence.
fn words(seed: u64) -> [[u64; 3]; 32] {
    const EDGES: [u64; 12] =
        [0, 1, 2, 31, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, 1 << 63, u64::MAX];
    let mut state = seed;
    let mut next = |i: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let random = (state >> 17) ^ state << 23;
        if i < 20 {
            EDGES[(state >> 40) as usize % 12]
        } else {
            random
        }
    };
    std::array::from_fn(|i| std::array::from_fn(|_| next(i)))
}

/// Floats: zeros, subnormals, infinities, NaN, numbers around 1, large and tiny ones.
fn floats(seed: u64) -> [[u64; 3]; 32] {
    let edges = [
        0f32,
        -0.,
        1.,
        -1.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-40,
        -3e-39,
        f32::MAX,
        f32::MIN_POSITIVE,
        0.1,
    ];
    let mut out = words(seed);
    for (i, word) in out.iter_mut().flatten().enumerate() {
        let bits = (*word >> 7) as u32;
        let near_one = f32::from_bits(bits & 0x807f_ffff | (120 + (bits >> 8 & 15)) << 23);
        *word = if i % 3 == 0 { edges[(*word >> 9) as usize % 12] } else { near_one }.to_bits() as u64;
    }
    out
}

fn doubles(seed: u64) -> [[u64; 3]; 32] {
    let mut out = floats(seed);
    for word in out.iter_mut().flatten() {
        let wide = f32::from_bits(*word as u32) as f64;
        *word = if wide.is_finite() { wide * (1. + 3e-13 * (*word % 977) as f64) } else { wide }.to_bits();
    }
    out
}

/// Compares with a function of the three words; NaNs are equal to each other.
#[track_caller]
fn check(body: &str, inputs: [[u64; 3]; 32], expected: impl Fn(u64, u64, u64) -> u64, nan: fn(u64) -> bool) {
    let found = run(body, &inputs).unwrap_or_else(|e| panic!("{body}: {e}"));
    for ([a, b, c], found) in inputs.into_iter().zip(found) {
        let want = expected(a, b, c);
        assert!(
            found == want || nan(found) && nan(want),
            "{body}: {a:#x} {b:#x} {c:#x} give {found:#x}, not {want:#x}"
        );
    }
}

#[track_caller]
fn integer(body: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    for seed in 1..6 {
        check(body, words(seed), &expected, |_| false);
    }
}

#[track_caller]
fn single(instruction: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    let of = |w: u64| f32::from_bits(w as u32);
    for seed in 1..6 {
        let wanted = |a, b, c| expected(of(a), of(b), of(c)).to_bits() as u64;
        check(&format!("{instruction}; mov.b32 %w, %f; cvt.u64.u32 %d, %w;"), floats(seed), wanted, |w| {
            f32::from_bits(w as u32).is_nan()
        });
    }
}

#[track_caller]
fn double(instruction: &str, expected: impl Fn(f64, f64, f64) -> f64) {
    for seed in 1..6 {
        let wanted = |a, b, c| expected(f64::from_bits(a), f64::from_bits(b), f64::from_bits(c)).to_bits();
        check(&format!("{instruction}; mov.b64 %d, %m;"), doubles(seed), wanted, |w| f64::from_bits(w).is_nan());
    }
}

/// `op.ty d, a, b, c` of 16, 32 and 64 bits, in i128 arithmetic; the result is cut to `to` bits.
#[track_caller]
fn arithmetic(
    op: &str,
    types: &[&str],
    operands: usize,
    to: impl Fn(u32) -> u32,
    expected: impl Fn(i128, i128, i128, u32) -> i128,
) {
    for ty in types {
        let (signed, bits) = (ty.starts_with('s'), ty[1..].parse::<u32>().expect("bits"));
        let names = match bits {
            16 => ["%i", "%j", "%k"],
            32 => ["%x", "%y", "%z"],
            _ => ["%a", "%b", "%c"],
        };
        let read = |w: u64| match signed {
            true => ((w << (64 - bits)) as i64 >> (64 - bits)) as i128,
            false => (w << (64 - bits) >> (64 - bits)) as i128,
        };
        let to = to(bits);
        let (result, widen) = match to {
            16 => ("%l", "cvt.u64.u16 %d, %l;"),
            32 => ("%w", "cvt.u64.u32 %d, %w;"),
            _ => ("%d", ""),
        };
        let third = match (op.contains("wide"), to) {
            (true, 32) => "%z",
            (true, _) => "%c",
            _ => names[2],
        };
        let sources = [names[0], names[1], third][..operands].join(", ");
        let wide = |w: u64| if third == names[2] { read(w) } else { w as i64 as i128 };
        integer(&format!("{op}.{ty} {result}, {sources}; {widen}"), |a, b, c| {
            expected(read(a), read(b), wide(c), bits) as u64 & (!0 >> (64 - to))
        });
    }
}

const ALL: [&str; 6] = ["u16", "s16", "u32", "s32", "u64", "s64"];

#[test]
fn integer_arithmetic() {
    let same = |bits| bits;
    arithmetic("add", &ALL, 2, same, |a, b, _, _| a + b);
    arithmetic("sub", &ALL, 2, same, |a, b, _, _| a - b);
    arithmetic("mul.lo", &ALL, 2, same, |a, b, _, _| a.wrapping_mul(b));
    arithmetic("mul.hi", &ALL[..4], 2, same, |a, b, _, bits| (a * b) >> bits);
    arithmetic("mul.hi", &["u64"], 2, same, |a, b, _, _| ((a as u128 * b as u128) >> 64) as i128);
    arithmetic("mul.hi", &["s64"], 2, same, |a, b, _, _| (a * b) >> 64);
    arithmetic("mul.wide", &ALL[..4], 2, |bits| 2 * bits, |a, b, _, _| a * b);
    arithmetic("mad.lo", &ALL, 3, same, |a, b, c, _| a.wrapping_mul(b).wrapping_add(c));
    arithmetic("mad.wide", &ALL[..4], 3, |bits| 2 * bits, |a, b, c, _| a * b + c);
    arithmetic("mad.hi", &["u32", "s32"], 3, same, |a, b, c, _| ((a * b) >> 32) + c);
    arithmetic("div", &ALL, 2, same, |a, b, _, _| if b == 0 { -1 } else { a / b });
    arithmetic("rem", &ALL, 2, same, |a, b, _, _| if b == 0 { a } else { a % b });
    arithmetic("min", &ALL, 2, same, |a, b, _, _| a.min(b));
    arithmetic("max", &ALL, 2, same, |a, b, _, _| a.max(b));
    arithmetic("sad", &ALL, 3, same, |a, b, c, _| c + (a - b).abs());
    arithmetic("abs", &["s16", "s32", "s64"], 1, same, |a, _, _, _| a.abs());
    arithmetic("neg", &["s16", "s32", "s64"], 1, same, |a, _, _, _| -a);
    arithmetic("add.sat", &["s32"], 2, same, |a, b, _, _| (a + b).clamp(i32::MIN as i128, i32::MAX as i128));
    arithmetic("sub.sat", &["s32"], 2, same, |a, b, _, _| (a - b).clamp(i32::MIN as i128, i32::MAX as i128));
}

#[test]
fn bits() {
    integer("popc.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| (0..32).filter(|i| a >> i & 1 != 0).count() as u64);
    integer("popc.b64 %w, %a; cvt.u64.u32 %d, %w;", |a, _, _| (0..64).filter(|i| a >> i & 1 != 0).count() as u64);
    integer("clz.b64 %w, %a; cvt.u64.u32 %d, %w;", |a, _, _| {
        (0..64).take_while(|i| a >> (63 - i) & 1 == 0).count() as u64
    });
    integer("clz.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| {
        (0..32).take_while(|i| a >> (31 - i) & 1 == 0).count() as u64
    });
    integer("brev.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| (0..32).fold(0, |r, i| r | (a >> i & 1) << (31 - i)));
    integer("brev.b64 %d, %a;", |a, _, _| (0..64).fold(0, |r, i| r | (a >> i & 1) << (63 - i)));
    let find =
        |a: i64, bits: i32| (0..bits).rev().find(|i| (a >> i & 1 != 0) != (a < 0)).map_or(0xffff_ffff, |i| i as u64);
    integer("bfind.s32 %w, %x; cvt.u64.u32 %d, %w;", move |a, _, _| find(a as i32 as i64, 32));
    integer("bfind.u32 %w, %x; cvt.u64.u32 %d, %w;", move |a, _, _| find(a as u32 as i64, 32));
    integer("bfind.shiftamt.u32 %w, %x; cvt.u64.u32 %d, %w;", move |a, _, _| match find(a as u32 as i64, 32) {
        0xffff_ffff => 0xffff_ffff,
        i => 31 - i,
    });
    // The manual's own loop (9.7.1.19).
    let extract = |a: u64, at: u64, len: u64, bits: u64, signed: bool| {
        let bit = |i: u64| a >> i & 1;
        let sign = if !signed || len == 0 { 0 } else { bit((at + len - 1).min(bits - 1)) };
        (0..bits).fold(0, |d, i| d | (if i < len && at + i < bits { bit(at + i) } else { sign }) << i)
    };
    for (ty, bits, signed) in [("u32", 32, false), ("s32", 32, true), ("u64", 64, false), ("s64", 64, true)] {
        let (a, d, widen) = if bits == 32 { ("%x", "%w", "cvt.u64.u32 %d, %w;") } else { ("%a", "%d", "") };
        integer(&format!("bfe.{ty} {d}, {a}, %y, %z; {widen}"), move |a, b, c| {
            extract(a, b & 255, c & 255, bits, signed)
        });
    }
    let insert = |a: u64, b: u64, at: u64, len: u64, bits: u64| {
        (0..bits).fold(0, |d, i| d | (if i >= at && i < at + len { a >> (i - at) } else { b >> i } & 1) << i)
    };
    integer("bfi.b32 %w, %x, %y, %z, 5; cvt.u64.u32 %d, %w;", move |a, b, c| insert(a, b, c & 255, 5, 32));
    integer("bfi.b64 %d, %a, %b, 7, %z;", move |a, b, c| insert(a, b, 7, c & 255, 64));
    let bytes = |v: u64| (v as u32).to_le_bytes();
    let dot = move |a: u64, b: u64| (0..4).map(|i| bytes(a)[i] as i8 as i64 * bytes(b)[i] as i8 as i64).sum::<i64>();
    integer("dp4a.s32.s32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", move |a, b, c| (dot(a, b) + c as i64) as u32 as u64);
    integer("prmt.b32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", move |a, b, c| {
        let all = [bytes(a), bytes(b)].concat();
        (0..4).fold(0, |d, i| {
            let (byte, sign) = (all[(c >> (4 * i) & 7) as usize], c >> (4 * i + 3) & 1);
            d | (if sign == 0 {
                byte
            } else if byte > 127 {
                255
            } else {
                0
            } as u64)
                << (8 * i)
        })
    });
}

#[test]
fn extended_precision() {
    // 128-bit sums and differences of (a:x', b:y') as the compiler builds them.
    let sum = "add.cc.u32 %w, %x, %y; addc.u32 %v, %z, 0; mov.b64 %d, {%w, %v};";
    integer(sum, |a, b, c| (a as u32 as u64 + b as u32 as u64).wrapping_add(c << 32));
    let difference = "sub.cc.u32 %w, %x, %y; subc.u32 %v, %z, 0; mov.b64 %d, {%w, %v};";
    integer(difference, |a, b, c| (c << 32 | a as u32 as u64).wrapping_sub(b as u32 as u64));
    let product = "mad.lo.cc.u32 %w, %x, %y, %z; madc.hi.u32 %v, %x, %y, 0; mov.b64 %d, {%w, %v};";
    integer(product, |a, b, c| (a as u32 as u64 * b as u32 as u64).wrapping_add(c as u32 as u64));
    let signed = "mad.lo.cc.s32 %w, %x, %y, %z; madc.hi.s32 %v, %x, %y, 0; mov.b64 %d, {%w, %v};";
    integer(signed, |a, b, c| ((a as i32 as i64).wrapping_mul(b as i32 as i64) as u64).wrapping_add(c as u32 as u64));
}

#[test]
fn logic_and_shifts() {
    integer("and.b64 %d, %a, %b;", |a, b, _| a & b);
    integer("or.b32 %w, %x, %y; cvt.u64.u32 %d, %w;", |a, b, _| (a | b) & 0xffff_ffff);
    integer("xor.b16 %l, %i, %j; cvt.u64.u16 %d, %l;", |a, b, _| (a ^ b) & 0xffff);
    integer("not.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| a as u32 as u64 ^ 0xffff_ffff);
    integer("cnot.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| (a as u32 == 0) as u64);
    integer(
        "shl.b32 %w, %x, %y; cvt.u64.u32 %d, %w;",
        |a, b, _| if b as u32 > 31 { 0 } else { a << (b as u32) & 0xffff_ffff },
    );
    integer("shl.b64 %d, %a, %y;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    integer("shr.u64 %d, %a, %y;", |a, b, _| a.checked_shr(b as u32).unwrap_or(0));
    integer("shr.s32 %w, %x, %y; cvt.u64.u32 %d, %w;", |a, b, _| (a as i32 as i64 >> (b as u32).min(63)) as u32 as u64);
    integer("shr.u16 %l, %i, %y; cvt.u64.u16 %d, %l;", |a, b, _| (a as u16 as u64).checked_shr(b as u32).unwrap_or(0));
    integer("shf.l.wrap.b32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", |a, b, c| {
        let joined = (b as u128) << 32 & 0xffff_ffff_0000_0000 | a as u32 as u128;
        (joined << (c & 31) >> 32) as u32 as u64
    });
    integer("shf.r.clamp.b32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", |a, b, c| {
        let joined = b << 32 | a as u32 as u64;
        joined >> (c as u32).min(32) & 0xffff_ffff
    });
    integer("lop3.b32 %w, %x, %y, %z, 0x96; cvt.u64.u32 %d, %w;", |a, b, c| (a ^ b ^ c) & 0xffff_ffff);
    integer("lop3.b32 %w, %x, %y, %z, 0xe8; cvt.u64.u32 %d, %w;", |a, b, c| (a & b | a & c | b & c) & 0xffff_ffff);
    integer("setp.lt.u32 %r, %x, %y; setp.lt.u32 %s, %y, %z; or.pred %r, %r, %s; not.pred %s, %s; and.pred %r, %r, %s; selp.u64 %d, 1, 0, %r;", |a, b, c| {
        let (r, s) = ((a as u32) < b as u32, (b as u32) < c as u32);
        (r && !s) as u64 // (r or s) and not s
    });
}

/// `exact` in f64, rounded down, up or to zero: the neighbour of the nearest on the right side.
fn directed(exact: f64, mode: &str) -> f32 {
    let nearest = exact as f32;
    if exact.is_nan() || nearest as f64 == exact {
        return nearest;
    }
    let below = if nearest as f64 > exact { nearest.next_down() } else { nearest };
    match mode {
        "rm" => below,
        "rp" => below.next_up(),
        _ if exact > 0. => below,
        _ => below.next_up(),
    }
}

#[test]
fn single_precision() {
    single("add.f32 %f, %f, %g", |a, b, _| a + b);
    single("sub.rn.f32 %f, %f, %g", |a, b, _| a - b);
    single("mul.f32 %f, %f, %g", |a, b, _| (a as f64 * b as f64) as f32);
    single("div.rn.f32 %f, %f, %g", |a, b, _| a / b);
    single("sqrt.rn.f32 %f, %f", |a, _, _| a.sqrt());
    single("rcp.rn.f32 %f, %f", |a, _, _| 1. / a);
    single("neg.f32 %f, %f", |a, _, _| -a);
    single("abs.f32 %f, %f", |a, _, _| a.abs());
    single("copysign.f32 %f, %f, %g", |a, b, _| b.copysign(a));
    let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    single("add.ftz.f32 %f, %f, %g", move |a, b, _| flush(flush(a) + flush(b)));
    single("mul.ftz.sat.f32 %f, %f, %g", move |a, b, _| {
        let v = flush(flush(a) * flush(b));
        if v > 1. {
            1.
        } else if v > 0. {
            v
        } else {
            0.
        }
    });
    single("min.f32 %f, %f, %g", |a, b, _| {
        if a.is_nan() {
            b
        } else if b.is_nan() || a < b || a == b && a.is_sign_negative() {
            a
        } else {
            b
        }
    });
    single("max.f32 %f, %f, %g", |a, b, _| {
        if a.is_nan() {
            b
        } else if b.is_nan() || a > b || a == b && a.is_sign_positive() {
            a
        } else {
            b
        }
    });
    single("max.NaN.f32 %f, %f, %g", |a, b, _| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else if a > b || a == b && a.is_sign_positive() {
            a
        } else {
            b
        }
    });
    for mode in ["rz", "rm", "rp"] {
        // The product of two f32 is exact in f64; sums here stay close enough to be as well.
        single(&format!("mul.{mode}.f32 %f, %f, %g"), |a, b, _| directed(a as f64 * b as f64, mode));
        let near = |v: f32| v.is_finite() && v.abs() > 1e-3 && v.abs() < 1e3;
        let (body, read) = ("%f, %f, %g; mov.b32 %w, %f; cvt.u64.u32 %d, %w;", |w: u64| f32::from_bits(w as u32));
        for seed in 1..6 {
            let mut inputs = floats(seed);
            inputs.iter_mut().flatten().filter(|w| !near(read(**w))).for_each(|w| *w = 1.25f32.to_bits() as u64);
            check(
                &format!("add.{mode}.f32 {body}"),
                inputs,
                |a, b, _| directed(read(a) as f64 + read(b) as f64, mode).to_bits() as u64,
                |_| false,
            );
            check(
                &format!("div.{mode}.f32 {body}"),
                inputs,
                |a, b, _| {
                    // No f64 quotient of f32 numbers is so close to an f32 without being it.
                    directed(read(a) as f64 / read(b) as f64, mode).to_bits() as u64
                },
                |_| false,
            );
        }
    }
    single("fma.rn.f32 %f, %f, %g, %h", |a, b, c| {
        // Round to odd in f64, then to f32: correct, since f64 has more than twice the digits.
        let (product, c) = (a as f64 * b as f64, c as f64);
        let sum = product + c;
        let of_c = sum - product;
        let rest = (product - (sum - of_c)) + (c - of_c);
        let odd = if rest == 0. || rest.is_nan() || sum.to_bits() & 1 == 1 {
            sum
        } else if (rest > 0.) == (sum > 0.) {
            f64::from_bits(sum.to_bits() + 1)
        } else {
            f64::from_bits(sum.to_bits() - 1)
        };
        odd as f32
    });
    for (name, f) in [
        ("sin", f64::sin as fn(f64) -> f64),
        ("cos", f64::cos),
        ("ex2", f64::exp2),
        ("lg2", f64::log2),
        ("tanh", f64::tanh),
        ("sqrt", f64::sqrt),
    ] {
        single(&format!("{name}.approx.f32 %f, %f"), move |a, _, _| f(a as f64) as f32);
    }
    single("rsqrt.approx.f32 %f, %f", |a, _, _| (1. / (a as f64).sqrt()) as f32);
}

#[test]
fn double_precision() {
    double("add.f64 %m, %m, %n", |a, b, _| a + b);
    double("sub.f64 %m, %m, %n", |a, b, _| a - b);
    double("mul.f64 %m, %m, %n", |a, b, _| a * b);
    double("div.rn.f64 %m, %m, %n", |a, b, _| a / b);
    double("fma.rn.f64 %m, %m, %n, %o", f64::mul_add);
    double("sqrt.rn.f64 %m, %m", |a, _, _| a.sqrt());
    double("rcp.rn.f64 %m, %m", |a, _, _| 1. / a);
    double("neg.f64 %m, %m", |a, _, _| -a);
    double("min.f64 %m, %m, %n", |a, b, _| {
        if a.is_nan() {
            b
        } else if b.is_nan() || a < b || a == b && a.is_sign_negative() {
            a
        } else {
            b
        }
    });
    // Integers, whose sum is known: 2^53 + 1 lies between two f64.
    let big = |mode: &str| {
        format!("mov.f64 %m, 0d4340000000000000; mov.f64 %n, 0d3FF0000000000000; add.{mode}.f64 %m, %m, %n; mov.b64 %d, %m;")
    };
    for (mode, want) in
        [("rn", 9007199254740992f64), ("rz", 9007199254740992.), ("rm", 9007199254740992.), ("rp", 9007199254740994.)]
    {
        check(&big(mode), words(1), |_, _, _| want.to_bits(), |_| false);
    }
}

#[test]
fn half_precision() {
    let read = |w: u64| f16::from_bits(w as u16);
    for (op, f) in [
        ("add", (|a, b, _| a + b) as fn(f64, f64, f64) -> f64),
        ("sub", |a, b, _| a - b),
        ("mul", |a, b, _| a * b),
        ("fma.rn", |a, b, c| a * b + c),
    ] {
        let sources = if op == "fma.rn" { "%i, %j, %k" } else { "%i, %j" };
        for seed in 1..6 {
            // Multiples of 1/8 up to 32: every intermediate is exact in f32.
            let mut inputs = words(seed);
            inputs
                .iter_mut()
                .flatten()
                .for_each(|w| *w = f16::from_f32((*w >> 9 & 511) as f32 / 8. - 32.).to_bits() as u64);
            let want = |a, b, c| {
                f16::from_f32(f(read(a).to_f64(), read(b).to_f64(), read(c).to_f64()) as f32).to_bits() as u64
            };
            check(&format!("{op}.f16 %l, {sources}; cvt.u64.u16 %d, %l;"), inputs, want, |_| false);
        }
    }
    let pair = |w: u64| [f16::from_bits(w as u16), f16::from_bits((w >> 16) as u16)];
    for seed in 1..6 {
        let mut inputs = words(seed);
        inputs.iter_mut().flatten().for_each(|w| *w &= 0x3fff_3fff); // finite
        let want = |a, b, _| {
            let sums: Vec<u64> = pair(a)
                .into_iter()
                .zip(pair(b))
                .map(|(a, b)| f16::from_f32(a.to_f32() + b.to_f32()).to_bits() as u64)
                .collect();
            sums[0] | sums[1] << 16
        };
        check("add.f16x2 %w, %x, %y; cvt.u64.u32 %d, %w;", inputs, want, |_| false);
    }
    integer("neg.f16 %l, %i; cvt.u64.u16 %d, %l;", |a, _, _| (a ^ 0x8000) & 0xffff);
    integer("abs.bf16 %l, %i; cvt.u64.u16 %d, %l;", |a, _, _| a & 0x7fff);
    integer("neg.f16x2 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| (a ^ 0x8000_8000) & 0xffff_ffff);
}

#[test]
fn comparisons() {
    type Test = fn(f32, f32) -> bool;
    let tests: [(&str, Test); 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| a == b || a.is_nan() || b.is_nan()),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a < b || a.is_nan() || b.is_nan()),
        ("leu", |a, b| a <= b || a.is_nan() || b.is_nan()),
        ("gtu", |a, b| a > b || a.is_nan() || b.is_nan()),
        ("geu", |a, b| a >= b || a.is_nan() || b.is_nan()),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    let read = |w: u64| f32::from_bits(w as u32);
    for (name, test) in tests {
        for seed in 1..4 {
            check(
                &format!("setp.{name}.f32 %r, %f, %g; selp.b64 %d, 1, 0, %r;"),
                floats(seed),
                |a, b, _| test(read(a), read(b)) as u64,
                |_| false,
            );
            check(
                &format!("set.{name}.f32.f32 %f, %f, %g; mov.b32 %w, %f; cvt.u64.u32 %d, %w;"),
                floats(seed),
                |a, b, _| if test(read(a), read(b)) { 0x3f80_0000 } else { 0 },
                |_| false,
            );
        }
    }
    for (ty, a, b) in [
        ("u16", "%i", "%j"),
        ("s16", "%i", "%j"),
        ("u32", "%x", "%y"),
        ("s32", "%x", "%y"),
        ("u64", "%a", "%b"),
        ("s64", "%a", "%b"),
    ] {
        let (signed, bits) = (ty.starts_with('s'), ty[1..].parse::<u32>().expect("bits"));
        let value = move |w: u64| {
            if signed {
                ((w << (64 - bits)) as i64 >> (64 - bits)) as i128
            } else {
                (w << (64 - bits) >> (64 - bits)) as i128
            }
        };
        let both = format!("setp.lt.{ty} %r, {a}, {b}; setp.eq.and.{ty} %r|%s, {a}, {b}, !%r; selp.b64 %d, 2, 0, %s; @%r or.b64 %d, %d, 1; setp.ge.{ty} %r, {a}, {b}; @%r or.b64 %d, %d, 4;");
        integer(&both, move |a, b, _| {
            let (a, b) = (value(a), value(b));
            (a == b) as u64 | ((a > b) as u64) << 1 | ((a >= b) as u64) << 2
        });
    }
    integer("slct.u64.s32 %d, %a, %b, %z;", |a, b, c| if c as i32 >= 0 { a } else { b });
    let test = "testp.finite.f32 %r, %f; selp.b64 %d, 1, 0, %r; testp.infinite.f32 %r, %f; @%r or.b64 %d, %d, 2; testp.notanumber.f32 %r, %f; @%r or.b64 %d, %d, 4;";
    check(
        test,
        floats(3),
        |a, _, _| {
            let a = f32::from_bits(a as u32);
            a.is_finite() as u64 | (a.is_infinite() as u64) << 1 | (a.is_nan() as u64) << 2
        },
        |_| false,
    );
}

#[test]
fn conversions() {
    integer("cvt.s64.s32 %d, %x;", |a, _, _| a as i32 as i64 as u64);
    integer("cvt.s64.s8 %d, %x;", |a, _, _| a as i8 as i64 as u64);
    integer("cvt.u64.u8 %d, %a;", |a, _, _| a & 255);
    integer("cvt.s16.s8 %l, %x; cvt.u64.u16 %d, %l;", |a, _, _| a as i8 as i16 as u16 as u64);
    integer("cvt.sat.u8.s32 %l, %x; cvt.u64.u16 %d, %l;", |a, _, _| (a as i32).clamp(0, 255) as u64);
    integer("cvt.sat.s16.s64 %l, %a; cvt.u64.u16 %d, %l;", |a, _, _| (a as i64).clamp(-32768, 32767) as u16 as u64);
    integer("cvt.rn.f32.s64 %f, %a; mov.b32 %w, %f; cvt.u64.u32 %d, %w;", |a, _, _| (a as i64 as f32).to_bits() as u64);
    integer("cvt.rn.f32.u32 %f, %x; mov.b32 %w, %f; cvt.u64.u32 %d, %w;", |a, _, _| (a as u32 as f32).to_bits() as u64);
    integer("cvt.rn.f64.u64 %m, %a; mov.b64 %d, %m;", |a, _, _| (a as f64).to_bits());
    integer("cvt.rn.f64.s32 %m, %x; mov.b64 %d, %m;", |a, _, _| (a as i32 as f64).to_bits());
    let f = |w: u64| f32::from_bits(w as u32);
    let nan = |w: u64| f32::from_bits(w as u32).is_nan();
    for seed in 1..6 {
        check(
            "cvt.rni.s32.f32 %w, %f; cvt.u64.u32 %d, %w;",
            floats(seed),
            |a, _, _| f(a).round_ties_even() as i32 as u32 as u64,
            |_| false,
        );
        check(
            "cvt.rzi.u32.f32 %w, %f; cvt.u64.u32 %d, %w;",
            floats(seed),
            |a, _, _| f(a).trunc() as u32 as u64,
            |_| false,
        );
        check(
            "cvt.rmi.s64.f64 %d, %m;",
            doubles(seed),
            |a, _, _| match f64::from_bits(a) {
                a if a.is_nan() => 1 << 63,
                a => a.floor() as i64 as u64,
            },
            |_| false,
        );
        check(
            "cvt.rpi.f32.f32 %f, %f; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            floats(seed),
            |a, _, _| f(a).ceil().to_bits() as u64,
            nan,
        );
        check(
            "cvt.sat.f32.f32 %f, %f; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            floats(seed),
            |a, _, _| {
                let a = f(a);
                (if a > 1. {
                    1.
                } else if a > 0. {
                    a
                } else {
                    0f32
                })
                .to_bits() as u64
            },
            |_| false,
        );
        check(
            "cvt.rn.f32.f64 %f, %m; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            doubles(seed),
            |a, _, _| (f64::from_bits(a) as f32).to_bits() as u64,
            nan,
        );
        check(
            "cvt.rz.f32.f64 %f, %m; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            doubles(seed),
            |a, _, _| directed(f64::from_bits(a), "rz").to_bits() as u64,
            nan,
        );
        check(
            "cvt.f64.f32 %m, %f; mov.b64 %d, %m;",
            floats(seed),
            |a, _, _| (f(a) as f64).to_bits(),
            |w| f64::from_bits(w).is_nan(),
        );
        check(
            "cvt.rn.f16.f32 %l, %f; cvt.u64.u16 %d, %l;",
            floats(seed),
            |a, _, _| f16::from_f32(f(a)).to_bits() as u64,
            |w| f16::from_bits(w as u16).is_nan(),
        );
        check(
            "cvt.rn.bf16.f32 %l, %f; cvt.u64.u16 %d, %l;",
            floats(seed),
            |a, _, _| bf16::from_f32(f(a)).to_bits() as u64,
            |w| bf16::from_bits(w as u16).is_nan(),
        );
        check(
            "cvt.rn.bf16x2.f32 %w, %f, %g; and.b32 %w, %w, 0x7f807f80; cvt.u64.u32 %d, %w;",
            floats(seed),
            |a, b, _| {
                ((bf16::from_f32(f(a)).to_bits() as u64) << 16 | bf16::from_f32(f(b)).to_bits() as u64) & 0x7f80_7f80
            },
            |_| false,
        );
    }
    // A double just above the middle of two halves: rounding twice would go down to even.
    let middle = 1. + 2f64.powi(-11) + 2f64.powi(-40);
    let body = format!("mov.f64 %m, 0d{:016X}; cvt.rn.f16.f64 %l, %m; cvt.u64.u16 %d, %l;", middle.to_bits());
    check(&body, words(1), |_, _, _| 0x3c01, |_| false);
    integer("cvt.f32.f16 %f, %i; mov.b32 %w, %f; and.b32 %w, %w, 0x7f800000; cvt.u64.u32 %d, %w;", |a, _, _| {
        (f16::from_bits(a as u16).to_f32().to_bits() & 0x7f80_0000) as u64
    });
}
