//! The fused norm as an op: checked arguments in layouts that the backends read, and both passes.

#[cfg(not(feature = "metal"))]
use super::custom_op::without_metal;
use super::custom_op::{apply, FusedOp};
use super::double_backward::{gradient, Composed};
use super::reference;
use crate::cpu;
use crate::shapes::{same_device, to_format, ParamSpec};
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    bail, CpuStorage, InplaceOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor,
};
use std::sync::Arc;

/// A checked call of the norm: x and what goes with its elements are in the norm's format.
pub struct Call {
    pub spec: NormSpec,
    pub x: Tensor,
    pub extras: Extras<Tensor>,
    pub params: Extras<ParamSpec>,
}

impl Call {
    fn op(&self) -> Fused {
        Fused {
            spec: self.spec,
            params: self.params.clone(),
        }
    }

    /// x and what goes beside it, in the order of the op's inputs.
    fn inputs(&self) -> Vec<&Tensor> {
        [&self.x].into_iter().chain(self.extras.list()).collect()
    }

    pub fn is_tracked(&self) -> bool {
        self.inputs().iter().any(|t| t.track_op())
    }

    pub fn forward(&self) -> Result<Tensor> {
        apply(self.op(), &self.inputs())
    }

    /// Overwrites x, which nothing may track and nothing else may share.
    pub fn forward_in_place(&self) -> Result<()> {
        let x = &self.x;
        for other in self.extras.list() {
            let (storage, other) = (x.storage_and_layout().0, other.storage_and_layout().0);
            if std::ptr::eq(&*storage, &*other) {
                bail!("norm: expected an x of its own to work in place, got one that shares memory with another input")
            }
        }
        x.inplace_op1(&InPlace {
            spec: self.spec,
            extras: self.extras.clone(),
        })
    }

    /// The gradients asked for; that of `v` is the residual's.
    pub fn backward(&self, dy: &Tensor, wanted: &GradMask) -> Result<Gradients<Tensor>> {
        let x = &self.x;
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
        let dy = &to_format(dy, self.spec.format)?;
        // Without an activation v is y, and its gradient there already.
        let plain = self.spec.activation == Activation::None;
        let element_bias = wanted.bias.filter(ParamSpec::is_per_element);
        let asked = GradMask {
            bias: wanted.bias.filter(|_| element_bias.is_none()),
            v: (wanted.v || element_bias.is_some()) && !plain,
            ..*wanted
        };
        let storages = self.backward_storages(dy, &asked)?;
        let inputs = self.inputs();
        let op = self.op();
        let composed: Composed = Arc::new(move |inputs: &[Tensor]| op.composed(inputs));
        let at = self.extras.with(1..inputs.len());
        let tensor = |storage: Option<Storage>, of: Option<usize>| match (storage, of) {
            (Some(storage), Some(of)) => {
                let shape = inputs[of].shape().clone();
                gradient(storage, shape, &inputs, dy, &composed, of).map(Some)
            }
            _ => Ok(None),
        };
        let [mean, rstd] = at.stats.map_or([None; 2], |stats| stats.map(Some));
        let v = if plain {
            Some(dy.clone())
        } else {
            tensor(storages.v, at.residual.or(at.bias))?
        };
        Ok(Gradients {
            x: tensor(storages.x, Some(0))?,
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
    fn backward_storages(&self, dy: &Tensor, wanted: &GradMask) -> Result<Gradients<Storage>> {
        let inputs = self.inputs();
        let guards: Vec<_> = inputs.iter().map(|t| t.storage_and_layout()).collect();
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
                views.map(|views| (views[0], self.extras.with(views[1..].iter().copied())))
            }};
        }
        match &*dy {
            Storage::Cpu(dy) => {
                if let Some((x, extras)) = views!(Cpu) {
                    let grads = cpu::backward(x, &extras, (dy, dy_layout), &self.spec, wanted)?;
                    return Ok(grads.map(Storage::Cpu));
                }
            }
            #[cfg(feature = "cuda")]
            Storage::Cuda(dy) => {
                if let Some((x, extras)) = views!(Cuda) {
                    let dy = (dy, dy_layout);
                    let grads = crate::cuda::backward(x, &extras, dy, &self.spec, wanted)?;
                    return Ok(grads.map(Storage::Cuda));
                }
            }
            #[cfg(feature = "metal")]
            Storage::Metal(dy) => {
                if let Some((x, extras)) = views!(Metal) {
                    let dy = (dy, dy_layout);
                    let grads = crate::metal::backward(x, &extras, dy, &self.spec, wanted)?;
                    return Ok(grads.map(Storage::Metal));
                }
            }
            _ => {}
        }
        let x = &self.x;
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
    pub spec: NormSpec,
    pub params: Extras<ParamSpec>,
}

impl Fused {
    /// The op's inputs but x.
    fn extras<T: Copy>(&self, inputs: &[T]) -> Extras<T> {
        self.params.with(inputs[1..].iter().copied())
    }

    fn composed(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let extras = self.params.with(&inputs[1..]);
        reference::normalize(&inputs[0], &extras, &self.spec)
    }
}

impl FusedOp for Fused {
    const NAME: &'static str = "norm";

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        let y = cpu::forward(inputs[0], &self.extras(inputs), &self.spec)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let y = crate::cuda::forward(inputs[0], &self.extras(inputs), &self.spec)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    #[cfg(feature = "metal")]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        let y = crate::metal::forward(inputs[0], &self.extras(inputs), &self.spec)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let tracked: Vec<bool> = inputs.iter().map(|t| t.track_op()).collect();
        let extras = self.extras(&tracked);
        let params = &self.params;
        let of = |param: Option<ParamSpec>, tracked: Option<bool>| {
            param.filter(|_| tracked == Some(true))
        };
        let stats = |i: usize| of(params.stats.map(|s| s[i]), extras.stats.map(|s| s[i]));
        let wanted = GradMask {
            x: tracked[0],
            weight: of(params.weight, extras.weight),
            bias: of(params.bias, extras.bias),
            v: extras.residual == Some(true),
            mean: stats(0),
            rstd: stats(1),
        };
        let call = Call {
            spec: self.spec,
            x: inputs[0].clone(),
            extras: self.params.with(inputs[1..].iter().map(|&t| t.clone())),
            params: params.clone(),
        };
        let grads = call.backward(grad, &wanted)?;
        let mut all = vec![grads.x];
        all.extend(params.weight.map(|_| grads.weight));
        all.extend(params.bias.map(|_| grads.bias));
        all.extend(params.residual.map(|_| grads.v));
        if params.stats.is_some() {
            all.extend([grads.mean, grads.rstd]);
        }
        Ok(all)
    }
}

/// The forward pass over x itself.
struct InPlace {
    spec: NormSpec,
    extras: Extras<Tensor>,
}

/// The inputs beside x as views of a backend.
macro_rules! beside_views {
    ($self:ident, $variant:ident, |$views:ident| $run:expr) => {{
        let list = $self.extras.list();
        let guards: Vec<_> = list.iter().map(|t| t.storage_and_layout()).collect();
        let mut views = vec![];
        for (storage, layout) in &guards {
            match &**storage {
                Storage::$variant(storage) => views.push((storage, *layout)),
                _ => bail!("{}: expected all tensors on one device", Fused::NAME),
            }
        }
        let $views = $self.extras.with(views);
        $run
    }};
}

impl InplaceOp1 for InPlace {
    fn name(&self) -> &'static str {
        Fused::NAME
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        beside_views!(self, Cpu, |extras| cpu::forward_in_place(
            x, layout, &extras, &self.spec
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &mut CudaStorage, layout: &Layout) -> Result<()> {
        beside_views!(self, Cuda, |extras| crate::cuda::forward_in_place(
            x, layout, &extras, &self.spec
        ))
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(&self, x: &mut MetalStorage, layout: &Layout) -> Result<()> {
        beside_views!(self, Metal, |extras| crate::metal::forward_in_place(
            x, layout, &extras, &self.spec
        ))
    }

    #[cfg(not(feature = "metal"))]
    fn metal_fwd(&self, x: &mut MetalStorage, _: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        Err(without_metal(Fused::NAME, x.dtype()))
    }
}
