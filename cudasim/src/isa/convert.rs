//! Data movement within registers and conversion (9.7.9): mov, cvt, cvta, prmt, isspacep, mapa.

use super::form::{Decoded, Form};
use super::rounding::{flush, Real, Rounding};
use crate::decode::Constant;
use crate::machine::address;
use crate::machine::registers::{lanes, Register, Registers, Word, ALL};
use crate::ptx::types::{Space, Type};
use half::{bf16, f16};

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "mov" => mov(form),
        "cvt" => cvt(form),
        "cvta" => cvta(form),
        "prmt" => form.map3(|a: u32, b: u32, selector: u32| {
            let bytes = ((b as u64) << 32 | a as u64).to_le_bytes();
            u32::from_le_bytes(std::array::from_fn(|i| {
                let select = selector >> (4 * i);
                let byte = bytes[select as usize & 7];
                // The fourth bit asks for copies of the byte's sign.
                if select & 8 != 0 {
                    (byte as i8 >> 7) as u8
                } else {
                    byte
                }
            }))
        }),
        "isspacep" => isspacep(form),
        "mapa" => mapa(form),
        "getctarank" => match Space::of(&form.modifiers) {
            Space::SharedCluster => form.map1(|a: u32| a >> address::RANK_SHIFT),
            _ => form.map1(|a: u64| (a - address::SHARED) as u32 >> address::RANK_SHIFT),
        },
        _ => return None,
    })
}

fn mov(form: &Form) -> Decoded {
    let ty = form.ty()?;
    if ty == Type::Pred {
        let (d, a) = (form.any_dst(0, 1)?.index, form.predicate(1)?);
        return form.custom(move |r: &mut Registers, mask| {
            let value = a.mask(r);
            r.set_predicate(d, mask, value);
        });
    }
    let is_vector = |i: usize| form.operand(i).is_ok_and(|o| o.starts_with('{'));
    if is_vector(0) || is_vector(1) {
        // Packs elements into a scalar, or takes one apart (9.7.9.4).
        let count = form.operand(if is_vector(0) { 0 } else { 1 })?.split(',').count() as u32;
        let bits = ty.bits() / count;
        let d = form.vector(0, if is_vector(0) { bits } else { ty.bits() }, false)?;
        let s = form.vector(1, if is_vector(1) { bits } else { ty.bits() }, true)?;
        if let (32, [d], [low, high]) = (bits, &d[..], &s[..]) {
            let (d, low, high) = (d.index, low.index, high.index);
            return form.custom(move |r: &mut Registers, mask| {
                let [low, high] = [low, high].map(|s| u32::plane(r, s));
                let whole = std::array::from_fn(|i| (high[i] as u64) << 32 | low[i] as u64);
                r.write(d, mask, &whole);
            });
        }
        if let (32, [low, high], [s]) = (bits, &d[..], &s[..]) {
            let (s, low, high) = (s.index, low.index, high.index);
            return form.custom(move |r: &mut Registers, mask| {
                let whole = *u64::plane(r, s);
                r.write(low, mask, &whole.map(|v| v as u32));
                r.write(high, mask, &whole.map(|v| (v >> 32) as u32));
            });
        }
        let keep = if bits == 64 { !0 } else { (1u64 << bits) - 1 };
        return form.custom(move |r: &mut Registers, mask| {
            for lane in lanes(mask) {
                let part = |i: usize, s: &Register| (s.get(r, lane) & keep) << (i as u32 * bits);
                let whole = match &s[..] {
                    [scalar] => scalar.get(r, lane),
                    parts => parts.iter().enumerate().fold(0, |all, (i, s)| all | part(i, s)),
                };
                match &d[..] {
                    [scalar] => scalar.set(r, lane, whole),
                    parts => {
                        for (i, d) in parts.iter().enumerate() {
                            d.set(r, lane, whole >> (i as u32 * bits) & keep);
                        }
                    }
                }
            }
        });
    }
    match ty.bits() {
        64 => form.map1(|a: u64| a),
        16 => form.map1(|a: u16| a),
        _ => form.map1(|a: u32| a),
    }
}

/// `body` with `$T` the Rust type of a floating-point type.
macro_rules! reals {
    ($ty:expr, $T:ident => $body:expr) => {
        match $ty {
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

fn cvt(form: &Form) -> Decoded {
    let [to, from] = form.types[..] else {
        return Err(form.unsupported());
    };
    let nearest = form.which(&Rounding::MODIFIERS).map(Rounding::at);
    let integral = form.which(&Rounding::TO_INTEGER).map(Rounding::at);
    match (to, from) {
        (Type::F16x2, Type::F32) => pack::<f16>(form, nearest),
        (Type::BF16x2, Type::F32) => pack::<bf16>(form, nearest),
        _ => match (to.is_float(), from.is_float()) {
            (true, true) => float_to_float(form, to, from, nearest, integral),
            (true, false) => integer_to_float(form, to, from, nearest),
            (false, true) => float_to_integer(form, to, from, integral),
            (false, false) => integer_to_integer(form, to, from),
        },
    }
}

/// `cvt.rn.f16x2.f32 d, a, b`: a above, b below.
fn pack<H: Real<Word = u32>>(form: &Form, rounding: Option<Rounding>) -> Decoded {
    if rounding != Some(Rounding::Nearest) {
        return Err(form.unsupported());
    }
    let relu = form.has("relu");
    let round = move |x: f32| H::nearest(if relu && x < 0. { 0. } else { x as f64 }).word();
    form.map2(move |a: f32, b: f32| round(a) << 16 | round(b))
}

fn float_to_float(form: &Form, to: Type, from: Type, nearest: Option<Rounding>, integral: Option<Rounding>) -> Decoded {
    let (ftz, sat, relu) = (form.has("ftz"), form.has("sat"), form.has("relu"));
    let narrowing = to.bits() < from.bits();
    if narrowing && !matches!((nearest, to), (Some(Rounding::Nearest), _) | (Some(_), Type::F32)) {
        return Err(form.unsupported());
    }
    let mode = nearest.unwrap_or(Rounding::Nearest);
    if (to, from, mode, ftz, sat) == (Type::F32, Type::F64, mode, false, false) && mode != Rounding::Nearest {
        use super::rounding::Float;
        return form.map1(move |a: f64| match a.is_finite() {
            true => (a as f32).step(a - a as f32 as f64, mode),
            false => a as f32,
        });
    }
    reals!(from, A => reals!(to, R => {
        let flushed = move |x: f64| if ftz { flush(x as f32) as f64 } else { x };
        if (integral, ftz, sat, relu) == (None, false, false, false) {
            return form.map1(|a: A| R::nearest(a.wide()));
        }
        form.map1(move |a: A| {
            let x = if from == Type::F32 { flushed(a.wide()) } else { a.wide() };
            let x = integral.map_or(x, |mode| mode.integer(x));
            let x = if sat { if x > 0. { x.min(1.) } else { 0. } } else { x };
            let x = if relu && x < 0. { 0. } else { x };
            R::nearest(if to == Type::F32 { flushed(x) } else { x })
        })
    }))
}

/// The value of the low bits of a register as a signed or unsigned number.
fn extend(word: u64, ty: Type) -> u64 {
    let above = 64 - ty.bits();
    if ty.is_signed() {
        ((word << above) as i64 >> above) as u64
    } else {
        word << above >> above
    }
}

fn integer_to_float(form: &Form, to: Type, from: Type, rounding: Option<Rounding>) -> Decoded {
    if rounding != Some(Rounding::Nearest) || form.has("sat") {
        return Err(form.unsupported());
    }
    let (a, d) = (form.any_src(1, from.bits())?, form.any_dst(0, to.bits())?);
    let signed = from.is_signed();
    // Each conversion rounds once: of 64 bits, no f64 in between.
    let convert: fn(u64, bool) -> u64 = match to {
        Type::F32 => |v, signed| (if signed { v as i64 as f32 } else { v as f32 }).to_bits() as u64,
        Type::F64 => |v, signed| (if signed { v as i64 as f64 } else { v as f64 }).to_bits(),
        Type::F16 if from.bits() < 64 => |v, _| f16::nearest(v as i64 as f64).to_bits() as u64,
        Type::BF16 if from.bits() < 64 => |v, _| bf16::nearest(v as i64 as f64).to_bits() as u64,
        _ => return Err(form.unsupported()),
    };
    form.words(a, d, move |v| convert(extend(v, from), signed))
}

fn float_to_integer(form: &Form, to: Type, from: Type, integral: Option<Rounding>) -> Decoded {
    let mode = integral.ok_or_else(|| form.unsupported())?;
    let ftz = form.has("ftz");
    form.ignore(&["sat"]); // out of range, the nearest that fits in any case
    let (a, d) = (form.any_src(1, from.bits())?, form.any_dst(0, to.bits())?);
    let read: fn(u64) -> f64 = match from {
        Type::F16 => |v| f16::from_bits(v as u16).wide(),
        Type::BF16 => |v| bf16::from_bits(v as u16).wide(),
        Type::F32 => |v| f32::from_bits(v as u32) as f64,
        _ => f64::from_bits,
    };
    let bits = to.bits();
    let (least, most) = match to.is_signed() {
        true => (-(2f64.powi(bits as i32 - 1)), (1u64 << (bits - 1)) - 1),
        false => (0., !0 >> (64 - bits)),
    };
    // 9.7.9.21: a NaN of f64, or to 64 bits, is the highest bit alone.
    let nan = if from == Type::F64 || bits == 64 { 1u64 << (bits - 1) } else { 0 };
    form.words(a, d, move |v| {
        let x = read(v);
        let x = if ftz && from == Type::F32 { flush(x as f32) as f64 } else { x };
        let x = mode.integer(x);
        match () {
            _ if x.is_nan() => extend(nan, to),
            _ if x >= most as f64 => most,
            _ if x <= least => least as i64 as u64,
            _ if to.is_signed() => x as i64 as u64,
            _ => x as u64,
        }
    })
}

fn integer_to_integer(form: &Form, to: Type, from: Type) -> Decoded {
    let (a, d) = (form.any_src(1, from.bits())?, form.any_dst(0, to.bits())?);
    if !form.has("sat") {
        return form.words(a, d, move |v| extend(extend(v, from), to));
    }
    form.words(a, d, move |v| {
        let v = extend(v, from);
        let v = if from.is_signed() { v as i64 as i128 } else { v as i128 };
        let bits = to.bits();
        let (least, most) = match to.is_signed() {
            true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            false => (0, (1i128 << bits) - 1),
        };
        v.clamp(least, most) as u64
    })
}

/// Between the generic address space and another (9.7.9.20).
fn cvta(form: &Form) -> Decoded {
    let space = Space::of(&form.modifiers);
    let to_space = form.has("to");
    let base = match space {
        Space::Shared | Space::SharedCluster => address::SHARED,
        Space::Param => address::PARAM,
        Space::Local => {
            // Each thread has its own window.
            let window = form.decoder.borrow_mut().constant(Constant::LocalWindow, 64).index;
            let (d, a) = (form.dst::<u64>(0)?, form.src::<u64>(1)?);
            return form.custom(move |r: &mut Registers, mask| {
                let [a, window] = [a, window].map(|s| *u64::plane(r, s));
                let moved = std::array::from_fn(|i| match to_space {
                    true => a[i].wrapping_sub(window[i]),
                    false => a[i].wrapping_add(window[i]),
                });
                r.write(d, mask, &moved);
            });
        }
        _ => 0,
    };
    match to_space {
        true => form.map1(move |a: u64| a.wrapping_sub(base)),
        false => form.map1(move |a: u64| a.wrapping_add(base)),
    }
}

fn isspacep(form: &Form) -> Decoded {
    let space = Space::of(&form.modifiers);
    let (p, a) = (form.any_dst(0, 1)?.index, form.src::<u64>(1)?);
    form.custom(move |r: &mut Registers, mask| {
        let a = *u64::plane(r, a);
        let wanted = |a: u64| match space {
            Space::SharedCluster => address::space(a) == Space::Shared,
            space => address::space(a) == space,
        };
        let holds = lanes(ALL).fold(0, |m, i| m | (wanted(a[i]) as u32) << i);
        r.set_predicate(p, mask, holds);
    })
}

/// The address of the same variable in another block of the cluster.
fn mapa(form: &Form) -> Decoded {
    let at = |offset: u32, rank: u32| rank << address::RANK_SHIFT | offset & address::OFFSET;
    match (Space::of(&form.modifiers), form.ty()?.bits()) {
        (Space::SharedCluster, 32) => form.map2(move |a: u32, rank: u32| at(a, rank)),
        (Space::SharedCluster, _) => form.map2(move |a: u64, rank: u32| at(a as u32, rank) as u64),
        _ => form.map2(move |a: u64, rank: u32| address::SHARED + at(a as u32, rank) as u64),
    }
}
