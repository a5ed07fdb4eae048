//! Floating-point arithmetic (9.7.3), and of half precision (9.7.4).
//!
//! `.approx` gives the exact result rounded to nearest: a GPU is off by a few ulp there.

use super::form::{Decoded, Form};
use super::lanes::{Lane, by_width, floats, of_type};
use crate::ptx::types::Type;
use half::{bf16, f16};

pub fn decode(form: &Form) -> Option<Decoded> {
    let ty = form.ty();
    if form.types.len() > 1 || !ty?.is_float() {
        return None;
    }
    form.ignore(&["rn"]);
    if ty == Some(Type::BF16x2) {
        return match form.name {
            "add" => Some(form.map2(|a: [bf16; 2], b: [bf16; 2]| [a[0] + b[0], a[1] + b[1]])),
            "mul" => Some(form.map2(|a: [bf16; 2], b: [bf16; 2]| [a[0] * b[0], a[1] * b[1]])),
            _ => None,
        };
    }
    Some(match form.name {
        "add" if form.has("rz") => of_type!(ty, T: F32 = f32, F64 = f64 => form.map2(|a: T, b: T| {
            let (sum, rest) = two_sum(a.wide(), b.wide());
            let nearest = a + b;
            // Above the exact sum in magnitude: the next number below is it, rounded to zero.
            let beyond = (sum - nearest.wide()) + rest;
            let rounded_up = beyond * nearest.wide() < 0. || nearest.is_infinite();
            if rounded_up && a.is_finite() && b.is_finite() { toward_zero(nearest) } else { nearest }
        })),
        // The half types compute in f32, which has more than twice their digits: rounding twice is
        // as good as once, but for fma.
        "add" => floats!(ty, T => form.map2(|a: T, b: T| a + b)),
        "sub" => floats!(ty, T => form.map2(|a: T, b: T| a - b)),
        "mul" => floats!(ty, T => form.map2(|a: T, b: T| a * b)),
        "fma" if form.has("rm") && ty == Some(Type::F32) => form.map3(|a: f32, b: f32, c: f32| {
            let (sum, rest) = two_sum(a as f64 * b as f64, c as f64); // the product is exact
            let nearest = a.mul_add(b, c);
            if (sum - nearest as f64) + rest < 0. { nearest.next_down() } else { nearest }
        }),
        "fma" => match ty? {
            Type::F32 => form.map3(f32::mul_add),
            Type::F64 => form.map3(f64::mul_add),
            Type::F16 => form.map3(|a: f16, b: f16, c: f16| f16::nearest(a.wide().mul_add(b.wide(), c.wide()))),
            _ => return None,
        },
        "div" => {
            form.ignore(&["approx"]);
            of_type!(ty, T: F32 = f32, F64 = f64 => form.map2(|a: T, b: T| a / b))
        }
        "min" | "max" => {
            let (nan, max) = (form.has("NaN"), form.name == "max");
            floats!(ty, T => form.map2(move |a: T, b: T| T::nearest(extreme(a.wide(), b.wide(), max, nan))))
        }
        "abs" => by_width!(ty, T => form.map1(|a: T| a & !(1 << (T::BITS - 1)))),
        "neg" => by_width!(ty, T => form.map1(|a: T| a ^ 1 << (T::BITS - 1))),
        "copysign" => by_width!(ty, T => form.map2(|a: T, b: T| {
            let sign = 1 << (T::BITS - 1);
            b & !sign | a & sign
        })),
        // The approximate reciprocal of f64 always flushes subnormals (9.7.3.14).
        "rcp" if ty == Some(Type::F64) && form.has("approx") && form.has("ftz") => {
            form.map1(|a: f64| if a.is_subnormal() { f64::INFINITY.copysign(a) } else { 1. / a })
        }
        name => {
            form.ignore(&["approx"]);
            match (name, ty?) {
                ("sqrt", Type::F64) => form.map1(f64::sqrt),
                ("rcp", Type::F64) => form.map1(|a: f64| 1. / a),
                ("sqrt", Type::F32) => single(form, f32::sqrt),
                ("rcp", Type::F32) => single(form, |a| 1. / a),
                ("rsqrt", Type::F32) => single(form, |a| (1. / (a as f64).sqrt()) as f32),
                ("ex2", Type::F32) => single(form, |a| (a as f64).exp2() as f32),
                ("lg2", Type::F32) => single(form, |a| (a as f64).log2() as f32),
                _ => return None,
            }
        }
    })
}

/// A function of one f32; `.ftz` flushes what it gets and what it gives.
fn single(form: &Form, f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Decoded {
    let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    if form.has("ftz") { form.map1(move |a| flush(f(flush(a)))) } else { form.map1(f) }
}

/// The smaller or larger one, -0 below +0; a NaN only if both are, or if either is and `nan` asks for it.
fn extreme(a: f64, b: f64, max: bool, nan: bool) -> f64 {
    let first = a < b || a == b && a.is_sign_negative();
    match (a.is_nan(), b.is_nan()) {
        (false, true) if !nan => a,
        (true, false) if !nan => b,
        (false, false) if first != max => a,
        (false, false) => b,
        _ => f64::NAN,
    }
}

/// A sum, and what rounding left out of it (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// The next number toward zero; of infinity, the largest finite one.
fn toward_zero<T: Real>(x: T) -> T
where
    T::Word: std::ops::Sub<Output = T::Word> + From<u8>,
{
    T::read(x.word() - T::Word::from(1))
}

/// A floating-point type as numbers: its values are all f64 values.
pub trait Real: Lane {
    fn wide(self) -> f64;
    fn nearest(x: f64) -> Self;
}

macro_rules! real {
    ($($T:ty: |$v:ident| $wide:expr, |$x:ident| $nearest:expr;)*) => { $(
        impl Real for $T {
            #[inline(always)]
            fn wide(self) -> f64 { let $v = self; $wide }
            #[inline(always)]
            fn nearest($x: f64) -> Self { $nearest }
        }
    )* };
}

real! {
    f16: |v| v.to_f32() as f64, |x| f16::from_f32(odd(x));
    bf16: |v| v.to_f32() as f64, |x| bf16::from_f32(odd(x));
    f32: |v| v as f64, |x| x as f32;
    f64: |v| v, |x| x;
}

/// An f32 between which and `x` no half lies: the inexact ones get an odd last bit, so that
/// rounding once more is as good as rounding `x`.
fn odd(x: f64) -> f32 {
    let nearest = x as f32;
    if nearest as f64 == x || nearest.to_bits() & 1 == 1 || !nearest.is_finite() {
        return nearest;
    }
    if (nearest as f64) < x { nearest.next_up() } else { nearest.next_down() }
}
