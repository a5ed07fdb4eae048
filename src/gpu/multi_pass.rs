//! The tiers of several passes: launches over the elements, chunk by chunk, and the one between them
//! that makes coefficients of what was measured.

use super::Gpu;
use super::call::Call;
use super::launch::{Size, Slot};
use crate::plan::{Chunks, GpuPlan, Kernel, Pass, Phase, Tier};
use crate::tuning::{
    AFFINE_NUMBERS, COMOMENTS_NUMBERS, GRADIENT_NUMBERS, MOMENTS_NUMBERS, WARP, WARPS_PER_BLOCK,
};
use candle_core::{Result, bail};

/// A launch, and the slots of the workspace that it has. Kernels expect of some that they may be absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    kernel: Kernel,
    slots: u32,
}

impl Step {
    fn new<const N: usize>(kernel: Kernel, slots: [(Slot, bool); N]) -> Self {
        let bits = slots.map(|(slot, there)| slot.bit_if(there));
        Self {
            kernel,
            slots: bits.into_iter().sum(),
        }
    }
}

/// What a backward pass in several passes has, and what it is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    pub given: bool,
    pub activation: bool,
    /// Gradients per element.
    pub dx: bool,
    pub dv: bool,
    pub dweights: bool,
    /// The planes' shares of any other.
    pub shares: bool,
}

/// The forward pass: by coefficients, or `merges` where each block of the launch that writes makes those itself,
/// of the parts or the given statistics.
pub fn forward(tier: Tier, given: bool, merges: bool) -> Vec<Step> {
    use Slot::{Affines, Parts};
    let [measure, write] =
        [Phase::Measure, Phase::Write].map(|phase| Kernel::of(tier, Pass::Forward, phase));
    let mut steps = vec![];
    if !given {
        steps.push(Step::new(measure, [(Parts, true)]));
    }
    if merges {
        steps.push(Step::new(write, [(Parts, !given)]));
    } else {
        steps.push(affines(given));
        steps.push(Step::new(write, [(Affines, true)]));
    }
    steps
}

/// The mean and another statistic of every plane, which are the call's result.
pub fn stats(tier: Tier) -> Vec<Step> {
    let measure = Kernel::of(tier, Pass::Forward, Phase::Measure);
    [measure, Kernel::Stats]
        .map(|kernel| Step::new(kernel, [(Slot::Parts, true)]))
        .into()
}

/// The coefficients of the forward pass.
fn affines(given: bool) -> Step {
    let slots = [(Slot::Parts, !given), (Slot::Affines, true)];
    Step::new(Kernel::Finish(Pass::Forward), slots)
}

pub fn backward(tier: Tier, asked: Asked) -> Vec<Step> {
    use Slot::{Affines, Gradients, Parts};
    let Asked {
        given,
        dx,
        dweights,
        ..
    } = asked;
    // The coefficients of the forward pass recompute its elements: an activation needs those before
    // anything is summed, a weight per element (z, to be exact) when the gradients are written.
    let affines_first = asked.activation || (given && dweights);
    let affines_after = !affines_first && dweights;
    let sums = asked.shares || affines_after || (dx && !given);
    let of = |pass, phase| Kernel::of(tier, pass, phase);
    let mut steps = vec![];
    if affines_first {
        if !given {
            steps.push(Step::new(
                of(Pass::Forward, Phase::Measure),
                [(Parts, true)],
            ));
        }
        steps.push(affines(given));
    }
    if sums {
        let slots = [(Affines, affines_first), (Parts, true)];
        steps.push(Step::new(of(Pass::Backward, Phase::Measure), slots));
    }
    if sums || dx {
        let slots = [(Parts, sums), (Gradients, dx), (Affines, affines_after)];
        steps.push(Step::new(Kernel::Finish(Pass::Backward), slots));
    }
    if dx || asked.dv || dweights {
        let slots = [(Affines, affines_first || affines_after), (Gradients, dx)];
        steps.push(Step::new(of(Pass::Backward, Phase::Write), slots));
    }
    steps
}

/// Runs the steps of a call, in their order.
pub fn run<G: Gpu>(call: &mut Call<G>, plan: &GpuPlan, steps: &[Step]) -> Result<()> {
    let (Tier::Split(chunks) | Tier::Columns(chunks)) = plan.tier else {
        bail!("norm: expected a plan of several passes, got {plan:?}")
    };
    let planes = call.spec.planes.count();
    let groups = planes / call.spec.channels_per_group;
    for step in steps {
        for slot in [Slot::Affines, Slot::Gradients, Slot::Parts] {
            if step.slots & slot.bit() != 0 {
                call.reserve(slot, planes * numbers(slot, step.kernel, chunks));
            }
        }
    }
    call.allocate()?;
    for step in steps {
        // A warp for each group of planes.
        let of_groups = Size::new(
            groups.div_ceil(WARPS_PER_BLOCK) as u32,
            (WARP * WARPS_PER_BLOCK) as u32,
        );
        let (size, chunks) = match step.kernel {
            Kernel::Split(..) | Kernel::Columns(..) => (Size::of(plan), chunks),
            // A lane for each part of a plane.
            Kernel::Finish(Pass::Backward) => {
                let team = chunks.count.next_power_of_two().min(WARP);
                (of_groups, Chunks { team, ..chunks })
            }
            _ => (of_groups, chunks),
        };
        // SAFETY: the call's tensors hold `planes` planes at their strides, its parameters `period`
        // numbers each. The workspace has so many numbers for each chunk of the plan or for each plane,
        // filled by earlier launches; a slot is absent where the kernels expect that. The plan covers
        // every plane.
        unsafe { call.launch(step.kernel, size, chunks.into(), step.slots) }?;
    }
    Ok(())
}

/// The numbers that a plane has in a slot.
fn numbers(slot: Slot, kernel: Kernel, chunks: Chunks) -> usize {
    match (slot, kernel) {
        (Slot::Affines, _) => AFFINE_NUMBERS,
        (Slot::Gradients, _) => GRADIENT_NUMBERS,
        (_, Kernel::Split(Pass::Backward, _) | Kernel::Columns(Pass::Backward, _)) => {
            chunks.count * COMOMENTS_NUMBERS
        }
        _ => chunks.count * MOMENTS_NUMBERS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIER: Tier = Tier::Split(Chunks {
        count: 2,
        length: 3,
        team: 4,
    });

    /// The slots that a kernel fills; it reads its others.
    fn filled_by(kernel: Kernel) -> &'static [Slot] {
        match kernel {
            Kernel::Split(_, Phase::Measure) => &[Slot::Parts],
            Kernel::Finish(_) => &[Slot::Affines, Slot::Gradients],
            _ => &[],
        }
    }

    /// Nothing is read that no step before has filled, and nothing filled that no step after reads.
    fn check(steps: &[Step]) {
        for (i, step) in steps.iter().enumerate() {
            for slot in [Slot::Parts, Slot::Affines, Slot::Gradients] {
                let fills =
                    |s: &Step| s.slots & slot.bit() != 0 && filled_by(s.kernel).contains(&slot);
                let reads =
                    |s: &Step| s.slots & slot.bit() != 0 && !filled_by(s.kernel).contains(&slot);
                if reads(step) {
                    assert!(
                        steps[..i].iter().any(fills),
                        "{slot:?} of {step:?} in {steps:?}"
                    );
                }
                if fills(step) {
                    assert!(
                        steps[i..].iter().any(reads),
                        "{slot:?} of {step:?} in {steps:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_read_was_filled() {
        check(&stats(TIER));
        for bits in 0..64u32 {
            let bit = |i: u32| bits >> i & 1 != 0;
            let asked = Asked {
                given: bit(0),
                activation: bit(1),
                dx: bit(2),
                dv: bit(3),
                dweights: bit(4),
                shares: bit(5),
            };
            check(&forward(TIER, bit(0), bit(1)));
            if asked.dx || asked.dv || asked.dweights || asked.shares {
                check(&backward(TIER, asked));
            }
        }
    }

    #[test]
    fn as_few_launches_as_there_can_be() {
        assert_eq!(forward(TIER, true, true).len(), 1);
        assert_eq!(forward(TIER, false, true).len(), 2);
        assert_eq!(forward(TIER, false, false).len(), 3);
        let dx = Asked {
            dx: true,
            ..Asked::default()
        };
        assert_eq!(backward(TIER, dx).len(), 3);
        assert_eq!(backward(TIER, Asked { given: true, ..dx }).len(), 2);
        let dv = Asked {
            dv: true,
            ..Asked::default()
        };
        assert_eq!(backward(TIER, dv).len(), 1);
    }
}
