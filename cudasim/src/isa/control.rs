//! Control flow (9.7.12), barriers of blocks and clusters (9.7.13) and what is left (9.7.19).
//! Branches, calls and returns are the decoder's: they need labels.

use super::form::{Decoded, Form};
use super::Action;
use crate::machine::barrier::{BarrierOp, Joined};

pub fn decode(form: &Form) -> Option<Decoded> {
    Some(match form.name {
        "exit" => Ok(Action::Exit),
        "trap" => Ok(Action::Trap("trap".to_string())),
        "nanosleep" | "griddepcontrol" => {
            form.ignore(&["launch_dependents", "wait"]);
            Ok(Action::Nothing)
        }
        "barrier" if form.has("cluster") => cluster(form),
        "bar" | "barrier" => barrier(form),
        _ => return None,
    })
}

fn cluster(form: &Form) -> Decoded {
    form.ignore(&["aligned", "acquire", "release"]);
    match form.which(&["arrive", "wait"]) {
        Some(0) => Ok(Action::Barrier(BarrierOp::ClusterArrive { relaxed: form.has("relaxed") })),
        Some(_) => Ok(Action::Barrier(BarrierOp::ClusterWait)),
        None => Err(form.unsupported()),
    }
}

fn barrier(form: &Form) -> Decoded {
    form.ignore(&["aligned", "cta"]);
    let kind = form.which(&["sync", "arrive", "red"]).ok_or_else(|| form.unsupported())?;
    let number = |i: usize| form.src::<u32>(i);
    let given = form.operands.len();
    let (id, threads, joined) = match kind {
        2 => {
            let joined = [Joined::Count, Joined::All, Joined::Any];
            let place = form.which(&["popc", "and", "or"]).ok_or_else(|| form.unsupported())?;
            let (d, p) = (form.any_dst(0, 32)?, form.predicate(given - 1)?);
            let threads = (given == 4).then(|| number(2)).transpose()?;
            (number(1)?, threads, Some((joined[place], d, p)))
        }
        _ => (number(0)?, (given > 1).then(|| number(1)).transpose()?, None),
    };
    Ok(Action::Barrier(match kind {
        1 => BarrierOp::Arrive { id, threads: threads.ok_or("expected the number of threads")? },
        _ => BarrierOp::Wait { id, threads, joined },
    }))
}
