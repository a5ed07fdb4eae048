//! What a kernel is told of memory: addresses, in a call and behind it.

use crate::gpu::abi::{CallArg, Real};
use crate::gpu::launch::Slot;
use crate::plan::{Kernel, Pass, Phase};

/// Makes addresses of the indices in storages; 0 of those that there are none of.
pub fn to_addresses<R: Real>(call: &mut CallArg<R>, element: usize, address: impl Fn(Slot) -> u64) {
    let at = |slot, index: u64, size: usize| match address(slot) {
        0 => 0,
        address => address + index * size as u64,
    };
    for (slot, tensor) in call.tensors() {
        tensor.origin = at(slot, tensor.origin, element);
    }
    let params = [
        (Slot::Weight, &mut call.weight),
        (Slot::Bias, &mut call.bias),
        (Slot::Mean, &mut call.mean),
        (Slot::Rstd, &mut call.rstd),
    ];
    for (slot, param) in params {
        let size = if param.is_f32 != 0 { 4 } else { element };
        param.origin = at(slot, param.origin, size);
    }
    let shares = [
        (Slot::ShareWeight, &mut call.shares.weight),
        (Slot::ShareBias, &mut call.shares.bias),
        (Slot::ShareMean, &mut call.shares.mean),
        (Slot::ShareRstd, &mut call.shares.rstd),
    ];
    for (slot, origin) in shares {
        *origin = at(slot, *origin, sum_bytes(element));
    }
}

/// The same for AdaIN's calls, of the content and of the style.
pub fn both_to_addresses<R: Real>(
    [content, style]: &mut [CallArg<R>; 2],
    element: usize,
    address: impl Fn(Slot) -> u64,
) {
    to_addresses(content, element, &address);
    to_addresses(style, element, |slot| match slot {
        Slot::X => address(Slot::Style),
        _ => 0,
    });
}

/// The bytes of a number of the workspace and of a plane's share: sums are f32, or f64 for f64.
pub fn sum_bytes(element: usize) -> usize {
    element.max(size_of::<f32>())
}

/// The addresses that a kernel takes behind a call and chunks, in this order.
pub fn behind(kernel: Kernel, address: impl Fn(Slot) -> u64) -> Vec<u64> {
    let slots = buffers_of(kernel).iter();
    slots.map(|&slot| address(slot)).collect()
}

/// The buffers behind a call and chunks.
fn buffers_of(kernel: Kernel) -> &'static [Slot] {
    use Slot::{Affines, Gradients, Out, Parts};
    match kernel {
        Kernel::Split(pass, phase) | Kernel::Columns(pass, phase) => match (pass, phase) {
            (Pass::Forward, Phase::Measure) => &[Parts],
            (Pass::Backward, Phase::Measure) => &[Affines, Parts],
            (Pass::Forward, Phase::Write) => &[Affines, Parts],
            (Pass::Backward, Phase::Write) => &[Affines, Gradients],
        },
        Kernel::Finish(Pass::Forward) => &[Parts, Affines],
        Kernel::Finish(Pass::Backward) => &[Parts, Gradients, Affines],
        Kernel::Stats => &[Parts, Out],
        Kernel::Lanes(..) | Kernel::Block(..) | Kernel::Cluster(_) => &[],
        Kernel::AdaInLanes(..) | Kernel::AdaInBlock(_) | Kernel::AdaInCluster => &[],
        Kernel::GroupsBlock(_) | Kernel::GroupsCluster(_) => &[],
        Kernel::StripBlock(_) | Kernel::StripCluster(_) => &[],
        Kernel::Shared(_) | Kernel::GroupsShared(_) | Kernel::SumParams => &[],
    }
}
