//! Instance norm and its gradients.
//!
//! # How mean and rstd reach the backward pass
//!
//! They do not: the backward pass recomputes them. It needs `sum(dy)` and `sum(dy * xhat)` of a
//! plane before it can write dx, so it reads x and dy in full anyway, and the moments of x come
//! out of that same sweep (`CoMoments` on the CPU, `in_bwd` on CUDA, both merge them by Chan's
//! rule together with the co-moment of x and dy). Saved statistics would spare arithmetic on data
//! that is already in registers and no byte of memory traffic; they would cost a second output,
//! which candle's custom ops do not have, and state in the op.

use super::{apply, FusedOp};
use crate::args::{Gradients, Inputs, View, Wanted};
use crate::cpu;
use crate::shapes::{adjacent_planes, float_dtype, same_device, valid_eps, Param, Planes};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{bail, CpuStorage, Result, Shape, Storage, Tensor};
use std::sync::Mutex;

/// Instance normalization: every `(n, c)` plane is brought to mean 0 and variance 1, then scaled
/// and shifted.
///
/// ```text
/// y = (x - mean) / sqrt(var + eps) * weight + bias
/// ```
///
/// `mean` and the biased `var` are taken over the spatial dimensions of each sample and channel,
/// as [`torch.nn.functional.instance_norm`] does with `use_input_stats=True`
/// (Ulyanov et al., [Instance Normalization](https://arxiv.org/abs/1607.08022)). Differentiable
/// in `x`, `weight` and `bias` through [`Tensor::backward`].
///
/// Sums are kept in f32 for the half types and f32, in f64 for f64, and the mean is subtracted
/// beyond the digits of an f32, so that data with a mean of 1e4 and a deviation of 1e-2 loses
/// nothing. A plane of one element, or a constant one, gives `bias` (PyTorch raises an error
/// where there is one element; so do the layers of [`nn`](crate::nn)).
///
/// # Shapes
///
/// - `x`: `(N, C, *)` with one or more spatial dimensions, in f32, f16, bf16 or f64, of any
///   layout. Views made by `narrow`, `transpose` or `expand` over N and C are read in place;
///   other strided views are copied first.
/// - `weight`, `bias`: `[C]`, or `[N, C]` for parameters per sample, each optional, in the dtype
///   of `x` or, for half `x`, in f32.
/// - result: the shape and dtype of `x`, contiguous. An empty `x` gives an empty result.
///
/// # Errors
///
/// A rank below 3, an integer dtype, a weight or bias of another shape, dtype or device, and an
/// `eps` that is negative or not finite are errors that name what was expected and what came.
/// So is a Metal tensor: that backend is yet to come.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::instance_norm;
///
/// let x = Tensor::new(&[[[1f32, 3.], [10., 10.]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[2f32, 2.], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 5.], &Device::Cpu)?;
/// let y = instance_norm(&x, Some(&weight), Some(&bias), 1e-5)?.to_vec3::<f32>()?;
/// assert!((y[0][0][1] - 2.).abs() < 1e-4);
/// assert_eq!(y[0][1], [5., 5.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// [`torch.nn.functional.instance_norm`]: https://pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html
pub fn instance_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let call = Call::new(x, weight, bias, eps)?;
    let op = Forward {
        weight: call.wanted.weight,
        bias: call.wanted.bias,
        eps,
    };
    let inputs: Vec<&Tensor> = [Some(&call.x), call.weight.as_ref(), call.bias.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    apply(op, &inputs)
}

/// The gradients of [`instance_norm`]; those of absent parameters are `None`.
#[derive(Debug, Clone)]
pub struct InstanceNormGrads {
    /// The shape and dtype of `x`.
    pub x: Tensor,
    /// The shape and dtype of `weight`.
    pub weight: Option<Tensor>,
    /// The shape and dtype of `bias`.
    pub bias: Option<Tensor>,
}

/// The gradients of [`instance_norm`] for an upstream gradient `dy`, in one fused pass.
///
/// ```text
/// dx      = weight * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))
/// dweight = sum(dy * xhat)       over the plane, and over N for a weight of shape [C]
/// dbias   = sum(dy)              likewise
/// ```
///
/// with `xhat = (x - mean) * rstd`. [`Tensor::backward`] calls the same code; called directly it
/// spares the passes that candle's autograd adds around a custom op (it fills a tensor of zeros
/// and adds the gradient to it).
///
/// # Shapes
///
/// - `x`, `weight`, `bias`: as in [`instance_norm`]. Of `bias` only shape and dtype are used.
/// - `dy`: the shape and dtype of `x`, of any layout.
///
/// # Errors
///
/// As [`instance_norm`], and where `dy` differs from `x` in shape, dtype or device. The result
/// is not differentiable again: a second `backward` through it is an error, never zero.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::instance_norm_backward;
///
/// let x = Tensor::new(&[[[1f32, 3., 8.]]], &Device::Cpu)?;
/// // A gradient that is the same everywhere moves only the bias.
/// let dy = Tensor::new(&[[[2f32, 2., 2.]]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32], &Device::Cpu)?;
/// let grads = instance_norm_backward(&x, None, Some(&bias), &dy, 1e-5)?;
/// assert_eq!(grads.x.to_vec3::<f32>()?, [[[0., 0., 0.]]]);
/// assert_eq!(grads.bias.unwrap().to_vec1::<f32>()?, [6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm_backward(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    dy: &Tensor,
    eps: f64,
) -> Result<InstanceNormGrads> {
    let call = Call::new(x, weight, bias, eps)?;
    let grads = call.backward(dy, eps)?;
    let Some(x) = grads.x else {
        bail!("{}: the gradient of x is missing", Forward::NAME)
    };
    Ok(InstanceNormGrads {
        x,
        weight: grads.weight,
        bias: grads.bias,
    })
}

/// The checked arguments of a call, in layouts that the backends read.
struct Call {
    x: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    wanted: Wanted,
    planes: Planes,
}

impl Call {
    fn new(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Self> {
        let planes = Planes::new(x.dims())?;
        float_dtype(x)?;
        valid_eps(eps)?;
        let check = |name, param: Option<&Tensor>| {
            param.map(|p| Param::new(name, p, x, &planes)).transpose()
        };
        let wanted = Wanted {
            x: true,
            weight: check("weight", weight)?,
            bias: check("bias", bias)?,
        };
        Ok(Self {
            x: adjacent_planes(x)?,
            weight: weight.map(|w| w.contiguous()).transpose()?,
            bias: bias.map(|b| b.contiguous()).transpose()?,
            wanted,
            planes,
        })
    }

    fn backward(&self, dy: &Tensor, eps: f64) -> Result<Gradients<Tensor>> {
        if dy.shape() != self.x.shape() || dy.dtype() != self.x.dtype() {
            bail!(
                "instance-norm: expected a gradient of shape {:?} and dtype {:?}, got {:?} and {:?}",
                self.x.dims(),
                self.x.dtype(),
                dy.dims(),
                dy.dtype()
            );
        }
        same_device("the gradient", dy, &self.x)?;
        let dy = adjacent_planes(dy)?;
        let grads = self.backward_storages(&dy, eps)?;
        // What the results depend on, so that differentiating them again reaches an error.
        let inputs: Vec<&Tensor> = [Some(&self.x), Some(&dy), self.weight.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let tensor = |storage: Option<Storage>, shape: Vec<usize>| {
            storage
                .map(|s| apply(Computed::new(s, shape), &inputs))
                .transpose()
        };
        let dims =
            |param: Option<Param>| param.map_or(vec![], |p| p.granularity.dims(&self.planes));
        Ok(Gradients {
            x: tensor(grads.x, self.x.dims().to_vec())?,
            weight: tensor(grads.weight, dims(self.wanted.weight))?,
            bias: tensor(grads.bias, dims(self.wanted.bias))?,
        })
    }

    fn backward_storages(&self, dy: &Tensor, eps: f64) -> Result<Gradients<Storage>> {
        let (x, x_layout) = self.x.storage_and_layout();
        let (dy, dy_layout) = dy.storage_and_layout();
        let weight = self.weight.as_ref().map(|w| w.storage_and_layout());
        let wanted = &self.wanted;
        match (&*x, &*dy, weight.as_ref().map(|(w, l)| (&**w, *l))) {
            (Storage::Cpu(x), Storage::Cpu(dy), weight) => {
                let weight = match weight {
                    Some((Storage::Cpu(w), layout)) => Some((w, layout)),
                    _ => None,
                };
                let inputs = Inputs {
                    x: (x, x_layout),
                    weight,
                    bias: None,
                };
                let grads = cpu::backward(&inputs, (dy, dy_layout), eps, wanted)?;
                Ok(grads.map(Storage::Cpu))
            }
            #[cfg(feature = "cuda")]
            (Storage::Cuda(x), Storage::Cuda(dy), weight) => {
                let weight = match weight {
                    Some((Storage::Cuda(w), layout)) => Some((w, layout)),
                    _ => None,
                };
                let inputs = Inputs {
                    x: (x, x_layout),
                    weight,
                    bias: None,
                };
                let grads = crate::cuda::backward(&inputs, (dy, dy_layout), eps, wanted)?;
                Ok(grads.map(Storage::Cuda))
            }
            _ => bail!(
                "{}: no backend for {:?}",
                Forward::NAME,
                self.x.device().location()
            ),
        }
    }
}

struct Forward {
    weight: Option<Param>,
    bias: Option<Param>,
    eps: f64,
}

impl Forward {
    /// x, weight and bias among the inputs of the custom op, where the absent have no place.
    fn split<'a, T>(&self, inputs: &[T]) -> (T, Option<T>, Option<T>)
    where
        T: Copy + 'a,
    {
        let mut rest = inputs[1..].iter().copied();
        let weight = self.weight.and_then(|_| rest.next());
        let bias = self.bias.and_then(|_| rest.next());
        (inputs[0], weight, bias)
    }

    fn inputs<'a, S>(&self, views: &[View<'a, S>]) -> Inputs<'a, S> {
        let (x, weight, bias) = self.split(views);
        Inputs { x, weight, bias }
    }
}

impl FusedOp for Forward {
    const NAME: &'static str = "instance-norm";

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        let y = cpu::forward(&self.inputs(inputs), self.eps)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let y = crate::cuda::forward(&self.inputs(inputs), self.eps)?;
        Ok((y, inputs[0].1.shape().clone()))
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, weight, bias) = self.split(inputs);
        let tracked = |param: Option<Param>, t: Option<&Tensor>| {
            param.filter(|_| t.is_some_and(|t| t.track_op()))
        };
        let mut call = Call::new(x, weight, bias, self.eps)?;
        call.wanted = Wanted {
            x: x.track_op(),
            weight: tracked(self.weight, weight),
            bias: tracked(self.bias, bias),
        };
        let grads = call.backward(grad, self.eps)?;
        let mut all = vec![grads.x];
        all.extend(self.weight.map(|_| grads.weight));
        all.extend(self.bias.map(|_| grads.bias));
        Ok(all)
    }
}

/// A result that is already there, put on the graph behind what it was computed from.
///
/// The backward pass makes up to three tensors at once, where a custom op returns one storage.
struct Computed {
    storage: Mutex<Option<Storage>>,
    shape: Shape,
}

impl Computed {
    fn new(storage: Storage, shape: Vec<usize>) -> Self {
        Self {
            storage: Mutex::new(Some(storage)),
            shape: Shape::from(shape),
        }
    }

    fn take(&self) -> Option<Storage> {
        self.storage.lock().ok()?.take()
    }
}

impl FusedOp for Computed {
    const NAME: &'static str = "instance-norm-backward";

    fn cpu(&self, _: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        match self.take() {
            Some(Storage::Cpu(storage)) => Ok((storage, self.shape.clone())),
            _ => bail!("{}: the result is on no CPU, or taken", Self::NAME),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, _: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        match self.take() {
            Some(Storage::Cuda(storage)) => Ok((storage, self.shape.clone())),
            _ => bail!("{}: the result is on no CUDA device, or taken", Self::NAME),
        }
    }
}
