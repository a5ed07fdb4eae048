//! Integer arithmetic (9.7.1), with carries (9.7.2), and logic and shifts (9.7.8).

use super::form::{Decoded, Form};
use super::lanes::{Lane, by_width, integers, of_type};
use crate::machine::registers::{Registers, Word, lanes};
use crate::ptx::types::Type;

pub fn decode(form: &Form) -> Option<Decoded> {
    let ty = form.ty();
    if form.name.ends_with('c') || form.has("cc") {
        return carrying(form);
    }
    if ty == Some(Type::Pred) {
        return predicates(form);
    }
    Some(match form.name {
        "add" => integers!(ty, T => form.map2(|a: T, b: T| a.wrapping_add(b))),
        "sub" => integers!(ty, T => form.map2(|a: T, b: T| a.wrapping_sub(b))),
        "mul" | "mad" => return product(form),
        // By zero the result is the machine's (9.7.1.8): all ones, and the dividend as the rest.
        "div" => integers!(ty, T => form.map2(|a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) })),
        "rem" => integers!(ty, T => form.map2(|a: T, b: T| if b == 0 { a } else { a.wrapping_rem(b) })),
        "min" => integers!(ty, T => form.map2(|a: T, b: T| a.min(b))),
        "max" => integers!(ty, T => form.map2(|a: T, b: T| a.max(b))),
        "neg" => of_type!(ty, T: S32 = i32, S64 = i64 => form.map1(|a: T| a.wrapping_neg())),
        "clz" => of_type!(ty, T: B32 = u32, B64 = u64 => form.map1(|a: T| a.leading_zeros())),
        "bfi" => of_type!(ty, T: B32 = u32, B64 = u64 => insert::<T>(form)),
        "dp4a" if form.types == [Type::S32; 2] => form.map3(|a: u32, b: u32, c: u32| {
            let product = |(a, b): (u8, u8)| a as i8 as i32 * b as i8 as i32;
            a.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(product).fold(c, |sum, p| sum.wrapping_add(p as u32))
        }),
        "and" => by_width!(ty, T => form.map2(|a: T, b: T| a & b)),
        "or" => by_width!(ty, T => form.map2(|a: T, b: T| a | b)),
        "xor" => by_width!(ty, T => form.map2(|a: T, b: T| a ^ b)),
        "not" => by_width!(ty, T => form.map1(|a: T| !a)),
        "shl" => by_width!(ty, T => form.map2(|a: T, b: u32| a.checked_shl(b).unwrap_or(0))),
        "shr" if ty?.is_signed() => {
            integers!(ty, T => form.map2(|a: T, b: u32| a >> b.min(T::BITS - 1)))
        }
        "shr" => by_width!(ty, T => form.map2(|a: T, b: u32| a.checked_shr(b).unwrap_or(0))),
        _ => return None,
    })
}

/// `mul` and `mad`, of which the lower half is kept, the upper one, or both.
fn product(form: &Form) -> Option<Decoded> {
    let ty = form.ty();
    Some(match (form.name, form.which(&["lo", "hi", "wide"])?) {
        ("mul", 0) => integers!(ty, T => form.map2(|a: T, b: T| a.wrapping_mul(b))),
        (_, 0) => integers!(ty, T => form.map3(|a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c))),
        ("mul", 1) => match ty? {
            Type::U32 => form.map2(|a: u32, b: u32| ((a as u64 * b as u64) >> 32) as u32),
            Type::U64 => form.map2(|a: u64, b: u64| ((a as u128 * b as u128) >> 64) as u64),
            _ => return None,
        },
        ("mul", 2) => match ty? {
            Type::U16 => form.map2(|a: u16, b: u16| a as u32 * b as u32),
            Type::U32 => form.map2(|a: u32, b: u32| a as u64 * b as u64),
            Type::S32 => form.map2(|a: i32, b: i32| a as i64 * b as i64),
            _ => return None,
        },
        ("mad", 2) => match ty? {
            Type::U32 => form.map3(|a: u32, b: u32, c: u64| (a as u64 * b as u64).wrapping_add(c)),
            Type::S32 => form.map3(|a: i32, b: i32, c: i64| (a as i64 * b as i64).wrapping_add(c)),
            _ => return None,
        },
        _ => return None,
    })
}

/// `bfi d, a, b, at, len`: the low bits of a over those of b.
fn insert<T: Lane>(form: &Form) -> Decoded {
    let bits = T::Word::BITS;
    let (d, a, b) = (form.any_dst(0, bits)?, form.any_src(1, bits)?, form.any_src(2, bits)?);
    let (at, len) = (form.src::<u32>(3)?, form.src::<u32>(4)?);
    form.custom(move |r: &mut Registers, mask| {
        for i in lanes(mask) {
            let [at, len] = [at, len].map(|s| u32::plane(r, s)[i] & 0xff);
            let field = 1u64.checked_shl(len).map_or(!0, |bit| bit - 1).checked_shl(at).unwrap_or(0);
            let [a, b] = [a, b].map(|s| s.get(r, i));
            d.set(r, i, b & !field | a.checked_shl(at).unwrap_or(0) & field);
        }
    })
}

/// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: sums with the carry of the one before.
fn carrying(form: &Form) -> Option<Decoded> {
    if form.ty()? != Type::U32 {
        return None;
    }
    let (reads, writes) = (form.name.ends_with('c'), form.has("cc"));
    let high = form.which(&["lo", "hi"]) == Some(1);
    let (product, minus) = match form.name.trim_end_matches('c') {
        "add" => (false, false),
        "sub" => (false, true),
        "mad" => (true, false),
        _ => return None,
    };
    let op = || {
        let (d, carry) = (form.dst::<u32>(0)?, form.carry());
        let (a, b) = (form.src::<u32>(1)?, form.src::<u32>(2)?);
        let c = if product { form.src::<u32>(3)? } else { b };
        form.custom(move |r: &mut Registers, mask| {
            let carried = if reads { r.predicate(carry) } else { 0 };
            let (mut out, mut carries) = ([0; 32], 0);
            for i in lanes(mask) {
                let [a, b, c] = [a, b, c].map(|s| u32::plane(r, s)[i] as u64);
                let first = if product { ((a * b) >> if high { 32 } else { 0 }) as u32 as u64 } else { a };
                let carry_in = (carried >> i & 1) as u64;
                // A borrow shows in the bits above.
                let sum = if minus { first.wrapping_sub(c + carry_in) } else { first + c + carry_in };
                out[i] = sum as u32;
                carries |= ((sum >> 32 & 1) as u32) << i;
            }
            r.write(d, mask, &out);
            if writes {
                r.set_predicate(carry, mask, carries);
            }
        })
    };
    Some(op())
}

fn predicates(form: &Form) -> Option<Decoded> {
    let f: fn(u32, u32) -> u32 = match form.name {
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        "xor" => |a, b| a ^ b,
        "not" => |a, _| !a,
        "mov" => |a, _| a,
        _ => return None,
    };
    let op = || {
        let (d, last) = (form.any_dst(0, 1)?.index, form.operands.len() - 1);
        let (a, b) = (form.predicate(1)?, form.predicate(last)?);
        form.custom(move |r: &mut Registers, mask| r.set_predicate(d, mask, f(a.mask(r), b.mask(r))))
    };
    Some(op())
}
