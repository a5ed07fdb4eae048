//! Control flow (9.7.12), barriers (9.7.13), shuffles (9.7.9.6) and trap (9.7.19). Branches, calls
//! and returns are the decoder's: they need labels.

use super::Action;
use super::form::{Decoded, Form};
use crate::machine::barrier::BarrierOp;
use crate::machine::collective::{Collective, Shuffle, Together};

pub fn decode(form: &Form) -> Option<Decoded> {
    let modifiers = &form.modifiers[..];
    form.ignore(modifiers); // the patterns are of all there are
    Some(match (form.name, modifiers) {
        ("exit", []) => Ok(Action::Exit),
        ("trap", []) => Ok(Action::Trap("trap")),
        // nvcc uses only the first of the 16 barriers of a block, with all threads.
        ("bar" | "barrier", ["sync"]) if form.operands == ["0"] => Ok(Action::Barrier(BarrierOp::Block)),
        ("fence", ["acq_rel", "cluster"]) => Ok(Action::Barrier(BarrierOp::Release)),
        ("barrier", ["cluster", "arrive"]) => Ok(Action::Barrier(BarrierOp::ClusterArrive { releases: true })),
        ("barrier", ["cluster", "arrive", "relaxed"]) => {
            Ok(Action::Barrier(BarrierOp::ClusterArrive { releases: false }))
        }
        ("barrier", ["cluster", "wait"]) => Ok(Action::Barrier(BarrierOp::ClusterWait)),
        ("bar", ["warp", "sync"]) => together(form, 0, Together::Synchronize),
        ("shfl", ["sync", "up", "b32"]) => shuffle(form, Shuffle::Up),
        ("shfl", ["sync", "down", "b32"]) => shuffle(form, Shuffle::Down),
        ("shfl", ["sync", "bfly", "b32"]) => shuffle(form, Shuffle::Butterfly),
        ("shfl", ["sync", "idx", "b32"]) => shuffle(form, Shuffle::Index),
        _ => return None,
    })
}

fn together(form: &Form, members: usize, together: Together) -> Decoded {
    Ok(Action::Collective(Box::new(Collective { members: form.src::<u32>(members)?, together })))
}

/// `shfl.sync.bfly.b32 d|p, a, b, c, members`
fn shuffle(form: &Form, mode: Shuffle) -> Decoded {
    let ((d, p), [a, b, c]) = (form.pair()?, [form.src::<u32>(1)?, form.src::<u32>(2)?, form.src::<u32>(3)?]);
    together(form, 4, Together::Shuffle { mode, d, p, a, b, c })
}
