//! The fused norm as an op on the graph, with its backward pass.

#[cfg(not(feature = "metal"))]
use super::custom_op::without_metal;
use super::custom_op::{Backend, Custom, FusedOp, apply};
use super::double_backward::{Composed, gradient};
use super::off_graph::on_backend;
use super::reference;
use crate::shapes::{ParamShape, ParamSpec, in_format, same_device, to_format};
use crate::spec::{Activation, Extras, GradMask, Gradients, NormSpec, View};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, InplaceOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};
use std::sync::Arc;

/// The fused norm. Its inputs are x and the extras that `params` has, all in the format of `spec`.
#[derive(Debug, Clone)]
pub struct NormOp {
    pub spec: NormSpec,
    pub params: Extras<ParamSpec>,
}

impl NormOp {
    /// The op and its inputs: `x`, to which `spec` belongs, and the extras, checked against x and laid
    /// out as the backends read them.
    pub fn new(spec: NormSpec, extras: &Extras<Tensor>, x: &Tensor) -> Result<(Self, Vec<Tensor>)> {
        let params = check(extras, x, &spec)?;
        let lay = |t: &Tensor| {
            if t.rank() == x.rank() {
                in_format(t, spec.format)
            } else {
                t.contiguous()
            }
        };
        let inputs = [x].into_iter().chain(extras.list()).map(lay);
        let inputs = inputs.collect::<Result<_>>()?;
        Ok((Self { spec, params }, inputs))
    }

    pub fn forward(self, inputs: &[Tensor]) -> Result<Tensor> {
        apply(self, &inputs.iter().collect::<Vec<_>>())
    }

    /// Overwrites the first input, which nothing may track and nothing else may share.
    pub fn forward_in_place(self, inputs: &[Tensor]) -> Result<()> {
        let (x, extras) = (&inputs[0], inputs[1..].iter().cloned().map(Some));
        let held = [None].into_iter().chain(extras).collect();
        x.inplace_op1(&Custom { op: self, held })
    }

    /// The mask of the gradients of these inputs, by number.
    pub fn mask(&self, is_wanted: impl Fn(usize) -> bool) -> GradMask {
        let params = self.params.list().into_iter().zip(1..);
        let params = params.map(|(param, i)| is_wanted(i).then_some(*param));
        let Extras {
            weight,
            bias,
            residual,
            stats,
        } = self.params.with(params);
        let [mean, rstd] = stats.unwrap_or_default();
        GradMask {
            x: is_wanted(0),
            weight: weight.flatten(),
            bias: bias.flatten(),
            v: residual.flatten().is_some(),
            mean,
            rstd,
        }
    }

    /// The gradients in `wanted`, in the format of `spec`; that of `v` is the residual's.
    pub fn backward(
        &self,
        inputs: &[&Tensor],
        dy: &Tensor,
        wanted: &GradMask,
    ) -> Result<Gradients<Tensor>> {
        let x = inputs[0];
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
        // The gradient of v is dy itself where no activation follows, and that of a bias per element.
        let v_is_y = self.spec.activation == Activation::None;
        let bias_is_v = wanted.bias.is_some_and(|bias| bias.is_per_element());
        let computed = GradMask {
            bias: wanted.bias.filter(|_| !bias_is_v),
            v: (wanted.v || bias_is_v) && !v_is_y,
            ..*wanted
        };
        let storages = self.storages(inputs, dy, &computed)?;

        let op = self.clone();
        let composed: Composed = Arc::new(move |inputs: &[Tensor]| op.composed(inputs));
        let at = self.params.with(1..inputs.len());
        let on_graph = |storage: Option<Storage>, of: Option<usize>| {
            let grad = |(storage, of)| gradient(storage, inputs, dy, &composed, of);
            storage.zip(of).map(grad).transpose()
        };
        let [mean, rstd] = at.stats.map_or([None; 2], |stats| stats.map(Some));
        let v = if v_is_y {
            Some(dy.clone())
        } else {
            on_graph(storages.v, at.residual.or(at.bias))?
        };
        Ok(Gradients {
            x: on_graph(storages.x, Some(0))?,
            weight: on_graph(storages.weight, at.weight)?,
            bias: if bias_is_v {
                v.clone()
            } else {
                on_graph(storages.bias, at.bias)?
            },
            v: v.filter(|_| wanted.v),
            mean: on_graph(storages.mean, mean)?,
            rstd: on_graph(storages.rstd, rstd)?,
        })
    }

    fn storages(
        &self,
        inputs: &[&Tensor],
        dy: &Tensor,
        wanted: &GradMask,
    ) -> Result<Gradients<Storage>> {
        let tensors: Vec<&Tensor> = inputs.iter().copied().chain([dy]).collect();
        on_backend!(&tensors, |views| self.backward_on(views, wanted))
    }

    /// The gradients from views of the inputs and of dy.
    fn backward_on<S: Backend>(
        &self,
        views: &[View<S>],
        wanted: &GradMask,
    ) -> Result<Gradients<Storage>> {
        let (inputs, dy) = views.split_at(views.len() - 1);
        let grads = S::backward(inputs[0], &self.extras(inputs), dy[0], &self.spec, wanted)?;
        Ok(grads.map(S::wrap))
    }

    fn extras<T: Copy>(&self, inputs: &[T]) -> Extras<T> {
        self.params.with(inputs[1..].iter().copied())
    }

    fn composed(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let extras = self.params.with(&inputs[1..]);
        reference::normalize(&inputs[0], &extras, &self.spec)
    }
}

impl FusedOp for NormOp {
    const NAME: &'static str = "norm";

    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        let y = S::forward(inputs[0], &self.extras(inputs), &self.spec)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let wanted = self.mask(|i| inputs[i].track_op());
        let grads = self.backward(inputs, grad, &wanted)?;
        let mut all = vec![grads.x];
        all.extend(self.params.weight.map(|_| grads.weight));
        all.extend(self.params.bias.map(|_| grads.bias));
        all.extend(self.params.residual.map(|_| grads.v));
        if self.params.stats.is_some() {
            all.extend([grads.mean, grads.rstd]);
        }
        Ok(all)
    }
}

impl Custom<NormOp> {
    fn in_place<S: Backend>(&self, x: &mut S, layout: &Layout) -> Result<()> {
        self.with_views(&[], |extras| {
            let extras = self.op.params.with(extras.iter().copied());
            S::forward_in_place(x, layout, &extras, &self.op.spec)
        })
    }
}

impl InplaceOp1 for Custom<NormOp> {
    fn name(&self) -> &'static str {
        NormOp::NAME
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.in_place(x, layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.in_place(x, layout)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(&self, x: &mut MetalStorage, layout: &Layout) -> Result<()> {
        self.in_place(x, layout)
    }

    #[cfg(not(feature = "metal"))]
    fn metal_fwd(&self, x: &mut MetalStorage, _: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        Err(without_metal(NormOp::NAME, x.dtype()))
    }
}

/// Shape class and dtype of each of the extras, all of which must fit `x`.
fn check(extras: &Extras<Tensor>, x: &Tensor, spec: &NormSpec) -> Result<Extras<ParamSpec>> {
    let planes = &spec.planes;
    let Extras {
        weight,
        bias,
        residual,
        stats,
    } = extras;
    let param = |name, param: &Option<Tensor>| {
        let param = param.as_ref().map(|p| ParamSpec::new(name, p, x, planes));
        param.transpose()
    };
    let params = Extras {
        weight: param("weight", weight)?,
        bias: param("bias", bias)?,
        residual: residual.as_ref().map(|r| same_as_x(r, x)).transpose()?,
        stats: match stats {
            Some([mean, rstd]) => Some([
                ParamSpec::per_plane("mean", mean, x, planes)?,
                ParamSpec::per_plane("rstd", rstd, x, planes)?,
            ]),
            None => None,
        },
    };
    let per_element = [&params.weight, &params.bias].map(|p| p.map(|p| p.is_per_element()));
    if let [Some(of_weight), Some(of_bias)] = per_element
        && of_weight != of_bias
    {
        bail!(
            "norm: expected weight and bias both per element or neither, got shapes {:?} and {:?}",
            weight.as_ref().map(|w| w.dims()),
            bias.as_ref().map(|b| b.dims())
        );
    }
    if spec.alpha != 1. && per_element.contains(&Some(true)) {
        bail!(
            "norm: expected no blending beside parameters per element, got alpha {}",
            spec.alpha
        );
    }
    Ok(params)
}

fn same_as_x(residual: &Tensor, x: &Tensor) -> Result<ParamSpec> {
    if residual.shape() != x.shape() || residual.dtype() != x.dtype() {
        bail!(
            "norm: expected a residual of shape {:?} and dtype {:?}, got {:?} and {:?}",
            x.dims(),
            x.dtype(),
            residual.dims(),
            residual.dtype()
        );
    }
    same_device("the residual", residual, x)?;
    Ok(ParamSpec {
        shape: ParamShape::PerElement,
        dtype: x.dtype(),
    })
}
