//! Instructions of several lanes of a warp: they wait for each other, then all go on.
//!
//! A shuffle or vote orders no memory accesses; `bar.warp.sync` does (9.7.13.2).

use super::registers::{lanes, Register, Word, ALL, LANES};
use super::report::{Fault, Report};
use super::warp::Warp;
use super::Machine;
use crate::isa::lanes::Predicate;
use crate::isa::Reduce;

#[derive(Clone, Copy, Debug)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug)]
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// What the lanes do once they are together. Registers of 32 bits by index.
pub enum Together {
    Synchronize,
    Shuffle { mode: Shuffle, d: u32, p: Option<u32>, a: u32, b: u32, c: u32 },
    Vote { mode: Vote, d: Register, a: Predicate },
    Match { all: bool, d: u32, p: Option<u32>, a: Register },
    Reduce { f: Reduce, d: u32, a: u32 },
    Elect { d: u32, p: u32 },
}

pub struct Collective {
    /// The register with the member mask.
    pub members: u32,
    pub together: Together,
}

impl Machine<'_> {
    /// Lanes `arriving` reach a collective at `pc`. Returns those that go on, which may include
    /// lanes that waited; the others wait.
    pub(super) fn collective(
        &mut self,
        at: (usize, usize),
        warp: &mut Warp,
        pc: u32,
        op: &Collective,
        arriving: u32,
    ) -> Result<u32, Report> {
        let waiting = lanes(warp.at_collective).filter(|l| warp.pc[*l] == pc);
        let here = waiting.fold(arriving, |m, l| m | 1 << l);
        let masks = *u32::plane(&warp.registers, op.members);
        let fail = |machine: &Self, lane: usize, detail: String| {
            Err(machine.report(Fault::Synchronization, machine.who(at.0, at.1, lane), pc, detail))
        };
        for lane in lanes(arriving) {
            let members = masks[lane] & warp.lanes;
            if members >> lane & 1 == 0 {
                return fail(self, lane, format!("member mask {members:#010x} leaves out the lane itself"));
            }
            if members & !warp.live != 0 {
                let gone = members & !warp.live;
                return fail(self, lane, format!("member mask names lanes {gone:#010x}, which have exited"));
            }
        }
        let mut complete = 0;
        for lane in lanes(here) {
            let members = masks[lane] & warp.lanes;
            if complete >> lane & 1 != 0 || members & !here != 0 {
                continue;
            }
            if let Some(other) = lanes(members).find(|l| masks[*l] & warp.lanes != members) {
                let theirs = masks[other];
                return fail(self, lane, format!("member mask {members:#010x}, but {theirs:#010x} in lane {other}"));
            }
            if let Err((lane, detail)) = self.together(warp, &op.together, members) {
                return fail(self, lane, detail);
            }
            complete |= members;
        }
        warp.at_collective = warp.at_collective & !complete | here & !complete;
        lanes(here & !complete).for_each(|l| warp.pc[l] = pc);
        lanes(complete).for_each(|l| warp.pc[l] = pc + 1);
        Ok(complete)
    }

    fn together(&mut self, warp: &mut Warp, together: &Together, members: u32) -> Result<(), (usize, String)> {
        let registers = &mut warp.registers;
        match *together {
            Together::Synchronize => {
                let now = self.tick();
                lanes(members).for_each(|l| warp.synchronized[l] = now);
            }
            Together::Shuffle { mode, d, p, a, b, c } => {
                let [a, b, c] = [a, b, c].map(|s| *u32::plane(registers, s));
                let (mut out, mut valid) = ([0; LANES], 0);
                for lane in lanes(members) {
                    let (source, in_range) = shuffle_source(mode, lane, b[lane], c[lane]);
                    if members >> source & 1 == 0 {
                        return Err((
                            lane,
                            format!("shfl reads lane {source}, which is not in the member mask {members:#010x}"),
                        ));
                    }
                    out[lane] = a[source];
                    valid |= (in_range as u32) << lane;
                }
                registers.write(d, members, &out);
                if let Some(p) = p {
                    registers.set_predicate(p, members, valid);
                }
            }
            Together::Vote { mode, d, a } => {
                let votes = a.mask(registers) & members;
                let holds = match mode {
                    Vote::All => votes == members,
                    Vote::Any => votes != 0,
                    Vote::Uniform => votes == members || votes == 0,
                    Vote::Ballot => {
                        lanes(members).for_each(|l| d.set(registers, l, votes as u64));
                        return Ok(());
                    }
                };
                registers.set_predicate(d.index, members, if holds { ALL } else { 0 });
            }
            Together::Match { all, d, p, a } => {
                let mut out = [0; LANES];
                for lane in lanes(members) {
                    let value = a.get(registers, lane);
                    let equal = lanes(members).filter(|l| a.get(registers, *l) == value);
                    let equal = equal.fold(0, |m, l| m | 1 << l);
                    out[lane] = if all && equal != members { 0 } else { equal };
                }
                registers.write(d, members, &out);
                if let Some(p) = p {
                    let matched = out[members.trailing_zeros() as usize] == members;
                    registers.set_predicate(p, members, if matched { ALL } else { 0 });
                }
            }
            Together::Reduce { f, d, a } => {
                let a = u32::plane(registers, a).map(u64::from);
                let reduced = lanes(members).map(|l| a[l]).reduce(|x, y| f(x, y, 0) as u32 as u64);
                registers.write(d, members, &[reduced.unwrap_or(0) as u32; LANES]);
            }
            Together::Elect { d, p } => {
                let leader = members.trailing_zeros();
                registers.write(d, members, &[leader; LANES]);
                registers.set_predicate(p, members, 1 << leader);
            }
        }
        Ok(())
    }
}

/// The lane that a shuffle reads, and whether it lies within the segment (9.7.9.6).
fn shuffle_source(mode: Shuffle, lane: usize, b: u32, c: u32) -> (usize, bool) {
    let (b, clamp, segment) = (b as usize & 31, c as usize & 31, (c >> 8) as usize & 31);
    let most = (lane & segment) | (clamp & !segment);
    let (source, in_range) = match mode {
        Shuffle::Up => (lane.wrapping_sub(b), lane as isize - b as isize >= most as isize),
        Shuffle::Down => (lane + b, lane + b <= most),
        Shuffle::Butterfly => (lane ^ b, lane ^ b <= most),
        Shuffle::Index => {
            let source = (lane & segment) | (b & !segment);
            (source, source <= most)
        }
    };
    (if in_range { source & 31 } else { lane }, in_range)
}
