//! Floating-point arithmetic (9.7.3, 9.7.4).

use crate::{check, double, floats, integer, single, words};
use half::{bf16, f16};

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
    single("div.approx.f32 %f, %f, %g", |a, b, _| a / b);
    single("div.rn.f32 %f, %f, %g", |a, b, _| a / b);
    single("sqrt.rn.f32 %f, %f", |a, _, _| a.sqrt());
    single("rcp.rn.f32 %f, %f", |a, _, _| 1. / a);
    single("neg.f32 %f, %f", |a, _, _| -a);
    single("abs.f32 %f, %f", |a, _, _| a.abs());
    single("copysign.f32 %f, %f, %g", |a, b, _| b.copysign(a));
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
    for seed in 1..6 {
        let near = |v: f32| v.is_finite() && v.abs() > 1e-3 && v.abs() < 1e3;
        let read = |w: u64| f32::from_bits(w as u32);
        let mut inputs = floats(seed);
        inputs.iter_mut().flatten().filter(|w| !near(read(**w))).for_each(|w| *w = 1.25f32.to_bits() as u64);
        let store = "mov.b32 %w, %f; cvt.u64.u32 %d, %w;";
        // Sums and products of such numbers are exact in f64; with the third one, nearly all are.
        let sum = |a, b, _| directed(read(a) as f64 + read(b) as f64, "rz").to_bits() as u64;
        check(&format!("add.rz.f32 %f, %f, %g; {store}"), inputs, sum, |_| false);
        inputs.iter_mut().for_each(|[_, _, c]| *c = (read(*c).round() * 64.).to_bits() as u64);
        let fused = |a, b, c| directed(read(a) as f64 * read(b) as f64 + read(c) as f64, "rm").to_bits() as u64;
        check(&format!("fma.rm.f32 %f, %f, %g, %h; {store}"), inputs, fused, |_| false);
    }
    single("add.rz.f32 %f, 0f7F7FFFFF, 0f7F7FFFFF", |_, _, _| f32::MAX);
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
    for (name, f) in [("ex2", f64::exp2 as fn(f64) -> f64), ("lg2", f64::log2), ("sqrt", f64::sqrt)] {
        single(&format!("{name}.approx.f32 %f, %f"), move |a, _, _| f(a as f64) as f32);
        let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
        single(&format!("{name}.approx.ftz.f32 %f, %f"), move |a, _, _| flush(f(flush(a) as f64) as f32));
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
    double("max.f64 %m, %m, %n", |a, b, _| if a.is_nan() || b > a || b == a && b.is_sign_positive() { b } else { a });
    double("abs.f64 %m, %m", |a, _, _| a.abs());
    double("copysign.f64 %m, %m, %n", |a, b, _| b.copysign(a));
    double("rcp.approx.ftz.f64 %m, %m", |a, _, _| 1. / if a.is_subnormal() { 0f64.copysign(a) } else { a });
    // Integers, whose sum is known: 2^53 + 3 lies between two f64, and -2^53 - 3 does.
    for (a, b, want) in [(2f64.powi(53), 3., 2f64.powi(53) + 2.), (-(2f64.powi(53)), -3., -(2f64.powi(53)) - 2.)] {
        let load = format!("mov.f64 %m, 0d{:016X}; mov.f64 %n, 0d{:016X};", a.to_bits(), f64::to_bits(b));
        check(&format!("{load} add.rz.f64 %m, %m, %n; mov.b64 %d, %m;"), words(1), |_, _, _| want.to_bits(), |_| false);
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
    let pair = |w: u64| [bf16::from_bits(w as u16), bf16::from_bits((w >> 16) as u16)];
    for (op, f) in [("add", (|a, b| a + b) as fn(f64, f64) -> f64), ("mul", |a, b| a * b), ("sub", |a, b| a - b)] {
        for seed in 1..6 {
            let mut inputs = words(seed);
            inputs.iter_mut().flatten().for_each(|w| *w = (*w ^ *w >> 29) & 0x3fff_3fff); // finite
            // Sums and products of two bf16 of like exponents are exact in f64.
            let one = |a: bf16, b: bf16| bf16::from_f64(f(a.to_f64(), b.to_f64())).to_bits() as u64;
            let want = |a, b, _| one(pair(a)[0], pair(b)[0]);
            check(&format!("{op}.bf16 %l, %i, %j; cvt.u64.u16 %d, %l;"), inputs, want, |_| false);
            if op != "sub" {
                let want = |a, b, _| one(pair(a)[0], pair(b)[0]) | one(pair(a)[1], pair(b)[1]) << 16;
                check(&format!("{op}.bf16x2 %w, %x, %y; cvt.u64.u32 %d, %w;"), inputs, want, |_| false);
            }
        }
    }
    for (op, larger) in [("min", false), ("max", true)] {
        integer(&format!("{op}.NaN.f16 %l, %i, %j; cvt.u64.u16 %d, %l;"), |a, b, _| {
            let key = |v: u64| (v & 0x7fff) as i64 * if v & 0x8000 == 0 { 1 } else { -1 } * 2 - (v >> 15 & 1) as i64;
            let (a, b) = (a & 0xffff, b & 0xffff);
            match (a & 0x7fff > 0x7c00, b & 0x7fff > 0x7c00) {
                (false, false) => {
                    if (key(a) < key(b)) != larger {
                        a
                    } else {
                        b
                    }
                }
                _ => 0x7fff,
            }
        });
    }
    integer("neg.f16 %l, %i; cvt.u64.u16 %d, %l;", |a, _, _| (a ^ 0x8000) & 0xffff);
    integer("abs.bf16 %l, %i; cvt.u64.u16 %d, %l;", |a, _, _| a & 0x7fff);
}
