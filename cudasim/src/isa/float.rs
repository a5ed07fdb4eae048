//! Floating-point arithmetic (9.7.3), and of half precision (9.7.4).
//!
//! `.approx` gives the exact result rounded to nearest: a GPU is off by a few ulp there.

use super::form::{Decoded, Form};
use super::rounding::{flush, Float, Real, Rounding};
use crate::ptx::types::Type;
use half::{bf16, f16};

pub fn decode(form: &Form) -> Option<Decoded> {
    let ty = *form.types.first()?;
    if !ty.is_float() {
        return None;
    }
    let known = matches!(
        form.name,
        "add"
            | "sub"
            | "mul"
            | "fma"
            | "mad"
            | "div"
            | "min"
            | "max"
            | "abs"
            | "neg"
            | "sqrt"
            | "rsqrt"
            | "rcp"
            | "ex2"
            | "lg2"
            | "sin"
            | "cos"
            | "tanh"
            | "copysign"
            | "testp"
    );
    if !known {
        return None;
    }
    let same_types = form.types.iter().all(|t| *t == ty);
    if !same_types {
        return Some(Err(form.unsupported())); // mixed precision (9.7.5)
    }
    form.ignore(&["approx", "full"]);
    Some(match ty {
        Type::F32 => single(form),
        Type::F64 => double(form),
        _ => half(form, ty),
    })
}

/// The rounding that the opcode asks for.
fn rounding(form: &Form) -> Rounding {
    form.which(&Rounding::MODIFIERS).map_or(Rounding::Nearest, Rounding::at)
}

fn single(form: &Form) -> Decoded {
    let mode = rounding(form);
    let exact = mode == Rounding::Nearest;
    let nan = form.has("NaN");
    match form.name {
        "add" if exact => f32_2(form, |a, b| a + b),
        "add" => f32_2(form, move |a, b| a.add_rounded(b, mode)),
        "sub" if exact => f32_2(form, |a, b| a - b),
        "sub" => f32_2(form, move |a, b| a.add_rounded(-b, mode)),
        "mul" if exact => f32_2(form, |a, b| a * b),
        "mul" => f32_2(form, move |a, b| a.mul_rounded(b, mode)),
        "fma" | "mad" if exact => f32_3(form, f32::mul_add),
        "fma" | "mad" => f32_3(form, move |a, b, c| a.fma_rounded(b, c, mode)),
        "div" if exact => f32_2(form, |a, b| a / b),
        "div" => f32_2(form, move |a, b| a.div_rounded(b, mode)),
        "min" => f32_2(form, move |a, b| minimum(a as f64, b as f64, nan) as f32),
        "max" => f32_2(form, move |a, b| -minimum(-a as f64, -b as f64, nan) as f32),
        "abs" => f32_bits(form, |a| a & 0x7fff_ffff),
        "neg" => f32_bits(form, |a| a ^ 0x8000_0000),
        "sqrt" if exact => f32_1(form, f32::sqrt),
        "sqrt" => f32_1(form, move |a| a.sqrt_rounded(mode)),
        "rcp" if exact => f32_1(form, |a| 1. / a),
        "rcp" => f32_1(form, move |a| 1f32.div_rounded(a, mode)),
        "rsqrt" => f32_1(form, |a| (1. / (a as f64).sqrt()) as f32),
        "ex2" => f32_1(form, |a| (a as f64).exp2() as f32),
        "lg2" => f32_1(form, |a| (a as f64).log2() as f32),
        "sin" => f32_1(form, |a| (a as f64).sin() as f32),
        "cos" => f32_1(form, |a| (a as f64).cos() as f32),
        "tanh" => f32_1(form, |a| (a as f64).tanh() as f32),
        "copysign" => form.map2(|a: u32, b: u32| b & 0x7fff_ffff | a & 0x8000_0000),
        "testp" => test::<f32>(form),
        _ => Err(form.unsupported()),
    }
}

fn double(form: &Form) -> Decoded {
    let mode = rounding(form);
    let exact = mode == Rounding::Nearest;
    match form.name {
        "add" if exact => form.map2(|a: f64, b: f64| a + b),
        "add" => form.map2(move |a: f64, b: f64| a.add_rounded(b, mode)),
        "sub" if exact => form.map2(|a: f64, b: f64| a - b),
        "sub" => form.map2(move |a: f64, b: f64| a.add_rounded(-b, mode)),
        "mul" if exact => form.map2(|a: f64, b: f64| a * b),
        "mul" => form.map2(move |a: f64, b: f64| a.mul_rounded(b, mode)),
        "fma" | "mad" if exact => form.map3(|a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "fma" | "mad" => form.map3(move |a: f64, b: f64, c: f64| a.fma_rounded(b, c, mode)),
        "div" if exact => form.map2(|a: f64, b: f64| a / b),
        "div" => form.map2(move |a: f64, b: f64| a.div_rounded(b, mode)),
        "min" => form.map2(|a: f64, b: f64| minimum(a, b, false)),
        "max" => form.map2(|a: f64, b: f64| -minimum(-a, -b, false)),
        "abs" => form.map1(|a: u64| a & !(1 << 63)),
        "neg" => form.map1(|a: u64| a ^ 1 << 63),
        "sqrt" if exact => form.map1(f64::sqrt),
        "sqrt" => form.map1(move |a: f64| a.sqrt_rounded(mode)),
        // The approximations of f64 flush subnormals (9.7.3.14, 9.7.3.17).
        "rcp" if form.has("ftz") => {
            form.map1(|a: f64| if a.is_subnormal() { f64::INFINITY.copysign(a) } else { 1. / a })
        }
        "rcp" if exact => form.map1(|a: f64| 1. / a),
        "rcp" => form.map1(move |a: f64| 1f64.div_rounded(a, mode)),
        "rsqrt" => {
            form.ignore(&["ftz"]);
            form.map1(|a: f64| 1. / a.sqrt())
        }
        "copysign" => form.map2(|a: u64, b: u64| b & !(1 << 63) | a & 1 << 63),
        "testp" => test::<f64>(form),
        _ => Err(form.unsupported()),
    }
}

/// The smaller one, -0 below +0; a NaN only if both are, or if either is and `nan` asks for it.
fn minimum(a: f64, b: f64, nan: bool) -> f64 {
    if a.is_nan() || b.is_nan() {
        let other = if a.is_nan() { b } else { a };
        return if nan { f64::NAN } else { other };
    }
    if a < b || a == b && a.is_sign_negative() {
        a
    } else {
        b
    }
}

/// `.sat`: into [0, 1], NaN to 0.
fn saturate(x: f32) -> f32 {
    if x > 0. {
        x.min(1.)
    } else {
        0.
    }
}

fn f32_1(form: &Form, f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Decoded {
    match form.has("ftz") {
        false => form.map1(f),
        true => form.map1(move |a| flush(f(flush(a)))),
    }
}

fn f32_bits(form: &Form, f: fn(u32) -> u32) -> Decoded {
    match form.has("ftz") {
        false => form.map1(f),
        true => form.map1(move |a| f(flush(f32::from_bits(a)).to_bits())),
    }
}

fn f32_2(form: &Form, f: impl Fn(f32, f32) -> f32 + Send + Sync + 'static) -> Decoded {
    match (form.has("ftz"), form.has("sat")) {
        (false, false) => form.map2(f),
        (false, true) => form.map2(move |a, b| saturate(f(a, b))),
        (true, false) => form.map2(move |a, b| flush(f(flush(a), flush(b)))),
        (true, true) => form.map2(move |a, b| saturate(flush(f(flush(a), flush(b))))),
    }
}

fn f32_3(form: &Form, f: impl Fn(f32, f32, f32) -> f32 + Send + Sync + 'static) -> Decoded {
    match (form.has("ftz"), form.has("sat")) {
        (false, false) => form.map3(f),
        (false, true) => form.map3(move |a, b, c| saturate(f(a, b, c))),
        (true, false) => form.map3(move |a, b, c| flush(f(flush(a), flush(b), flush(c)))),
        (true, true) => form.map3(move |a, b, c| saturate(flush(f(flush(a), flush(b), flush(c))))),
    }
}

fn test<T: Real>(form: &Form) -> Decoded {
    let place = form.which(&["finite", "infinite", "number", "notanumber"]);
    let test = match place.ok_or_else(|| form.unsupported())? {
        0 => f64::is_finite,
        1 => f64::is_infinite,
        2 => |x: f64| !x.is_nan(),
        _ => f64::is_nan,
    };
    let (p, a) = (form.any_dst(0, 1)?, form.src::<T>(1)?);
    form.custom(move |r, mask| {
        use crate::machine::registers::{Word, LANES};
        let a = T::Word::plane(r, a);
        let holds = (0..LANES).fold(0, |m, i| m | (test(T::read(a[i]).wide()) as u32) << i);
        r.set_predicate(p.index, mask, holds);
    })
}

fn half(form: &Form, ty: Type) -> Decoded {
    match ty {
        Type::F16 => halves::<f16, 1>(form, 0x7fff, 2f64.powi(-14)),
        Type::F16x2 => halves::<f16, 2>(form, 0x7fff_7fff, 2f64.powi(-14)),
        Type::BF16 => halves::<bf16, 1>(form, 0x7fff, f32::MIN_POSITIVE as f64),
        _ => halves::<bf16, 2>(form, 0x7fff_7fff, f32::MIN_POSITIVE as f64),
    }
}

/// One number of type `H`, or two packed ones; `least` is the smallest normal one.
fn halves<H: Real<Word = u32>, const N: usize>(form: &Form, magnitude: u32, least: f64) -> Decoded {
    let (ftz, sat, relu) = (form.has("ftz"), form.has("sat"), form.has("relu"));
    let (nan, _) = (form.has("NaN"), form.has("rn"));
    let sign = !magnitude & if N == 1 { 0xffff } else { !0 };
    let flush = move |x: f64| {
        if ftz && x.abs() < least {
            0f64.copysign(x)
        } else {
            x
        }
    };
    // A result, rounded once: everything before is exact in f64 or rounded to odd.
    let round = move |x: f64| {
        let x = match sat {
            true if x > 0. => x.min(1.),
            true => 0., // a NaN too
            false => x,
        };
        let x = if relu && x < 0. { 0. } else { x };
        H::nearest(flush(H::nearest(x).wide())).word()
    };
    let apply = move |words: [u32; 3], f: &dyn Fn(f64, f64, f64) -> f64| {
        (0..N).fold(0, |out, i| {
            let [a, b, c] = words.map(|w| flush(H::read(w >> (16 * i)).wide()));
            out | round(f(a, b, c)) << (16 * i)
        })
    };
    let one = move |f: fn(f64) -> f64| form.map1(move |a: u32| apply([a; 3], &|a, _, _| f(a)));
    let two = move |f: fn(f64, f64) -> f64| form.map2(move |a: u32, b: u32| apply([a, b, b], &|a, b, _| f(a, b)));
    match form.name {
        "add" => two(|a, b| a + b),
        "sub" => two(|a, b| a - b),
        "mul" => two(|a, b| a * b),
        // The product is exact in f64, and so close to a tie of two halves the sum is as well.
        "fma" => form.map3(move |a: u32, b: u32, c: u32| apply([a, b, c], &f64::mul_add)),
        "min" if nan => two(|a, b| minimum(a, b, true)),
        "min" => two(|a, b| minimum(a, b, false)),
        "max" if nan => two(|a, b| -minimum(-a, -b, true)),
        "max" => two(|a, b| -minimum(-a, -b, false)),
        "abs" => form.map1(move |a: u32| a & magnitude),
        "neg" => form.map1(move |a: u32| (a ^ sign) & (sign | magnitude)),
        "ex2" => one(f64::exp2),
        "tanh" => one(f64::tanh),
        _ => Err(form.unsupported()),
    }
}
