//! Comparison and selection (9.7.6, 9.7.7), moves and conversion (9.7.9).

use crate::{check, doubles, floats, integer, words};
use half::{bf16, f16};

/// `setp`, as a bit.
fn holds(comparison: &str, a: &str, b: &str) -> String {
    format!("setp.{comparison} %r, {a}, {b}; selp.b64 %d, 1, 0, %r;")
}

#[test]
fn comparisons_of_floats() {
    type Test = fn(f64, f64) -> bool;
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
        ("nan", |a, b| a.is_nan() || b.is_nan()),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
    ];
    let single = |w: u64| f32::from_bits(w as u32) as f64;
    let half = |w: u64| f16::from_bits(w as u16).to_f64();
    for (name, test) in tests {
        for seed in 1..4 {
            let wanted = |a, b, _| test(single(a), single(b)) as u64;
            check(&holds(&format!("{name}.f32"), "%f", "%g"), floats(seed), wanted, |_| false);
            let wanted = |a, b, _| test(f64::from_bits(a), f64::from_bits(b)) as u64;
            check(&holds(&format!("{name}.f64"), "%m", "%n"), doubles(seed), wanted, |_| false);
            let wanted = |a, b, _| test(half(a), half(b)) as u64;
            check(&holds(&format!("{name}.f16"), "%i", "%j"), words(seed), wanted, |_| false);
        }
    }
    integer("set.eq.f16.f16 %l, %i, %j; cvt.u64.u16 %d, %l;", |a, b, _| (half(a) == half(b)) as u64 * 0x3c00);
}

#[test]
fn comparisons_of_integers() {
    for (bits, a, b) in [(16, "%i", "%j"), (32, "%x", "%y"), (64, "%a", "%b")] {
        let value = move |w: u64, signed: bool| {
            if signed {
                ((w << (64 - bits)) as i64 >> (64 - bits)) as i128
            } else {
                (w << (64 - bits) >> (64 - bits)) as i128
            }
        };
        for (ty, signed) in [("u", false), ("s", true)] {
            type Test = fn(&i128, &i128) -> bool;
            let tests: [(&str, Test); 6] = [
                ("eq", i128::eq),
                ("ne", i128::ne),
                ("lt", i128::lt),
                ("le", i128::le),
                ("gt", i128::gt),
                ("ge", i128::ge),
            ];
            for (name, test) in tests {
                integer(&holds(&format!("{name}.{ty}{bits}"), a, b), move |a, b, _| {
                    test(&value(a, signed), &value(b, signed)) as u64
                });
            }
        }
        integer(&holds(&format!("eq.b{bits}"), a, b), move |a, b, _| (value(a, false) == value(b, false)) as u64);
    }
}

#[test]
fn guards_and_selection() {
    integer("setp.lt.u32 %r, %x, %y; @%r mov.u64 %d, %a; @!%r mov.u64 %d, %b;", |a, b, _| {
        if (a as u32) < b as u32 { a } else { b }
    });
    integer(
        "setp.lt.u32 %r, %x, %y; selp.b32 %w, %x, 7, %r; selp.b16 %l, %i, %j, %r; cvt.u32.u16 %v, %l; mov.b64 %d, {%w, %v};",
        |a, b, _| {
            let lower = (a as u32) < b as u32;
            (if lower { a & 0xffff } else { b & 0xffff }) << 32 | if lower { a as u32 as u64 } else { 7 }
        },
    );
    integer("setp.eq.s32 %r, %z, 0; @%r bra SKIP; mov.u64 %d, %a; SKIP: add.s64 %d, %d, 1;", |a, _, c| {
        (if c as u32 == 0 { 0 } else { a }).wrapping_add(1)
    });
}

#[test]
fn moves() {
    integer("mov.b64 {%w, %v}, %a; mov.b64 %d, {%v, %w};", |a, _, _| a.rotate_left(32));
    integer("mov.b32 {%l, _}, %x; mov.b32 {_, %k}, %y; mov.b32 %w, {%k, %l}; cvt.u64.u32 %d, %w;", |a, b, _| {
        (b >> 16 & 0xffff) | (a & 0xffff) << 16
    });
    integer("mov.b16 %l, %i; cvt.u64.u16 %d, %l;", |a, _, _| a & 0xffff);
    let literals = "mov.u32 %w, WARP_SZ; xor.b32 %w, %w, 0X8000U; xor.b32 %w, %w, -0x1; mov.u32 %v, 0f3F800000; mov.b64 %d, {%w, %v};";
    integer(literals, |_, _, _| 0x3f80_0000 << 32 | (!(32 ^ 0x8000u32)) as u64);
    let bytes = |v: u64| (v as u32).to_le_bytes();
    integer("prmt.b32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", move |a, b, c| {
        let all = [bytes(a), bytes(b)].concat();
        (0..4).fold(0, |d, i| {
            let byte = all[(c >> (4 * i) & 7) as usize] as u64;
            let value = if c >> (4 * i + 3) & 1 == 0 { byte } else { (byte >> 7) * 255 };
            d | value << (8 * i)
        })
    });
}

#[test]
fn conversions_of_integers() {
    integer("cvt.s64.s32 %d, %x;", |a, _, _| a as i32 as i64 as u64);
    integer("cvt.s64.s16 %d, %i;", |a, _, _| a as i16 as i64 as u64);
    integer("cvt.s32.s8 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| a as i8 as i32 as u32 as u64);
    integer("cvt.s16.s8 %l, %x; cvt.u64.u16 %d, %l;", |a, _, _| a as i8 as i16 as u16 as u64);
    integer("cvt.u32.u8 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| a & 255);
    integer("cvt.u16.u32 %l, %x; cvt.u64.u16 %d, %l;", |a, _, _| a & 0xffff);
    integer("cvt.u32.u64 %w, %a; cvt.u64.u32 %d, %w;", |a, _, _| a & 0xffff_ffff);
    integer("cvt.rn.f32.s64 %f, %a; mov.b32 %w, %f; cvt.u64.u32 %d, %w;", |a, _, _| (a as i64 as f32).to_bits() as u64);
    integer("cvt.rn.f32.u32 %f, %x; mov.b32 %w, %f; cvt.u64.u32 %d, %w;", |a, _, _| (a as u32 as f32).to_bits() as u64);
    integer("cvt.rn.f32.u16 %f, %i; mov.b32 %w, %f; cvt.u64.u32 %d, %w;", |a, _, _| (a as u16 as f32).to_bits() as u64);
    integer("cvt.rn.f64.u64 %m, %a; mov.b64 %d, %m;", |a, _, _| (a as f64).to_bits());
    integer("cvt.rn.f64.s64 %m, %a; mov.b64 %d, %m;", |a, _, _| (a as i64 as f64).to_bits());
    integer("cvt.rn.f64.s32 %m, %x; mov.b64 %d, %m;", |a, _, _| (a as i32 as f64).to_bits());
    integer("cvt.rn.f16.s32 %l, %x; cvt.u64.u16 %d, %l;", |a, _, _| f16::from_f64(a as i32 as f64).to_bits() as u64);
    // The nearest of all 2^16 (the first of a tie is the even one: they are sorted by distance, then by parity).
    integer("and.b32 %x, %x, 0xfffff; cvt.rn.bf16.u32 %l, %x; cvt.u64.u16 %d, %l;", |a, _, _| {
        let exact = (a & 0xfffff) as i64;
        let distance = |bits: u64| (bf16::from_bits(bits as u16).to_f64() as i64 - exact).abs();
        (0..0x4a00).min_by_key(|bits| (distance(*bits), bits & 1)).unwrap_or(0)
    });
}

#[test]
fn conversions_of_floats() {
    let f = |w: u64| f32::from_bits(w as u32);
    let d = f64::from_bits;
    let nan = |w: u64| f32::from_bits(w as u32).is_nan();
    let half_nan = |w: u64| w & 0x7fff > 0x7c00;
    let double_nan = |w: u64| f64::from_bits(w).is_nan();
    let single = |cvt: &str| format!("cvt.{cvt} %f, %f; mov.b32 %w, %f; cvt.u64.u32 %d, %w;");
    let word = |cvt: &str, from: &str| format!("cvt.{cvt} %w, {from}; cvt.u64.u32 %d, %w;");
    for seed in 1..6 {
        let (s, e) = (floats(seed), doubles(seed));
        // The first of two operands becomes the high half; a NaN has one form.
        type Half = fn(f32) -> u16;
        let halves: [(&str, Half); 2] = [
            ("f16x2", |v| if v.is_nan() { 0x7fff } else { f16::from_f32(v).to_bits() }),
            ("bf16x2", |v| if v.is_nan() { 0x7fff } else { bf16::from_f32(v).to_bits() }),
        ];
        for (pair, half) in halves {
            let wanted = move |a, b, _| (half(f(a)) as u64) << 16 | half(f(b)) as u64;
            check(&word(&format!("rn.{pair}.f32"), "%f, %g"), s, wanted, |_| false);
        }
        check(&word("rni.s32.f32", "%f"), s, |a, _, _| f(a).round_ties_even() as i32 as u32 as u64, |_| false);
        check(&word("rzi.s32.f32", "%f"), s, |a, _, _| f(a).trunc() as i32 as u32 as u64, |_| false);
        check(&word("rzi.u32.f32", "%f"), s, |a, _, _| f(a).trunc() as u32 as u64, |_| false);
        check(
            &word("rni.s32.f64", "%m"),
            e,
            |a, _, _| match d(a) {
                a if a.is_nan() => 1 << 31,
                a => a.round_ties_even() as i32 as u32 as u64,
            },
            |_| false,
        );
        check(
            "cvt.rzi.s64.f64 %d, %m;",
            e,
            |a, _, _| match d(a) {
                a if a.is_nan() => 1 << 63,
                a => a.trunc() as i64 as u64,
            },
            |_| false,
        );
        check("cvt.rzi.u64.f64 %d, %m;", e, |a, _, _| if d(a).is_nan() { 1 << 63 } else { d(a) as u64 }, |_| false);
        check(
            &word("rzi.u32.f16", "%i"),
            words(seed),
            |a, _, _| f16::from_bits(a as u16).to_f64() as u32 as u64,
            |_| false,
        );
        check(&single("rpi.f32.f32"), s, |a, _, _| f(a).ceil().to_bits() as u64, nan);
        check(&single("rmi.f32.f32"), s, |a, _, _| f(a).floor().to_bits() as u64, nan);
        check("cvt.rzi.f64.f64 %m, %m; mov.b64 %d, %m;", e, |a, _, _| d(a).trunc().to_bits(), double_nan);
        let saturated = |a, _, _| if f(a).is_nan() { 0 } else { f(a).clamp(0., 1.).abs().to_bits() as u64 };
        check(&single("sat.f32.f32"), s, saturated, |_| false);
        check(
            "cvt.rn.f32.f64 %f, %m; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            e,
            |a, _, _| (d(a) as f32).to_bits() as u64,
            nan,
        );
        check("cvt.f64.f32 %m, %f; mov.b64 %d, %m;", s, |a, _, _| (f(a) as f64).to_bits(), double_nan);
        check(
            "cvt.rn.f16.f32 %l, %f; cvt.u64.u16 %d, %l;",
            s,
            |a, _, _| f16::from_f32(f(a)).to_bits() as u64,
            half_nan,
        );
        check(
            "cvt.rn.bf16.f32 %l, %f; cvt.u64.u16 %d, %l;",
            s,
            |a, _, _| bf16::from_f32(f(a)).to_bits() as u64,
            |w| bf16::from_bits(w as u16).is_nan(),
        );
        check(
            "cvt.f32.bf16 %f, %i; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            words(seed),
            |a, _, _| (a & 0xffff) << 16,
            nan,
        );
        check(
            "cvt.f32.f16 %f, %i; mov.b32 %w, %f; cvt.u64.u32 %d, %w;",
            words(seed),
            |a, _, _| f16::from_bits(a as u16).to_f32().to_bits() as u64,
            nan,
        );
    }
    // A double just above the middle of two halves: rounding twice would go down to even.
    let middle = 1. + 2f64.powi(-11) + 2f64.powi(-40);
    let body = format!("mov.f64 %m, 0d{:016X}; cvt.rn.f16.f64 %l, %m; cvt.u64.u16 %d, %l;", middle.to_bits());
    check(&body, words(1), |_, _, _| 0x3c01, |_| false);
}
