//! Loads and stores (9.7.9) and atomics (9.7.13).

use super::Action;
use super::form::{Decoded, Form};
use super::lanes::{Lane, floats};
use crate::machine::access::MemoryOp;
use crate::machine::race::{Access, Kind, Reduce};
use crate::ptx::types::{Space, Type};

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "ld" => access(form, 1, 0, Kind::Load),
        "st" => access(form, 0, 1, Kind::Store),
        "atom" if form.has("add") => access(form, 1, 2, Kind::Atomic(sum(form)?)),
        _ => return None,
    })
}

/// The operands at `address` and `values`, and the modifiers of either.
fn access(form: &Form, address: usize, values: usize, kind: Kind) -> Decoded {
    let ty = form.ty().ok_or("expected a type")?;
    let is_atomic = matches!(kind, Kind::Atomic(_));
    // Cache hints and scopes: here memory has one order that all threads see.
    form.ignore(&["wb", "cg", "cs", "gpu", "noftz"]);
    let release = form.has("release");
    let strong = form.has("volatile") | form.has("acquire") | release | is_atomic;
    let (base, offset, is_local) = form.address(address)?;
    let mut space = Space::of(&form.modifiers);
    if is_local && space == Space::Param {
        space = Space::Local; // an argument of a call, which is decoded in place
    }
    let values = form.vector(values, ty.bits(), kind.writes())?;
    let elements = [1, 2, 4][form.which(&["v2", "v4"]).map_or(0, |place| place + 1)];
    if values.len() != elements || elements * ty.bytes() > 16 || is_atomic && form.operands.len() > 3 {
        return Err(format!("unsupported vector of {} elements", values.len()));
    }
    Ok(Action::Memory(Box::new(MemoryOp {
        space,
        base,
        offset,
        ty,
        values,
        destination: if is_atomic { Some(form.any_dst(0, ty.bits())?) } else { None },
        access: Access { kind, strong, release, non_coherent: form.has("nc") },
    })))
}

/// The content of memory after `atom.add`. The store drops the bits above the type.
fn sum(form: &Form) -> Option<Reduce> {
    fn add<T: Lane + std::ops::Add<Output = T>>(a: u64, b: u64) -> u64
    where
        T::Word: Into<u64> + TryFrom<u64>,
    {
        let read = |word| T::read(T::Word::try_from(word).unwrap_or_default());
        (read(a) + read(b)).word().into()
    }
    if form.ty()?.is_float() {
        return Some(floats!(form.ty(), T => add::<T>));
    }
    matches!(form.ty()?, Type::U32 | Type::S32 | Type::U64).then_some(u64::wrapping_add)
}
