//! Gradients that are already there, put on the graph, and the derivatives of those.
//!
//! A backward pass computes all gradients at once where a custom op returns one result. Each is
//! put on the graph by an op of its own behind everything that it depends on, so that a second
//! derivative (WGAN-GP, R1) is found: from the op composed of candle's own ops, differentiated
//! twice by candle. That is slow beside the fused passes and right for every variant.

use super::custom_op::{apply, FusedOp};
use crate::spec::View;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "metal")]
use candle_core::MetalStorage;
use candle_core::{
    backend::BackendStorage, bail, CpuStorage, Device, Result, Shape, Storage, Tensor, Var,
};
use std::sync::{Arc, Mutex};

/// An op in candle's own ops, from the same inputs.
pub type Composed = Arc<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;

/// The gradient of input `of` of the `composed` op, as a tensor of this shape that depends on the
/// `inputs` and on `dy`.
pub fn gradient(
    storage: Storage,
    shape: Shape,
    inputs: &[&Tensor],
    dy: &Tensor,
    composed: &Composed,
    of: usize,
) -> Result<Tensor> {
    let composed = composed.clone();
    let op = Gradient {
        result: Taken::new(storage, shape),
        composed,
        of,
    };
    let inputs: Vec<&Tensor> = inputs.iter().copied().chain([dy]).collect();
    apply(op, &inputs)
}

/// A result that can be taken once: candle runs an op once, when it is applied.
struct Taken {
    storage: Mutex<Option<Storage>>,
    shape: Shape,
}

impl Taken {
    fn new(storage: Storage, shape: Shape) -> Self {
        let storage = Mutex::new(Some(storage));
        Self { storage, shape }
    }

    fn take(&self) -> Option<Storage> {
        self.storage.lock().ok()?.take()
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take() {
            Some(Storage::Cpu(storage)) => Ok((storage, self.shape.clone())),
            _ => bail!("norm: the result is on no CPU, or taken"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take() {
            Some(Storage::Cuda(storage)) => Ok((storage, self.shape.clone())),
            _ => bail!("norm: the result is on no CUDA device, or taken"),
        }
    }

    #[cfg(feature = "metal")]
    fn metal(&self) -> Result<(MetalStorage, Shape)> {
        match self.take() {
            Some(Storage::Metal(storage)) => Ok((storage, self.shape.clone())),
            _ => bail!("norm: the result is on no Metal device, or taken"),
        }
    }
}

struct Gradient {
    result: Taken,
    composed: Composed,
    of: usize,
}

impl FusedOp for Gradient {
    const NAME: &'static str = "norm-backward";

    fn cpu(&self, _: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        self.result.cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, _: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        self.result.cuda()
    }

    #[cfg(feature = "metal")]
    fn metal(&self, _: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        self.result.metal()
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
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
        let first = ((self.composed)(of_op)? * dy)?.sum_all()?.backward()?;
        let Some(first) = first.get(&tensors[self.of]) else {
            bail!("norm: the composed op does not depend on input {}", self.of)
        };
        // Without the graph behind it, which this pass is no part of.
        let stat = (first * grad.detach())?.sum_all()?.backward()?;
        let all: Vec<&Tensor> = inputs.iter().copied().chain([grad]).collect();
        let on_graph = |(i, var): (usize, &Tensor)| match stat.get(var) {
            Some(t) => last(t, &all).map(Some),
            // candle wants a gradient for whatever is on the graph, also one that is always 0.
            None if inputs[i].track_op() => inputs[i].zeros_like().map(Some),
            None => Ok(None),
        };
        tensors.iter().enumerate().map(on_graph).collect()
    }
}

/// `t` as a tensor that depends on the `inputs`, and whose derivative is an error.
fn last(t: &Tensor, inputs: &[&Tensor]) -> Result<Tensor> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    let copy = match &*storage {
        Storage::Cpu(s) => Storage::Cpu(s.try_clone(layout)?),
        Storage::Cuda(s) => Storage::Cuda(s.try_clone(layout)?),
        Storage::Metal(s) => Storage::Metal(s.try_clone(layout)?),
    };
    apply(Last(Taken::new(copy, t.shape().clone())), inputs)
}

struct Last(Taken);

impl FusedOp for Last {
    const NAME: &'static str = "norm-second-derivative";

    fn cpu(&self, _: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        self.0.cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, _: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        self.0.cuda()
    }

    #[cfg(feature = "metal")]
    fn metal(&self, _: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        self.0.metal()
    }
}

/// Whether candle leaves gradients on the graph, asked of candle itself: it reads the variable once
/// a thread. The second derivative of `v^4` at 1 is 12, and 4 where the graph is cut.
fn keeps_graphs() -> Result<bool> {
    let v = Var::new(1f64, &Device::Cpu)?;
    let first = v.sqr()?.sqr()?.backward()?;
    let Some(first) = first.get(&v) else {
        return Ok(false);
    };
    let stat = first.backward()?;
    let stat = stat.get(&v).map(|t| t.to_scalar::<f64>()).transpose()?;
    Ok(stat == Some(12.))
}
