//! Instructions of several lanes of a warp: they wait for each other, then all go on.
//!
//! A shuffle orders no memory accesses (9.7.9.6); `bar.warp.sync` does (9.7.13.2).

use super::registers::{LANES, Word, lanes};
use super::report::{Fault, Report};
use super::warp::Warp;
use super::{Machine, Site};

#[derive(Clone, Copy, Debug)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// The action of lanes once they are together. Registers are given by index.
pub enum Together {
    Synchronize,
    Shuffle { mode: Shuffle, d: u32, p: Option<u32>, a: u32, b: u32, c: u32 },
}

pub struct Collective {
    /// The register with the member mask.
    pub members: u32,
    pub together: Together,
}

impl Machine<'_> {
    /// Lanes `arriving` reach a collective. Returns those that go on, which may include lanes that
    /// waited; the others wait.
    pub(super) fn collective(
        &mut self, site: Site, warp: &mut Warp, op: &Collective, arriving: u32,
    ) -> Result<u32, Report> {
        let waiting = lanes(warp.at_collective).filter(|l| warp.pc[*l] == site.pc);
        let here = waiting.fold(arriving, |m, l| m | 1 << l);
        let masks = u32::plane(&warp.registers, op.members).map(|mask| mask & warp.lanes);
        let (mut complete, mut rest) = (0, here);
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            let members = masks[lane];
            let fail = |detail: String| {
                let detail = format!("member mask {members:#010x} {detail}");
                Err(self.report(Fault::Synchronization, site, lane, detail))
            };
            if members >> lane & 1 == 0 {
                return fail("leaves out the lane itself".to_string());
            }
            if members & !warp.live != 0 {
                return fail(format!("names lanes {:#010x}, which have exited", members & !warp.live));
            }
            if members & !here != 0 {
                rest &= !(1 << lane);
                continue;
            }
            if let Some(other) = lanes(members).find(|l| masks[*l] != members) {
                return fail(format!("is {:#010x} in lane {other}", masks[other]));
            }
            match op.together {
                Together::Synchronize => {
                    let now = self.tick();
                    lanes(members).for_each(|l| warp.synchronized[l] = now);
                }
                Together::Shuffle { mode, d, p, a, b, c } => {
                    let [a, b, c] = [a, b, c].map(|s| *u32::plane(&warp.registers, s));
                    let (mut out, mut valid) = ([0; LANES], 0);
                    for lane in lanes(members) {
                        let (source, in_range) = shuffle_source(mode, lane, b[lane], c[lane]);
                        if members >> source & 1 == 0 {
                            return fail(format!("leaves out lane {source}, which lane {lane} reads"));
                        }
                        out[lane] = a[source];
                        valid |= (in_range as u32) << lane;
                    }
                    warp.registers.write(d, members, &out);
                    if let Some(p) = p {
                        warp.registers.set_predicate(p, members, valid);
                    }
                }
            }
            complete |= members;
            rest &= !members;
        }
        warp.at_collective = warp.at_collective & !complete | here & !complete;
        warp.go_on(here, site.pc);
        warp.go_on(complete, site.pc + 1);
        Ok(complete)
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
