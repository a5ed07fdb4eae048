//! Data movement within registers and conversion (9.7.9): mov, cvt, cvta, mapa.

use super::float::Real;
use super::form::{Decoded, Form, map};
use super::lanes::{by_width, floats};
use crate::machine::memory::address;
use crate::machine::registers::{Registers, Word};
use crate::ptx::types::{Space, Type};
use half::{bf16, f16};

pub fn decode(form: &Form) -> Option<Decoded> {
    let is_vector = |i: usize| form.operands.get(i).is_some_and(|o| o.starts_with('{'));
    let space = Space::of(&form.modifiers);
    Some(match form.name {
        "mov" if is_vector(0) => unpack(form, form.ty()?.bits()),
        "mov" if is_vector(1) => pack(form, form.ty()?.bits()),
        "mov" => by_width!(form.ty(), T => form.map1(|a: T| a)),
        "cvt" => return cvt(form),
        "prmt" => form.map3(|a: u32, b: u32, selector: u32| {
            let bytes = ((b as u64) << 32 | a as u64).to_le_bytes();
            u32::from_le_bytes(std::array::from_fn(|i| {
                let (select, sign) = (selector >> (4 * i) & 7, selector >> (4 * i + 3) & 1);
                let byte = bytes[select as usize];
                [byte, (byte as i8 >> 7) as u8][sign as usize] // with the fourth bit, copies of the byte's sign
            }))
        }),
        // The generic addresses of global memory are its own (5.1, 9.7.9.20).
        "cvta" if space == Space::Global => {
            form.ignore(&["to"]);
            form.map1(|a: u64| a)
        }
        "cvta" if space == Space::Shared => form.map1(|a: u64| address::SHARED + a),
        // The address of the same variable in another block of the cluster.
        "mapa" if space == Space::Generic && form.ty() == Some(Type::U64) => form.map2(|a: u64, rank: u32| {
            address::SHARED + (rank << address::RANK_SHIFT | a as u32 & address::OFFSET) as u64
        }),
        _ => return None,
    })
}

/// `mov.b64 d, {low, high}` (9.7.9.4).
fn pack(form: &Form, bits: u32) -> Decoded {
    let (d, parts) = (form.any_dst(0, bits)?, form.vector(1, bits / 2, true)?);
    match (bits, &parts[..]) {
        (32, [low, high]) => map(d.index, [low.index, high.index, high.index], |low: u16, high: u16, _: u16| {
            (high as u32) << 16 | low as u32
        }),
        (64, [low, high]) => map(d.index, [low.index, high.index, high.index], |low: u32, high: u32, _: u32| {
            (high as u64) << 32 | low as u64
        }),
        _ => Err("unsupported vector".to_string()),
    }
}

/// `mov.b64 {low, high}, a`
fn unpack(form: &Form, bits: u32) -> Decoded {
    let (parts, a) = (form.vector(0, bits / 2, false)?, form.any_src(1, bits)?.index);
    let [low, high] = parts[..] else { return Err("unsupported vector".to_string()) };
    match bits {
        32 => form.custom(move |r: &mut Registers, mask| {
            let whole = *u32::plane(r, a);
            r.write(low.index, mask, &whole.map(|v| v & 0xffff));
            r.write(high.index, mask, &whole.map(|v| v >> 16));
        }),
        64 => form.custom(move |r: &mut Registers, mask| {
            let whole = *u64::plane(r, a);
            r.write(low.index, mask, &whole.map(|v| v as u32));
            r.write(high.index, mask, &whole.map(|v| (v >> 32) as u32));
        }),
        _ => Err("unsupported vector".to_string()),
    }
}

fn cvt(form: &Form) -> Option<Decoded> {
    let [to, from] = form.types[..] else { return None };
    let nearest = form.has("rn");
    let integral = form.which(&["rni", "rzi", "rmi", "rpi"]);
    match (to.is_float(), from.is_float()) {
        // Two sources, the first for the high half.
        (true, true) if nearest && from == Type::F32 && to == Type::F16x2 => {
            Some(form.map2(|high: f32, low: f32| [f16::nearest(low.wide()), f16::nearest(high.wide())]))
        }
        (true, true) if nearest && from == Type::F32 && to == Type::BF16x2 => {
            Some(form.map2(|high: f32, low: f32| [bf16::nearest(low.wide()), bf16::nearest(high.wide())]))
        }
        (true, true) if nearest || integral.is_some() || to.bits() >= from.bits() => between_floats(form, integral),
        (true, false) if nearest => integer_to_float(form, to, from),
        (false, true) => float_to_integer(form, to, from, integral?),
        (false, false) => Some(form.words(move |v| to.extend(from.extend(v)))),
        _ => None,
    }
}

/// The integer that `x` rounds to, by `.rni`, `.rzi`, `.rmi` or `.rpi`.
fn integer(x: f64, mode: usize) -> f64 {
    [f64::round_ties_even, f64::trunc, f64::floor, f64::ceil][mode](x)
}

fn between_floats(form: &Form, integral: Option<usize>) -> Option<Decoded> {
    let sat = form.has("sat");
    let saturated = |x: f64| if x > 0. { x.min(1.) } else { 0. }; // a NaN too
    Some(floats!(form.types.get(1).copied(), A => floats!(form.ty(), R => match integral {
        None if !sat => form.map1(|a: A| R::nearest(a.wide())),
        None => form.map1(move |a: A| R::nearest(saturated(a.wide()))),
        Some(mode) if !sat => form.map1(move |a: A| R::nearest(integer(a.wide(), mode))),
        _ => return None,
    })))
}

/// Each conversion rounds once: of 64 bits, no f64 in between.
fn integer_to_float(form: &Form, to: Type, from: Type) -> Option<Decoded> {
    let signed = from.is_signed();
    let convert: fn(u64, bool) -> u64 = match to {
        Type::F32 => |v, signed| (if signed { v as i64 as f32 } else { v as f32 }).to_bits() as u64,
        Type::F64 => |v, signed| (if signed { v as i64 as f64 } else { v as f64 }).to_bits(),
        Type::F16 if from.bits() < 64 => |v, _| f16::nearest(v as i64 as f64).to_bits() as u64,
        Type::BF16 if from.bits() < 64 => |v, _| bf16::nearest(v as i64 as f64).to_bits() as u64,
        _ => return None,
    };
    Some(form.words(move |v| convert(from.extend(v), signed)))
}

/// Out of range, the nearest that fits (9.7.9.21); a NaN of f64, or to 64 bits, is the highest bit alone.
fn float_to_integer(form: &Form, to: Type, from: Type, mode: usize) -> Option<Decoded> {
    let read: fn(u64) -> f64 = match from {
        Type::F16 => |v| f16::from_bits(v as u16).wide(),
        Type::BF16 => |v| bf16::from_bits(v as u16).wide(),
        Type::F32 => |v| f32::from_bits(v as u32) as f64,
        Type::F64 => f64::from_bits,
        _ => return None,
    };
    let bits = to.bits();
    let nan = if from == Type::F64 || bits == 64 { to.extend(1 << (bits - 1)) } else { 0 };
    Some(form.words(move |v| match integer(read(v), mode) {
        x if x.is_nan() => nan,
        // `as` saturates, and so do the clamps to fewer bits.
        x if to.is_signed() => (x as i64).clamp(-1 << (bits - 1), !(-1 << (bits - 1))) as u64,
        x => (x as u64).min(!0 >> (64 - bits)),
    }))
}
