//! Loads and stores (9.7.9), atomics, reductions and fences (9.7.13).

use super::form::{Decoded, Form};
use super::rounding::Real;
use super::Action;
use crate::machine::access::{MemoryOp, Operation};
use crate::machine::race::{AccessKind, Kind};
use crate::ptx::types::{Space, Type};
use half::{bf16, f16};

/// Cache hints and scopes: here memory has one order that all threads see.
const NO_EFFECT: [&str; 26] = [
    "weak",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "unified",
    "noftz",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L2::evict_last",
    "L2::evict_normal",
    "L2::evict_first",
    "acq_rel",
];

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "ld" | "ldu" => load(form),
        "st" => store(form),
        "atom" | "red" => atomic(form),
        "membar" => fence(form, &["cta", "gl", "sys"]),
        "fence" => fence(form, &["sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "sys"]),
        "prefetch" | "prefetchu" | "discard" | "applypriority" => {
            form.ignore(&["L1", "L2", "128", "L2::evict_normal", "L2::evict_last"]);
            Ok(Action::Nothing)
        }
        _ => return None,
    })
}

fn fence(form: &Form, scopes: &[&str]) -> Decoded {
    form.ignore(scopes);
    Ok(Action::Fence)
}

/// The part that loads, stores and atomics share; `values` are the destinations or the sources.
fn operation(form: &Form, address: usize, operation: Operation, kind: Kind) -> Result<MemoryOp, String> {
    let ty = form.ty()?;
    // The semantics come first: `acq_rel` has a meaning for atomics, and is no cache hint.
    let acquire_release = form.has("acq_rel");
    let release = form.has("release") || acquire_release;
    let acquire = form.has("acquire") || acquire_release;
    let strong = form.has("volatile") | form.has("relaxed") | form.has("mmio") | acquire | release;
    let non_coherent = form.has("nc");
    form.ignore(&NO_EFFECT);
    let (base, offset) = form.address(address)?;
    let mut space = Space::of(&form.modifiers);
    let name = form.operand(address)?.trim_matches(['[', ']']);
    if space == Space::Param && form.decoder.borrow().is_local(name.split('+').next().unwrap_or(name)) {
        space = Space::Local; // an argument of a call, which is decoded in place
    }
    Ok(MemoryOp {
        operation,
        space,
        base,
        offset: offset as u64,
        ty,
        values: Vec::new(),
        destination: None,
        access: AccessKind { kind, strong: strong || kind == Kind::Atomic, non_coherent },
        release,
    })
}

fn elements(form: &Form) -> usize {
    [1, 2, 4, 8][form.which(&["v2", "v4", "v8"]).map_or(0, |place| place + 1)]
}

fn load(form: &Form) -> Decoded {
    let mut op = operation(form, 1, Operation::Load, Kind::Read)?;
    op.values = form.vector(0, op.ty.bits(), false)?;
    finish(form, op)
}

fn store(form: &Form) -> Decoded {
    let mut op = operation(form, 0, Operation::Store, Kind::Write)?;
    op.values = form.vector(1, op.ty.bits(), true)?;
    finish(form, op)
}

fn finish(form: &Form, op: MemoryOp) -> Decoded {
    if op.values.len() != elements(form) || op.values.len() * op.ty.bytes() > 32 {
        return Err(format!("unsupported vector of {} elements", op.values.len()));
    }
    Ok(Action::Memory(Box::new(op)))
}

fn atomic(form: &Form) -> Decoded {
    let names = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
    let place = form.which(&names).ok_or_else(|| form.unsupported())?;
    let ty = form.ty()?;
    let apply = reduce(names[place], ty).ok_or_else(|| form.unsupported())?;
    let returns = form.name == "atom";
    let mut op = operation(form, returns as usize, Operation::Atomic(apply), Kind::Atomic)?;
    if returns {
        op.destination = Some(form.any_dst(0, ty.bits())?);
    }
    let first = 1 + returns as usize;
    let values = (first..form.operands.len()).map(|i| form.any_src(i, ty.bits()));
    op.values = values.collect::<Result<_, _>>()?;
    let expected = if names[place] == "cas" { 2 } else { 1 };
    if op.values.len() != expected || op.values.iter().any(|v| v.bits == 1) {
        return Err(form.unsupported());
    }
    Ok(Action::Memory(Box::new(op)))
}

/// What memory holds after an atomic: of what it held, the operand, and the second one of `cas`.
pub type Reduce = fn(u64, u64, u64) -> u64;

/// Also what `redux` does.
pub fn reduce(name: &str, ty: Type) -> Option<Reduce> {
    fn sum<H: Real<Word = u32>>(a: u64, b: u64) -> u64 {
        H::nearest(H::read(a as u32).wide() + H::read(b as u32).wide()).word() as u64
    }
    let wide = ty.bits() == 64;
    Some(match (name, ty) {
        ("add", Type::F32) => |a, b, _| (f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits() as u64,
        ("add", Type::F64) => |a, b, _| (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        ("add", Type::F16) => |a, b, _| sum::<f16>(a, b),
        ("add", Type::BF16) => |a, b, _| sum::<bf16>(a, b),
        ("add", Type::F16x2) => |a, b, _| sum::<f16>(a, b) | sum::<f16>(a >> 16, b >> 16) << 16,
        ("add", Type::BF16x2) => |a, b, _| sum::<bf16>(a, b) | sum::<bf16>(a >> 16, b >> 16) << 16,
        ("exch", _) => |_, b, _| b,
        ("cas", _) => |a, b, c| if a == b { c } else { a },
        _ if ty.is_float() => return None,
        // The store drops what is above the type.
        ("add", _) => |a, b, _| a.wrapping_add(b),
        ("and", _) => |a, b, _| a & b,
        ("or", _) => |a, b, _| a | b,
        ("xor", _) => |a, b, _| a ^ b,
        ("min", Type::S32) => |a, b, _| (a as i32).min(b as i32) as u32 as u64,
        ("max", Type::S32) => |a, b, _| (a as i32).max(b as i32) as u32 as u64,
        ("min", Type::S64) => |a, b, _| (a as i64).min(b as i64) as u64,
        ("max", Type::S64) => |a, b, _| (a as i64).max(b as i64) as u64,
        ("min", _) => |a, b, _| a.min(b),
        ("max", _) => |a, b, _| a.max(b),
        ("inc", Type::U32) if !wide => |a, b, _| if a >= b { 0 } else { a + 1 },
        ("dec", Type::U32) if !wide => |a, b, _| if a == 0 || a > b { b } else { a - 1 },
        _ => return None,
    })
}
