//! Comparison and selection (9.7.6, 9.7.7).

use super::form::{Decoded, Form};
use super::lanes::{boxed, by_width, of_type, Lane, LaneOp};
use super::Action;
use crate::machine::registers::{Registers, Word, ALL, LANES};
use crate::ptx::types::Type;
use half::f16;
use std::marker::PhantomData;

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "setp" => {
            let relation = relation(form)?;
            of_type!(form.ty(), T: B16 | U16 = u16, S16 = i16, B32 | U32 = u32, S32 = i32, B64 | U64 = u64, S64 = i64,
                F16 = f16, BF16 = half::bf16, F32 = f32, F64 = f64 => compare::<T>(form, relation))
        }
        "set" if form.types == [Type::F16; 2] && form.has("eq") => {
            form.map2(|a: f16, b: f16| if a == b { f16::ONE } else { f16::ZERO })
        }
        "selp" => by_width!(form.ty(), T => select::<T>(form)),
        _ => return None,
    })
}

/// For which of less, equal, greater and unordered a comparison holds.
#[derive(Clone, Copy)]
struct Relation {
    less: bool,
    equal: bool,
    greater: bool,
    unordered: bool,
}

/// `ltu` is `lt` that also holds for a NaN.
fn relation(form: &Form) -> Option<Relation> {
    let place = form.which(&["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu"])?;
    let (less, equal, greater) = [
        (false, true, false),
        (true, false, true),
        (true, false, false),
        (true, true, false),
        (false, false, true),
        (false, true, true),
    ][place % 6];
    // Integers are never unordered: what holds for two of three is tested as the third's opposite.
    let opposite = !form.ty()?.is_float() && less as u32 + equal as u32 + greater as u32 == 2;
    Some(Relation { less, equal, greater, unordered: place >= 6 || opposite })
}

struct Compare<A> {
    relation: Relation,
    p: u32,
    a: u32,
    b: u32,
    types: PhantomData<fn(A)>,
}

fn compare<A: Lane + PartialOrd>(form: &Form, relation: Relation) -> Decoded {
    let (p, a, b) = (form.any_dst(0, 1)?.index, form.src::<A>(1)?, form.src::<A>(2)?);
    Ok(Action::Lanes(boxed(Compare::<A> { relation, p, a, b, types: PhantomData })))
}

impl<A: Lane + PartialOrd> LaneOp for Compare<A> {
    #[inline(always)]
    fn run(&self, registers: &mut Registers, mask: u32) {
        let (a, b) = (A::Word::plane(registers, self.a), A::Word::plane(registers, self.b));
        let Relation { less, equal, greater, unordered } = self.relation;
        // Only what differs from the unordered case is looked for.
        let mut differs = 0;
        if less != unordered {
            differs |= lanes_where(a, b, |a: A, b: A| a < b);
        }
        if equal != unordered {
            differs |= lanes_where(a, b, |a: A, b: A| a == b);
        }
        if greater != unordered {
            differs |= lanes_where(a, b, |a: A, b: A| a > b);
        }
        registers.set_predicate(self.p, mask, differs ^ if unordered { ALL } else { 0 });
    }
}

#[inline(always)]
fn lanes_where<A: Lane>(a: &[A::Word; LANES], b: &[A::Word; LANES], test: impl Fn(A, A) -> bool) -> u32 {
    (0..LANES).fold(0, |m, i| m | (test(A::read(a[i]), A::read(b[i])) as u32) << i)
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
