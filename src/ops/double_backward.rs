//! Gradients that are already there, put on the graph, and the derivatives of those.
//!
//! A backward pass computes all gradients at once where a custom op returns one result. Each is
//! put on the graph by an op of its own behind everything that it depends on, so that a second
//! derivative (WGAN-GP, R1) is found: from the op composed of candle's own ops, differentiated
//! twice by candle. That is slower than the fused passes, and right for every variant.

use super::custom_op::{Backend, FusedOp, apply};
use crate::spec::View;
use candle_core::{
    Device, Error, Result, Shape, Storage, Tensor, Var, backend::BackendStorage, bail,
};
use std::sync::{Arc, Mutex};

/// An op in candle's own ops, from the same inputs.
pub type Composed = Arc<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;

/// The gradient of input `of` of the `composed` op, of the shape of that input, as a tensor that
/// depends on the `inputs` and on `dy`.
pub fn gradient(
    storage: Storage,
    inputs: &[&Tensor],
    dy: &Tensor,
    composed: &Composed,
    of: usize,
) -> Result<Tensor> {
    let op = Gradient {
        storage: Mutex::new(Some(storage)),
        shape: inputs[of].shape().clone(),
        derived: Some((composed.clone(), of)),
    };
    let inputs: Vec<&Tensor> = inputs.iter().copied().chain([dy]).collect();
    apply(op, &inputs)
}

/// `t`, a second derivative, as a tensor that depends on the `inputs`; its own is an error.
fn second(t: &Tensor, inputs: &[&Tensor]) -> Result<Tensor> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    let copy = match &*storage {
        Storage::Cpu(s) => Storage::Cpu(s.try_clone(layout)?),
        Storage::Cuda(s) => Storage::Cuda(s.try_clone(layout)?),
        Storage::Metal(s) => Storage::Metal(s.try_clone(layout)?),
    };
    let op = Gradient {
        storage: Mutex::new(Some(copy)),
        shape: t.shape().clone(),
        derived: None,
    };
    apply(op, inputs)
}

/// An op that hands over its result, once: candle runs an op when it is applied, and never again.
struct Gradient {
    storage: Mutex<Option<Storage>>,
    shape: Shape,
    /// The op that this is a gradient of, and of which of its inputs, for the second derivative.
    derived: Option<(Composed, usize)>,
}

impl FusedOp for Gradient {
    const NAME: &'static str = "norm-backward";

    fn run<S: Backend>(&self, _: &[View<S>]) -> Result<(S, Shape)> {
        let storage = self.storage.lock().ok().and_then(|mut s| s.take());
        match storage.and_then(S::unwrap) {
            Some(storage) => Ok((storage, self.shape.clone())),
            None => bail!("norm: internal error: a gradient was on another device, or taken twice"),
        }
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let Some((composed, of)) = &self.derived else {
            let op = "norm-second-derivative";
            return Err(Error::BackwardNotSupported { op }.bt());
        };
        if !keeps_graphs()? {
            bail!(
                "norm: a gradient was differentiated again, where candle cuts the graph between \
                 the two; set CANDLE_GRAD_DO_NOT_DETACH=1 before the first backward()"
            )
        }
        let vars = inputs.iter().map(|t| Var::from_tensor(&t.detach()));
        let vars: Vec<Var> = vars.collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let Some((dy, of_op)) = tensors.split_last() else {
            bail!("norm: a gradient without inputs")
        };
        let first = (composed(of_op)? * dy)?.sum_all()?.backward()?;
        let Some(first) = first.get(&tensors[*of]) else {
            bail!("norm: the composed op does not depend on input {of}")
        };
        // Without the graph behind it, which this pass is no part of.
        let second_grads = (first * grad.detach())?.sum_all()?.backward()?;
        let all: Vec<&Tensor> = inputs.iter().copied().chain([grad]).collect();
        let on_graph = |(i, var): (usize, &Tensor)| match second_grads.get(var) {
            Some(t) => second(t, &all).map(Some),
            // candle wants a gradient for whatever is on the graph, also one that is always 0.
            None if inputs[i].track_op() => inputs[i].zeros_like().map(Some),
            None => Ok(None),
        };
        tensors.iter().enumerate().map(on_graph).collect()
    }
}

/// True if candle leaves gradients on the graph. This asks candle itself, which reads the variable
/// once per thread: the second derivative of `v^4` at 1 is 12, or 4 if the graph is cut.
fn keeps_graphs() -> Result<bool> {
    let v = Var::new(1f64, &Device::Cpu)?;
    let first = v.sqr()?.sqr()?.backward()?;
    let Some(first) = first.get(&v) else {
        return Ok(false);
    };
    let second = first.backward()?;
    let second = second.get(&v).map(|t| t.to_scalar::<f64>()).transpose()?;
    Ok(second == Some(12.))
}
