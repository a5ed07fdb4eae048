//! Tracked inputs beyond the third, which candle's custom ops do not take.
//!
//! A carrier is a node on the graph that depends on up to three tensors, so that candle comes to it
//! in the backward pass; the op that it is an input of has left the gradients of those tensors by
//! then.

use super::custom_op::{apply, Backend, FusedOp};
use crate::spec::View;
use candle_core::backend::BackendDevice;
use candle_core::{bail, DType, Error, Result, Shape, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// The carriers of an op, each with the numbers of the inputs behind it.
#[derive(Default)]
pub struct Carriers(Vec<(Vec<usize>, Carrier)>);

impl Carriers {
    /// Carriers for the inputs of these numbers, and their nodes on the graph.
    pub fn new(inputs: &[&Tensor], carried: &[usize]) -> Result<(Self, Vec<Tensor>)> {
        let (mut carriers, mut nodes) = (vec![], vec![]);
        for some in carried.chunks(3) {
            let carrier = Carrier::default();
            let behind: Vec<&Tensor> = some.iter().map(|&i| inputs[i]).collect();
            nodes.push(apply(carrier.clone(), &behind)?);
            carriers.push((some.to_vec(), carrier));
        }
        Ok((Self(carriers), nodes))
    }

    /// Leaves the gradients with the carriers, whose own are 0.
    pub fn leave<'a>(
        &self,
        grads: &mut [Option<Tensor>],
        nodes: impl Iterator<Item = &'a Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let leave = |((carried, carrier), node): (&(Vec<usize>, Carrier), &Tensor)| {
            let behind = carried.iter().map(|&i| grads[i].take()).collect();
            carrier.lock()?.insert(thread::current().id(), behind);
            node.zeros_like().map(Some)
        };
        self.0.iter().zip(nodes).map(leave).collect()
    }
}

type Grads = Vec<Option<Tensor>>;

/// The gradients by thread: `backward` may run on several threads over one graph, and comes to the
/// op and to its carriers on the same one.
#[derive(Clone, Default)]
struct Carrier(Arc<Mutex<HashMap<ThreadId, Grads>>>);

impl Carrier {
    fn lock(&self) -> Result<std::sync::MutexGuard<'_, HashMap<ThreadId, Grads>>> {
        let poisoned =
            |_| Error::Msg("norm: a thread panicked while it handed on gradients".into());
        self.0.lock().map_err(poisoned)
    }
}

impl FusedOp for Carrier {
    const NAME: &'static str = "norm-inputs";

    /// A single 0, which nobody reads.
    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        let shape = Shape::from(1);
        let device = inputs[0].0.device();
        Ok((device.zeros_impl(&shape, DType::F32)?, shape))
    }

    fn bwd(&self, _: &[&Tensor], _: &Tensor) -> Result<Grads> {
        match self.lock()?.remove(&thread::current().id()) {
            Some(grads) => Ok(grads),
            None => bail!("norm: no gradients were left for the inputs of an op"),
        }
    }
}
