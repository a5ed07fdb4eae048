//! The fused norm as an op: checked arguments in layouts that the backends read, and both passes.

#[cfg(not(feature = "metal"))]
use super::custom_op::without_metal;
use super::custom_op::{apply, FusedOp};
use super::double_backward::{gradient, Composed};
use super::reference;
use crate::args::{Activation, Beside, Gradients, Inputs, Norm, View, Wanted};
use crate::cpu;
use crate::shapes::{same_device, to_format, Param};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    bail, CpuStorage, InplaceOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor,
};
use std::sync::Arc;

/// A checked call of the norm: x and what goes with its elements are in the norm's format.
pub struct Call {
    pub norm: Norm,
    pub inputs: Inputs<Tensor>,
    pub params: Beside<Param>,
}

impl Call {
    fn op(&self) -> Fused {
        Fused {
            norm: self.norm,
            params: self.params.clone(),
        }
    }

    pub fn forward(&self) -> Result<Tensor> {
        apply(self.op(), &self.inputs.list())
    }

    /// Overwrites x, which nothing may track and nothing else may share.
    pub fn forward_in_place(&self) -> Result<()> {
        let x = &self.inputs.x;
        for other in &self.inputs.list()[1..] {
            let (storage, other) = (x.storage_and_layout().0, other.storage_and_layout().0);
            if std::ptr::eq(&*storage, &*other) {
                bail!("norm: expected an x of its own to work in place, got one that shares memory with another input")
            }
        }
        x.inplace_op1(&InPlace {
            norm: self.norm,
            beside: self.inputs.beside.clone(),
        })
    }

    /// The gradients asked for; that of `v` is the residual's.
    pub fn backward(&self, dy: &Tensor, wanted: &Wanted) -> Result<Gradients<Tensor>> {
        let x = &self.inputs.x;
        if dy.shape() != x.shape() || dy.dtype() != x.dtype() {
            bail!(
                "norm: expected a gradient of shape {:?} and dtype {:?}, got {:?} and {:?}",
                x.dims(),
                x.dtype(),
                dy.dims(),
                dy.dtype()
            );
        }
        same_device("the gradient", dy, x)?;
        let dy = &to_format(dy, self.norm.format)?;
        // Without an activation v is y, and its gradient there already.
        let plain = self.norm.activation == Activation::None;
        let element_bias = wanted.bias.filter(Param::is_per_element);
        let asked = Wanted {
            bias: wanted.bias.filter(|_| element_bias.is_none()),
            v: (wanted.v || element_bias.is_some()) && !plain,
            ..*wanted
        };
        let storages = self.backward_storages(dy, &asked)?;
        let inputs = self.inputs.list();
        let op = self.op();
        let composed: Composed = Arc::new(move |inputs: &[Tensor]| op.composed(inputs));
        let positions: Vec<usize> = (0..inputs.len()).collect();
        let at = self.inputs.rename(&positions);
        let tensor = |storage: Option<Storage>, of: Option<usize>| match (storage, of) {
            (Some(storage), Some(of)) => {
                let shape = inputs[of].shape().clone();
                gradient(storage, shape, &inputs, dy, &composed, of).map(Some)
            }
            _ => Ok(None),
        };
        let Inputs {
            x: at_x,
            beside: at,
        } = at;
        let [mean, rstd] = at.given.map_or([None; 2], |given| given.map(Some));
        let v = if plain {
            Some(dy.clone())
        } else {
            tensor(storages.v, at.residual.or(at.bias))?
        };
        Ok(Gradients {
            x: tensor(storages.x, Some(at_x))?,
            weight: tensor(storages.weight, at.weight)?,
            bias: match element_bias {
                Some(_) => v.clone(),
                None => tensor(storages.bias, at.bias)?,
            },
            v: v.filter(|_| wanted.v),
            mean: tensor(storages.mean, mean)?,
            rstd: tensor(storages.rstd, rstd)?,
        })
    }

    /// `dy` is in the norm's format.
    fn backward_storages(&self, dy: &Tensor, wanted: &Wanted) -> Result<Gradients<Storage>> {
        let list = self.inputs.list();
        let guards: Vec<_> = list.iter().map(|t| t.storage_and_layout()).collect();
        let (dy, dy_layout) = dy.storage_and_layout();
        /// The views of a backend, or nothing where a tensor is of another.
        macro_rules! views {
            ($variant:ident) => {{
                let views: Option<Vec<View<_>>> = guards
                    .iter()
                    .map(|(storage, layout)| match &**storage {
                        Storage::$variant(storage) => Some((storage, *layout)),
                        _ => None,
                    })
                    .collect();
                views.map(|views| self.inputs.rename(&views))
            }};
        }
        match &*dy {
            Storage::Cpu(dy) => {
                if let Some(inputs) = views!(Cpu) {
                    let grads = cpu::backward(&inputs, (dy, dy_layout), &self.norm, wanted)?;
                    return Ok(grads.map(Storage::Cpu));
                }
            }
            #[cfg(feature = "cuda")]
            Storage::Cuda(dy) => {
                if let Some(inputs) = views!(Cuda) {
                    let dy = (dy, dy_layout);
                    let grads = crate::cuda::backward(&inputs, dy, &self.norm, wanted)?;
                    return Ok(grads.map(Storage::Cuda));
                }
            }
            #[cfg(feature = "metal")]
            Storage::Metal(dy) => {
                if let Some(inputs) = views!(Metal) {
                    let dy = (dy, dy_layout);
                    let grads = crate::metal::backward(&inputs, dy, &self.norm, wanted)?;
                    return Ok(grads.map(Storage::Metal));
                }
            }
            _ => {}
        }
        let x = &self.inputs.x;
        bail!(
            "{}: no backend for dtype {:?} on {:?} in this build",
            Fused::NAME,
            x.dtype(),
            x.device().location()
        )
    }
}

/// The op on the graph; the params say which inputs there are.
pub struct Fused {
    pub norm: Norm,
    pub params: Beside<Param>,
}

impl Fused {
    /// The names of the op's inputs.
    fn named<T: Copy>(&self, inputs: &[T]) -> Inputs<T> {
        Inputs {
            x: inputs[0],
            beside: self.params.rename(&inputs[1..]),
        }
    }

    fn composed(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        reference::norm(&self.norm, &self.named(&inputs))
    }
}

impl FusedOp for Fused {
    const NAME: &'static str = "norm";

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        let y = cpu::forward(&self.named(inputs), &self.norm)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let y = crate::cuda::forward(&self.named(inputs), &self.norm)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    #[cfg(feature = "metal")]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        let y = crate::metal::forward(&self.named(inputs), &self.norm)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let tracked: Vec<bool> = inputs.iter().map(|t| t.track_op()).collect();
        let Inputs { x, beside } = self.named(&tracked);
        let params = &self.params;
        let of =
            |param: Option<Param>, tracked: Option<bool>| param.filter(|_| tracked == Some(true));
        let given = |i: usize| of(params.given.map(|g| g[i]), beside.given.map(|g| g[i]));
        let wanted = Wanted {
            x,
            weight: of(params.weight, beside.weight),
            bias: of(params.bias, beside.bias),
            v: beside.residual == Some(true),
            mean: given(0),
            rstd: given(1),
        };
        let call = Call {
            norm: self.norm,
            inputs: self.named(inputs).cloned(),
            params: params.clone(),
        };
        let grads = call.backward(grad, &wanted)?;
        let mut all = vec![grads.x];
        all.extend(params.weight.map(|_| grads.weight));
        all.extend(params.bias.map(|_| grads.bias));
        all.extend(params.residual.map(|_| grads.v));
        if params.given.is_some() {
            all.extend([grads.mean, grads.rstd]);
        }
        Ok(all)
    }
}

/// The forward pass over x itself.
struct InPlace {
    norm: Norm,
    beside: Beside<Tensor>,
}

/// The inputs beside x as views of a backend.
macro_rules! beside_views {
    ($self:ident, $variant:ident, |$views:ident| $run:expr) => {{
        let list = $self.beside.list();
        let guards: Vec<_> = list.iter().map(|t| t.storage_and_layout()).collect();
        let mut views = vec![];
        for (storage, layout) in &guards {
            match &**storage {
                Storage::$variant(storage) => views.push((storage, *layout)),
                _ => bail!("{}: expected all tensors on one device", Fused::NAME),
            }
        }
        let $views = $self.beside.rename(&views);
        $run
    }};
}

impl InplaceOp1 for InPlace {
    fn name(&self) -> &'static str {
        Fused::NAME
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        beside_views!(self, Cpu, |beside| cpu::forward_in_place(
            x, layout, &beside, &self.norm
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &mut CudaStorage, layout: &Layout) -> Result<()> {
        beside_views!(self, Cuda, |beside| crate::cuda::forward_in_place(
            x, layout, &beside, &self.norm
        ))
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(&self, x: &mut MetalStorage, layout: &Layout) -> Result<()> {
        beside_views!(self, Metal, |beside| crate::metal::forward_in_place(
            x, layout, &beside, &self.norm
        ))
    }

    #[cfg(not(feature = "metal"))]
    fn metal_fwd(&self, x: &mut MetalStorage, _: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        Err(without_metal(Fused::NAME, x.dtype()))
    }
}
