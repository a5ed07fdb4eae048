//! Comparison and selection (9.7.6, 9.7.7).

use super::form::{Decoded, Form};
use super::lanes::{Lane, by_width, of_type};
use crate::machine::registers::{LANES, Registers, Word};
use crate::ptx::types::Type;
use half::f16;

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "setp" => of_type!(form.ty(), T: B16 | U16 = u16, S16 = i16, B32 | U32 = u32, S32 = i32, B64 | U64 = u64,
            S64 = i64, F16 = f16, BF16 = half::bf16, F32 = f32, F64 = f64 => return compare::<T>(form)),
        "set" if form.types == [Type::F16; 2] && form.has("eq") => {
            form.map2(|a: f16, b: f16| if a == b { f16::ONE } else { f16::ZERO })
        }
        "selp" => by_width!(form.ty(), T => select::<T>(form)),
        _ => return None,
    })
}

/// `setp.lt p, a, b`. With a NaN those that end in `u` hold, and `nan`, and no others.
#[allow(clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons)] // what they say of a NaN is meant
fn compare<A: Lane + PartialOrd>(form: &Form) -> Option<Decoded> {
    let names = ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "nan", "num"];
    Some(match form.which(&names)? {
        0 => test(form, |a: A, b: A| a == b),
        1 => test(form, |a: A, b: A| a < b || a > b),
        2 => test(form, |a: A, b: A| a < b),
        3 => test(form, |a: A, b: A| a <= b),
        4 => test(form, |a: A, b: A| a > b),
        5 => test(form, |a: A, b: A| a >= b),
        6 => test(form, |a: A, b: A| !(a < b || a > b)),
        7 => test(form, |a: A, b: A| a != b),
        8 => test(form, |a: A, b: A| !(a >= b)),
        9 => test(form, |a: A, b: A| !(a > b)),
        10 => test(form, |a: A, b: A| !(a <= b)),
        11 => test(form, |a: A, b: A| !(a < b)),
        12 => test(form, |a: A, b: A| !(a <= b || a > b)),
        _ => test(form, |a: A, b: A| a <= b || a > b),
    })
}

fn test<A: Lane>(form: &Form, holds: impl Fn(A, A) -> bool + Send + Sync + 'static) -> Decoded {
    let (p, a, b) = (form.any_dst(0, 1)?.index, form.src::<A>(1)?, form.src::<A>(2)?);
    form.custom(move |r: &mut Registers, mask| {
        let (a, b) = (A::Word::plane(r, a), A::Word::plane(r, b));
        let found = (0..LANES).fold(0, |m, i| m | (holds(A::read(a[i]), A::read(b[i])) as u32) << i);
        r.set_predicate(p, mask, found);
    })
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
