//! Logic and shifts (9.7.8).

use super::form::{Decoded, Form};
use crate::machine::registers::Registers;
use crate::ptx::types::Type;

/// `body` with `$T` the unsigned type of a width.
macro_rules! by_width {
    ($form:expr, $T:ident => $body:expr) => {
        match $form.ty().map(Type::bits) {
            Ok(16) => {
                type $T = u16;
                $body
            }
            Ok(32) => {
                type $T = u32;
                $body
            }
            Ok(64) => {
                type $T = u64;
                $body
            }
            _ => Err($form.unsupported()),
        }
    };
}

pub fn decode(form: &Form) -> Option<Decoded> {
    let of_predicates = form.types.first() == Some(&Type::Pred);
    Some(match form.name {
        "and" if of_predicates => predicates(form, |a, b| a & b),
        "or" if of_predicates => predicates(form, |a, b| a | b),
        "xor" if of_predicates => predicates(form, |a, b| a ^ b),
        "not" if of_predicates => not(form),
        "and" => by_width!(form, T => form.map2(|a: T, b: T| a & b)),
        "or" => by_width!(form, T => form.map2(|a: T, b: T| a | b)),
        "xor" => by_width!(form, T => form.map2(|a: T, b: T| a ^ b)),
        "not" => by_width!(form, T => form.map1(|a: T| !a)),
        "cnot" => by_width!(form, T => form.map1(|a: T| (a == 0) as T)),
        "shl" => {
            by_width!(form, T => form.map2(|a: T, b: u32| if b < T::BITS { a << b } else { 0 }))
        }
        "shr" => match form.types.first() {
            Some(Type::S16) => form.map2(|a: i16, b: u32| a >> b.min(15)),
            Some(Type::S32) => form.map2(|a: i32, b: u32| a >> b.min(31)),
            Some(Type::S64) => form.map2(|a: i64, b: u32| a >> b.min(63)),
            _ => {
                by_width!(form, T => form.map2(|a: T, b: u32| if b < T::BITS { a >> b } else { 0 }))
            }
        },
        "shf" => funnel(form),
        "lop3" => lookup(form),
        _ => return None,
    })
}

fn predicates(form: &Form, f: fn(u32, u32) -> u32) -> Decoded {
    let d = form.any_dst(0, 1)?.index;
    let (a, b) = (form.predicate(1)?, form.predicate(2)?);
    form.custom(move |r: &mut Registers, mask| {
        let value = f(a.mask(r), b.mask(r));
        r.set_predicate(d, mask, value);
    })
}

fn not(form: &Form) -> Decoded {
    let (d, a) = (form.any_dst(0, 1)?.index, form.predicate(1)?);
    form.custom(move |r: &mut Registers, mask| {
        let value = !a.mask(r);
        r.set_predicate(d, mask, value);
    })
}

/// `shf`: a shift of the 64 bits `b:a`, of which one half is kept.
fn funnel(form: &Form) -> Decoded {
    let wrap = form.has("wrap");
    form.ignore(&["clamp"]);
    let amount = move |n: u32| if wrap { n & 31 } else { n.min(32) };
    let joined = |a: u32, b: u32| (b as u64) << 32 | a as u64;
    match form.which(&["l", "r"]) {
        Some(0) => form.map3(move |a, b, n| ((joined(a, b) << amount(n)) >> 32) as u32),
        Some(_) => form.map3(move |a, b, n| (joined(a, b) >> amount(n)) as u32),
        None => Err(form.unsupported()),
    }
}

/// `lop3 d, a, b, c, table`: each bit of d is the table's, at the place that three bits name.
fn lookup(form: &Form) -> Decoded {
    let table = crate::ptx::scan::number(form.operand(4)?).ok_or("expected a number as table")?;
    form.map3(move |a: u32, b: u32, c: u32| {
        let invert = |v: u32, place: usize, bit: usize| if place >> bit & 1 != 0 { v } else { !v };
        (0..8)
            .filter(|place| table >> place & 1 != 0)
            .fold(0, |out, place| out | invert(a, place, 2) & invert(b, place, 1) & invert(c, place, 0))
    })
}
