//! Ops on more than three tensors, which candle's custom ops do not take.
//!
//! The op holds the inputs that are not tracked. Tracked ones that are left over are on the graph
//! behind carriers: nodes that depend on up to three tensors each, so that candle comes to them in
//! the backward pass. The op has left the gradients with its carriers by then.
//!
//! Remove this file when [candle](https://github.com/huggingface/candle) has custom ops on any number
//! of tensors.

use super::custom_op::{Backend, Custom, FusedOp, apply};
use crate::spec::View;
use candle_core::backend::BackendDevice;
use candle_core::{DType, Error, Result, Shape, Tensor, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

/// [`apply`] for more than three inputs.
pub fn apply_carried<F: FusedOp>(op: F, inputs: &[&Tensor]) -> Result<Tensor> {
    let mut tracked: Vec<usize> = (0..inputs.len())
        .filter(|&i| inputs[i].track_op())
        .collect();
    if tracked.is_empty() {
        tracked.push(0);
    }
    let direct = if tracked.len() <= 3 { tracked.len() } else { 1 };
    let (direct, carried) = tracked.split_at(direct);
    let held = |i| (!direct.contains(&i)).then(|| inputs[i].clone());
    let mut held: Vec<_> = (0..inputs.len()).map(held).collect();
    let (mut carriers, mut nodes) = (vec![], vec![]);
    for some in carried.chunks(3) {
        let carrier = Carrier::default();
        let behind: Vec<&Tensor> = some.iter().map(|&i| inputs[i]).collect();
        nodes.push(apply(carrier.clone(), &behind)?);
        carriers.push((some.to_vec(), carrier));
        held.push(None);
    }
    let op = Carried { op, carriers };
    let direct = direct.iter().map(|&i| inputs[i]);
    let graph: Vec<&Tensor> = direct.chain(&nodes).collect();
    Custom { op, held }.apply(&graph)
}

/// An op whose last inputs are the nodes of carriers, with the numbers of the inputs behind each.
struct Carried<F> {
    op: F,
    carriers: Vec<(Vec<usize>, Carrier)>,
}

impl<F: FusedOp> FusedOp for Carried<F> {
    const NAME: &'static str = F::NAME;

    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        self.op.run(&inputs[..inputs.len() - self.carriers.len()])
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Grads> {
        let (inputs, nodes) = inputs.split_at(inputs.len() - self.carriers.len());
        let mut grads = self.op.bwd(inputs, grad)?;
        for ((numbers, carrier), node) in self.carriers.iter().zip(nodes) {
            let behind = numbers.iter().map(|&i| grads[i].take()).collect();
            carrier.lock()?.insert(thread::current().id(), behind);
            grads.push(Some(node.zeros_like()?));
        }
        Ok(grads)
    }
}

type Grads = Vec<Option<Tensor>>;

/// The gradients by thread: `backward` may run on several threads over one graph, and comes to the
/// op and to its carriers on the same one.
#[derive(Clone, Default)]
struct Carrier(Arc<Mutex<HashMap<ThreadId, Grads>>>);

impl Carrier {
    fn lock(&self) -> Result<MutexGuard<'_, HashMap<ThreadId, Grads>>> {
        let poisoned =
            |_| Error::Msg("norm: a thread panicked while it handed on gradients".into());
        self.0.lock().map_err(poisoned)
    }
}

impl FusedOp for Carrier {
    const NAME: &'static str = "norm-inputs";

    /// A single 0, which nobody reads.
    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        let (device, shape) = (inputs[0].0.device(), Shape::from(1));
        Ok((device.zeros_impl(&shape, DType::F32)?, shape))
    }

    fn bwd(&self, _: &[&Tensor], _: &Tensor) -> Result<Grads> {
        match self.lock()?.remove(&thread::current().id()) {
            Some(grads) => Ok(grads),
            None => bail!("norm: no gradients were left for the inputs of an op"),
        }
    }
}
