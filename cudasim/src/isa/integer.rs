//! Integer arithmetic (9.7.1) and extended-precision integer arithmetic (9.7.2).

use super::form::{Decoded, Form};
use crate::machine::registers::{lanes, Register, Registers};
use crate::ptx::types::Type;

/// `body` with `$T` the Rust type of a PTX integer type.
macro_rules! integers {
    ($ty:expr, $T:ident => $body:expr) => {
        match $ty {
            $crate::ptx::types::Type::U16 => {
                type $T = u16;
                $body
            }
            $crate::ptx::types::Type::S16 => {
                type $T = i16;
                $body
            }
            $crate::ptx::types::Type::U32 => {
                type $T = u32;
                $body
            }
            $crate::ptx::types::Type::S32 => {
                type $T = i32;
                $body
            }
            $crate::ptx::types::Type::U64 => {
                type $T = u64;
                $body
            }
            $crate::ptx::types::Type::S64 => {
                type $T = i64;
                $body
            }
            other => Err(format!("unsupported type {other:?}")),
        }
    };
}

/// What differs between Rust's integer types.
pub(super) trait Integer: super::lanes::Lane {
    /// The upper half of the product.
    fn mul_hi(self, other: Self) -> Self;
    /// By zero: all ones (9.7.1.8 leaves it to the machine).
    fn divide(self, other: Self) -> Self;
    fn remainder(self, other: Self) -> Self;
    /// The place of the highest bit that differs from the sign (9.7.1.16).
    fn find(self) -> u32;
}

macro_rules! integer {
    ($($T:ty : $wide:ty, |$v:ident| $bits:expr;)*) => { $(
        impl Integer for $T {
            fn mul_hi(self, other: Self) -> Self {
                ((self as $wide * other as $wide) >> Self::BITS) as Self
            }
            fn divide(self, other: Self) -> Self {
                if other == 0 { !0 } else { self.wrapping_div(other) }
            }
            fn remainder(self, other: Self) -> Self {
                if other == 0 { self } else { self.wrapping_rem(other) }
            }
            fn find(self) -> u32 {
                let $v = self;
                let bits = $bits;
                (Self::BITS - 1).wrapping_sub(bits.leading_zeros())
            }
        }
    )* };
}

integer! {
    u16: u32, |v| v;
    i16: i32, |v| v ^ (v >> 15);
    u32: u64, |v| v;
    i32: i64, |v| v ^ (v >> 31);
    u64: u128, |v| v;
    i64: i128, |v| v ^ (v >> 63);
}

pub fn decode(form: &Form) -> Option<Decoded> {
    let ty = form.types.first().copied().unwrap_or(Type::Pred);
    let carry = form.name.ends_with('c') && form.name != "bfind" || form.has("cc");
    Some(match form.name {
        "add" | "addc" | "sub" | "subc" | "mad" | "madc" if carry => extended(form, ty),
        "add" | "sub" if form.has("sat") => saturating(form, ty),
        "add" => integers!(ty, T => form.map2(|a: T, b: T| a.wrapping_add(b))),
        "sub" => integers!(ty, T => form.map2(|a: T, b: T| a.wrapping_sub(b))),
        "mul" => multiply(form, ty),
        "mad" => multiply_add(form, ty),
        "mul24" if form.has("lo") => {
            integers!(ty, T => form.map2(|a: T, b: T| (a << 8 >> 8).wrapping_mul(b << 8 >> 8)))
        }
        "sad" => {
            integers!(ty, T => form.map3(|a: T, b: T, c: T| c.wrapping_add(a.abs_diff(b) as T)))
        }
        "div" => integers!(ty, T => form.map2(|a: T, b: T| a.divide(b))),
        "rem" => integers!(ty, T => form.map2(|a: T, b: T| a.remainder(b))),
        "min" => integers!(ty, T => form.map2(|a: T, b: T| a.min(b))),
        "max" => integers!(ty, T => form.map2(|a: T, b: T| a.max(b))),
        "abs" => match ty {
            Type::S16 => form.map1(|a: i16| a.wrapping_abs()),
            Type::S32 => form.map1(|a: i32| a.wrapping_abs()),
            Type::S64 => form.map1(|a: i64| a.wrapping_abs()),
            _ => Err(form.unsupported()),
        },
        "neg" => match ty {
            Type::S16 => form.map1(|a: i16| a.wrapping_neg()),
            Type::S32 => form.map1(|a: i32| a.wrapping_neg()),
            Type::S64 => form.map1(|a: i64| a.wrapping_neg()),
            _ => Err(form.unsupported()),
        },
        "popc" => match ty {
            Type::B32 => form.map1(|a: u32| a.count_ones()),
            _ => form.map1(|a: u64| a.count_ones()),
        },
        "clz" => match ty {
            Type::B32 => form.map1(|a: u32| a.leading_zeros()),
            _ => form.map1(|a: u64| a.leading_zeros()),
        },
        "brev" => match ty {
            Type::B32 => form.map1(|a: u32| a.reverse_bits()),
            _ => form.map1(|a: u64| a.reverse_bits()),
        },
        "bfind" => {
            let amount = form.has("shiftamt");
            integers!(ty, T => form.map1(move |a: T| match a.find() {
                u32::MAX => u32::MAX,
                place if amount => T::BITS - 1 - place,
                place => place,
            }))
        }
        "bfe" => integers!(ty, T => form.map3(|a: T, at: u32, len: u32| {
            let (at, len) = (at & 0xff, len & 0xff);
            let sign = if len == 0 { 0 } else { (at + len - 1).min(T::BITS - 1) };
            // The field, with copies of its highest bit above; zeros above for unsigned types.
            let top = T::BITS - 1 - sign;
            let aligned = if len == 0 { 0 } else { (a << top) >> top };
            // Beyond the value there are copies of its sign.
            aligned.checked_shr(at).unwrap_or((aligned >> (T::BITS / 2)) >> (T::BITS / 2))
        })),
        "bfi" => match ty {
            Type::B32 => {
                bit_insert::<u32>(form, |a, b, m, at| b & !(m as u32) | (a as u64).wrapping_shl(at) as u32 & m as u32)
            }
            _ => bit_insert::<u64>(form, |a, b, m, at| b & !m | a.wrapping_shl(at) & m),
        },
        "dp4a" => {
            let signed = [0, 1].map(|i| form.types.get(i).is_some_and(|t| t.is_signed()));
            form.map3(move |a: u32, b: u32, c: u32| {
                let byte = |v: u32, i: usize, signed: bool| {
                    let byte = v.to_le_bytes()[i];
                    if signed {
                        byte as i8 as i32
                    } else {
                        byte as i32
                    }
                };
                let dot = |i| byte(a, i, signed[0]) * byte(b, i, signed[1]);
                (0..4).fold(c, |sum, i| sum.wrapping_add(dot(i) as u32))
            })
        }
        _ => return None,
    })
}

fn saturating(form: &Form, ty: Type) -> Decoded {
    match (form.name, ty) {
        ("add", Type::S32) => form.map2(|a: i32, b: i32| a.saturating_add(b)),
        ("sub", Type::S32) => form.map2(|a: i32, b: i32| a.saturating_sub(b)),
        _ => Err(form.unsupported()),
    }
}

fn multiply(form: &Form, ty: Type) -> Decoded {
    match form.which(&["lo", "hi", "wide"]) {
        Some(0) => integers!(ty, T => form.map2(|a: T, b: T| a.wrapping_mul(b))),
        Some(1) => integers!(ty, T => form.map2(|a: T, b: T| a.mul_hi(b))),
        Some(_) => match ty {
            Type::U16 => form.map2(|a: u16, b: u16| a as u32 * b as u32),
            Type::S16 => form.map2(|a: i16, b: i16| a as i32 * b as i32),
            Type::U32 => form.map2(|a: u32, b: u32| a as u64 * b as u64),
            Type::S32 => form.map2(|a: i32, b: i32| a as i64 * b as i64),
            _ => Err(form.unsupported()),
        },
        None => Err(form.unsupported()),
    }
}

fn multiply_add(form: &Form, ty: Type) -> Decoded {
    match form.which(&["lo", "hi", "wide"]) {
        Some(0) => {
            integers!(ty, T => form.map3(|a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
        }
        Some(1) => integers!(ty, T => form.map3(|a: T, b: T, c: T| a.mul_hi(b).wrapping_add(c))),
        Some(_) => match ty {
            Type::U16 => form.map3(|a: u16, b: u16, c: u32| (a as u32 * b as u32).wrapping_add(c)),
            Type::S16 => form.map3(|a: i16, b: i16, c: i32| (a as i32 * b as i32).wrapping_add(c)),
            Type::U32 => form.map3(|a: u32, b: u32, c: u64| (a as u64 * b as u64).wrapping_add(c)),
            Type::S32 => form.map3(|a: i32, b: i32, c: i64| (a as i64 * b as i64).wrapping_add(c)),
            _ => Err(form.unsupported()),
        },
        None => Err(form.unsupported()),
    }
}

/// `bfi d, a, b, at, len`: the low bits of a over those of b.
fn bit_insert<T>(form: &Form, insert: fn(T, T, u64, u32) -> T) -> Decoded
where
    T: super::lanes::Lane + Default,
{
    let (d, a, b) = (form.dst::<T>(0)?, form.src::<T>(1)?, form.src::<T>(2)?);
    let (at, len) = (form.src::<u32>(3)?, form.src::<u32>(4)?);
    form.custom(move |r: &mut Registers, mask| {
        use crate::machine::registers::Word;
        for i in lanes(mask) {
            let [at, len] = [at, len].map(|s| u32::plane(r, s)[i] & 0xff);
            let bits = 1u64.checked_shl(len).map_or(!0, |bit| bit - 1);
            let field = bits.checked_shl(at).unwrap_or(0);
            let [a, b] = [a, b].map(|s| T::read(T::Word::plane(r, s)[i]));
            T::Word::plane_mut(r, d)[i] = insert(a, b, field, at).word();
        }
    })
}

/// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: sums with the carry of the one before.
fn extended(form: &Form, ty: Type) -> Decoded {
    let (reads, writes) = (form.name.ends_with('c'), form.has("cc"));
    let (high, _) = (form.has("hi"), form.has("lo"));
    let bits = ty.bits();
    let d = form.any_dst(0, bits)?;
    let sources = (1..form.operands.len()).map(|i| form.any_src(i, bits));
    let sources: Vec<Register> = sources.collect::<Result<_, _>>()?;
    let carry = form.decoder.borrow_mut().carry();
    let name = form.name.trim_end_matches('c').to_string();
    let (subtract, low) = (name == "sub", move |v: u128| v & ((1 << bits) - 1));
    form.custom(move |r: &mut Registers, mask| {
        for lane in lanes(mask) {
            let value = |i: usize| {
                let v = sources[i].get(r, lane);
                // Only the upper half of a product depends on the signs.
                match (ty, high && i < 2) {
                    (Type::S32, true) => v as i32 as u128,
                    (Type::S64, true) => v as i64 as u128,
                    _ => v as u128,
                }
            };
            let (mut first, mut second) = (value(0), value(1));
            if let [_, _, _] = sources[..] {
                let product = first.wrapping_mul(second);
                first = low(if high { product >> bits } else { product });
                second = value(2);
            }
            let carry_in = if reads { carry.get(r, lane) as u128 } else { 0 };
            let sum = match subtract {
                // A borrow shows in the bit above.
                true => first.wrapping_sub(second).wrapping_sub(carry_in),
                false => first + second + carry_in,
            };
            d.set(r, lane, low(sum) as u64);
            if writes {
                carry.set(r, lane, (sum >> bits) as u64 & 1);
            }
        }
    })
}
