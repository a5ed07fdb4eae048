//! What the lanes of a warp do together: shfl (9.7.9), vote, match, redux, activemask, elect,
//! bar.warp.sync (9.7.13).

use super::form::{Decoded, Form};
use super::memory::reduce;
use super::Action;
use crate::machine::collective::{Collective, Shuffle, Together, Vote};

pub fn decode(form: &Form) -> Option<Decoded> {
    form.ignore(&["sync"]);
    Some(match form.name {
        "shfl" => shuffle(form),
        "vote" => vote(form),
        "match" => matching(form),
        "redux" => redux(form),
        "elect" => elect(form),
        "activemask" => form.dst::<u32>(0).map(Action::ActiveMask),
        "bar" | "barrier" if form.has("warp") => members(form, 0, Together::Synchronize),
        _ => return None,
    })
}

fn members(form: &Form, i: usize, together: Together) -> Decoded {
    let members = form.src::<u32>(i)?;
    Ok(Action::Collective(Box::new(Collective { members, together })))
}

fn shuffle(form: &Form) -> Decoded {
    let modes = [Shuffle::Up, Shuffle::Down, Shuffle::Butterfly, Shuffle::Index];
    let mode = form.which(&["up", "down", "bfly", "idx"]).ok_or_else(|| form.unsupported())?;
    let (d, p) = form.pair()?;
    let (d, p) = {
        let mut decoder = form.decoder.borrow_mut();
        let p = p.map(|p| decoder.register(p, 1)).transpose()?;
        (decoder.register(d, 32)?, p)
    };
    let together = Together::Shuffle {
        mode: modes[mode],
        d: d.index,
        p: p.map(|p| p.index),
        a: form.src::<u32>(1)?,
        b: form.src::<u32>(2)?,
        c: form.src::<u32>(3)?,
    };
    members(form, 4, together)
}

fn vote(form: &Form) -> Decoded {
    let modes = [Vote::All, Vote::Any, Vote::Uniform, Vote::Ballot];
    let mode = form.which(&["all", "any", "uni", "ballot"]).ok_or_else(|| form.unsupported())?;
    let d = form.any_dst(0, 32)?;
    members(form, 2, Together::Vote { mode: modes[mode], d, a: form.predicate(1)? })
}

fn matching(form: &Form) -> Decoded {
    let all = match form.which(&["any", "all"]) {
        Some(place) => place == 1,
        None => return Err(form.unsupported()),
    };
    let (d, p) = form.pair()?;
    let (d, p) = {
        let mut decoder = form.decoder.borrow_mut();
        let p = p.map(|p| decoder.register(p, 1)).transpose()?;
        (decoder.register(d, 32)?.index, p.map(|p| p.index))
    };
    let a = form.any_src(1, form.ty()?.bits())?;
    members(form, 2, Together::Match { all, d, p, a })
}

fn redux(form: &Form) -> Decoded {
    let names = ["add", "min", "max", "and", "or", "xor"];
    let place = form.which(&names).ok_or_else(|| form.unsupported())?;
    let f = reduce(names[place], form.ty()?).ok_or_else(|| form.unsupported())?;
    let (d, a) = (form.dst::<u32>(0)?, form.src::<u32>(1)?);
    members(form, 2, Together::Reduce { f, d, a })
}

fn elect(form: &Form) -> Decoded {
    let (d, p) = form.pair()?;
    let (d, p) = {
        let mut decoder = form.decoder.borrow_mut();
        let p = decoder.register(p.ok_or("expected d|p")?, 1)?;
        (decoder.register(d, 32)?.index, p.index)
    };
    members(form, 1, Together::Elect { d, p })
}
