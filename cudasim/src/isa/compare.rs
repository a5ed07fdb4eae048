//! Comparison and selection (9.7.6, 9.7.7).

// With a NaN, `a < b || a > b` is not `a != b`, and `!(a < b)` not `a >= b`.
#![allow(clippy::double_comparisons, clippy::neg_cmp_op_on_partial_ord, clippy::eq_op, clippy::nonminimal_bool)]

use super::form::{Decoded, Form};
use super::lanes::Lane;
use super::rounding::flush;
use crate::machine::registers::{Registers, Word};
use crate::ptx::types::Type;
use half::{bf16, f16};

/// The ordered comparisons, the unsigned names of four of them, and those that hold for a NaN too.
const OPERATORS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

/// `body` with `$f` the comparison that the opcode names, of the type `$T`.
macro_rules! comparisons {
    ($form:expr, $T:ty, $f:ident => $body:expr) => {
        match $form.which(&OPERATORS).map(|place| OPERATORS[place]) {
            Some("eq") => {
                let $f = |a: $T, b: $T| a == b;
                $body
            }
            Some("ne") => {
                let $f = |a: $T, b: $T| a < b || a > b;
                $body
            }
            Some("lt" | "lo") => {
                let $f = |a: $T, b: $T| a < b;
                $body
            }
            Some("le" | "ls") => {
                let $f = |a: $T, b: $T| a <= b;
                $body
            }
            Some("gt" | "hi") => {
                let $f = |a: $T, b: $T| a > b;
                $body
            }
            Some("ge" | "hs") => {
                let $f = |a: $T, b: $T| a >= b;
                $body
            }
            Some("equ") => {
                let $f = |a: $T, b: $T| !(a < b || a > b);
                $body
            }
            Some("neu") => {
                let $f = |a: $T, b: $T| a != b;
                $body
            }
            Some("ltu") => {
                let $f = |a: $T, b: $T| !(a >= b);
                $body
            }
            Some("leu") => {
                let $f = |a: $T, b: $T| !(a > b);
                $body
            }
            Some("gtu") => {
                let $f = |a: $T, b: $T| !(a <= b);
                $body
            }
            Some("geu") => {
                let $f = |a: $T, b: $T| !(a < b);
                $body
            }
            Some("num") => {
                let $f = |a: $T, b: $T| a == a && b == b;
                $body
            }
            Some("nan") => {
                let $f = |a: $T, b: $T| a != a || b != b;
                $body
            }
            _ => Err($form.unsupported()),
        }
    };
}

/// `body` with `$T` the Rust type of what is compared.
macro_rules! comparable {
    ($ty:expr, $T:ident => $body:expr) => {
        match $ty {
            Type::B16 | Type::U16 => {
                type $T = u16;
                $body
            }
            Type::S16 => {
                type $T = i16;
                $body
            }
            Type::B32 | Type::U32 => {
                type $T = u32;
                $body
            }
            Type::S32 => {
                type $T = i32;
                $body
            }
            Type::B64 | Type::U64 => {
                type $T = u64;
                $body
            }
            Type::S64 => {
                type $T = i64;
                $body
            }
            Type::F16 => {
                type $T = f16;
                $body
            }
            Type::BF16 => {
                type $T = bf16;
                $body
            }
            Type::F32 => {
                type $T = f32;
                $body
            }
            Type::F64 => {
                type $T = f64;
                $body
            }
            other => Err(format!("unsupported type {other:?}")),
        }
    };
}

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "setp" if form.has("ftz") => {
            comparisons!(form, f32, f => form.compare(move |a, b| f(flush(a), flush(b))))
        }
        "setp" => form.ty().and_then(|ty| comparable!(ty, T => comparisons!(form, T, f => form.compare(f)))),
        "set" => set(form),
        "selp" => match form.types.first().map(|t| t.bits()) {
            Some(64) => select::<u64>(form),
            _ => select::<u32>(form),
        },
        "slct" => match form.types[..] {
            [a, Type::S32] if a.bits() == 64 => form.map3(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
            [a, Type::F32] if a.bits() == 64 => form.map3(|a: u64, b: u64, c: f32| if c >= 0. { a } else { b }),
            [_, Type::S32] => form.map3(|a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
            [_, Type::F32] => form.map3(|a: u32, b: u32, c: f32| if c >= 0. { a } else { b }),
            _ => Err(form.unsupported()),
        },
        _ => return None,
    })
}

/// `set`: all ones or 1.0 where the comparison holds, 0 elsewhere.
fn set(form: &Form) -> Decoded {
    let [to, from] = form.types[..] else {
        return Err(form.unsupported());
    };
    let truth = match to {
        Type::U32 | Type::S32 | Type::B32 => !0u32,
        Type::U16 | Type::S16 => 0xffff,
        Type::F32 => 1f32.to_bits(),
        Type::F16 => f16::ONE.to_bits() as u32,
        Type::BF16 => bf16::ONE.to_bits() as u32,
        _ => return Err(form.unsupported()),
    };
    comparable!(from, T => comparisons!(form, T, f => form.map2(move |a: T, b: T| if f(a, b) { truth } else { 0 })))
}

fn select<T: Lane>(form: &Form) -> Decoded {
    let (d, a, b) = (form.dst::<T>(0)?, form.src::<T>(1)?, form.src::<T>(2)?);
    let p = form.predicate(3)?;
    form.custom(move |r: &mut Registers, mask| {
        let chosen = p.mask(r);
        let [a, b] = [a, b].map(|s| *T::Word::plane(r, s));
        r.write(d, mask & chosen, &a);
        r.write(d, mask & !chosen, &b);
    })
}
