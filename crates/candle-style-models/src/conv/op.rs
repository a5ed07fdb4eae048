//! Convolutions as ops of candle on the CPU. There are three: the convolution, the transposed one,
//! which is the gradient of its input, and the gradient of its weight. Each is linear in both of its
//! tensors, so that the gradients of all three are made of the same three.

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType,
    backend::BackendStorage, bail,
};

use super::element::Element;
use super::fold::fold;
use super::forward::forward;
use super::output::Output;
use super::plan::{Form, Padding, Plan, axes};
use super::strip::Planes;
use super::vector::Isa;
use super::weight_grad::weight_grad as gradient_of_weight;

/// The type that convolutions of a dtype compute in, and that their weights are given in.
pub fn acc_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    }
}

/// `conv(x, weight) + bias`, of the dtype of `x`.
pub fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, form: Form) -> Result<Tensor> {
    check("conv", &[x], &[Some(weight), bias])?;
    let plan = Plan::conv(dims(x, "x")?, dims(weight, "the weight")?, form)?;
    let bias = bias_of(bias, weight.dim(0)?, x)?;
    rows(x)?.apply_op3(&weight.contiguous()?, &bias, Conv { plan, form })
}

/// The transposed convolution to the sides `out`, plus a bias: for a `form` with padding or upsampling,
/// the gradient of the input of that convolution.
pub fn transposed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    form: Form,
    out: [usize; 2],
) -> Result<Tensor> {
    check("conv_transpose", &[x], &[Some(weight), bias])?;
    let (x_dims, weight_dims) = (dims(x, "x")?, dims(weight, "the weight")?);
    let [_, per_group, ..] = weight_dims;
    // The gradient of zeros is not needed, and what is left is that of the input itself.
    let (padding, folded) = match form.padding {
        Padding::Zeros(width) if !form.upsample => (width, None),
        _ => (0, Some(axes(out, form)?)),
    };
    let seen = folded
        .as_ref()
        .map_or(out, |[rows, columns]| [rows.len(), columns.len()]);
    let settings = [form.stride, padding, form.groups];
    let plan = Plan::transposed(x_dims, weight_dims, settings, seen)?;
    let bias = bias_of(bias, per_group * form.groups, x)?;
    let op = Transposed {
        plan,
        form,
        out,
        folded,
    };
    rows(x)?.apply_op3(&weight.contiguous()?, &bias, op)
}

/// The gradient of a weight of the shape `weight`, in its dtype, from the input of the convolution and the gradient of
/// its output.
pub fn weight_grad(x: &Tensor, grad: &Tensor, form: Form, weight: &Tensor) -> Result<Tensor> {
    check("conv", &[x, grad], &[])?;
    let weight = dims(weight, "the weight")?;
    let plan = Plan::conv(dims(x, "x")?, weight, form)?;
    let op = WeightGrad { plan, form, weight };
    rows(x)?.apply_op2(&rows(grad)?, op)
}

/// All tensors are on the CPU, the inputs of one dtype, which has convolutions, and the weights of the
/// one that it computes in.
fn check(name: &str, inputs: &[&Tensor], weights: &[Option<&Tensor>]) -> Result<()> {
    let dtype = inputs[0].dtype();
    if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        bail!("{name}: expected x in f32, f16, bf16 or f64, got {dtype:?}")
    }
    let weights = || weights.iter().flatten().copied();
    let inputs = || inputs.iter().copied();
    let expected = inputs()
        .map(|_| dtype)
        .chain(weights().map(|_| acc_dtype(dtype)));
    for (tensor, expected) in inputs().chain(weights()).zip(expected) {
        if tensor.dtype() != expected {
            bail!(
                "{name}: expected a tensor in {expected:?} for x in {dtype:?}, got {:?}",
                tensor.dtype()
            )
        }
    }
    if let Some(other) = inputs()
        .chain(weights())
        .find(|tensor| !tensor.device().is_cpu())
    {
        bail!(
            "{name}: expected all tensors on the CPU, got one on {:?}",
            other.device().location()
        )
    }
    Ok(())
}

fn dims(tensor: &Tensor, name: &str) -> Result<[usize; 4]> {
    match *tensor.dims() {
        [a, b, c, d] => Ok([a, b, c, d]),
        ref dims => bail!("conv: expected {name} of 4 dimensions, got {dims:?}"),
    }
}

fn bias_of(bias: Option<&Tensor>, channels: usize, x: &Tensor) -> Result<Tensor> {
    match bias {
        Some(bias) if bias.dims() == [channels] => bias.contiguous(),
        Some(bias) => bail!(
            "conv: expected a bias of shape [{channels}], got {:?}",
            bias.dims()
        ),
        None => Tensor::zeros(channels, acc_dtype(x.dtype()), x.device()),
    }
}

/// The tensor with contiguous rows: itself, but for transposed and broadcast ones.
fn rows(x: &Tensor) -> Result<Tensor> {
    match x.stride() {
        [_, _, _, 1] => Ok(x.clone()),
        _ => x.contiguous(),
    }
}

/// The sum over all but the channels.
fn bias_grad(grad: &Tensor) -> Result<Tensor> {
    let grad = grad.to_dtype(acc_dtype(grad.dtype()))?;
    grad.flatten_from(2)?.sum(2)?.sum(0)
}

struct Conv {
    plan: Plan,
    form: Form,
}

struct Transposed {
    plan: Plan,
    form: Form,
    /// The sides of the result, and the axes that it is folded by.
    out: [usize; 2],
    folded: Option<[Vec<u32>; 2]>,
}

struct WeightGrad {
    plan: Plan,
    form: Form,
    weight: [usize; 4],
}

/// Calls `$self.$run::<T>` with the elements T of a storage.
macro_rules! on_dtype {
    ($dtype:expr, $self:ident.$run:ident($($arg:expr),*)) => {
        match $dtype {
            candle_core::DType::F32 => $self.$run::<f32>($($arg),*),
            candle_core::DType::F64 => $self.$run::<f64>($($arg),*),
            candle_core::DType::F16 => $self.$run::<half::f16>($($arg),*),
            candle_core::DType::BF16 => $self.$run::<half::bf16>($($arg),*),
            dtype => candle_core::bail!("conv: expected f32, f16, bf16 or f64, got {dtype:?}"),
        }
    };
}
pub(super) use on_dtype;

/// A tensor as candle hands it over.
pub type View<'a> = (&'a CpuStorage, &'a Layout);

pub fn planes<'a, T: Element>((storage, layout): View<'a>) -> Result<Planes<'a, T>> {
    let (&[by_sample, by_channel, by_row, 1], &[.., width]) = (layout.stride(), layout.dims())
    else {
        bail!("conv: expected contiguous rows, got {layout:?}")
    };
    Ok(Planes {
        values: &T::cpu_storage_as_slice(storage)?[layout.start_offset()..],
        strides: [by_sample, by_channel, by_row],
        width,
    })
}

/// All elements of a contiguous tensor.
pub fn elements<'a, A: WithDType>((storage, layout): View<'a>) -> Result<&'a [A]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("conv: expected contiguous weights, got {layout:?}")
    };
    Ok(&A::cpu_storage_as_slice(storage)?[start..end])
}

/// The elements rounded to `T`.
fn narrow<T: Element>(values: Vec<T::Acc>) -> CpuStorage {
    let output = Output::new(values.len());
    // SAFETY: this is the only slice of it, and `narrow` writes all of it.
    T::narrow(&values, unsafe { output.slice(0, values.len()) });
    // SAFETY: see above.
    T::to_cpu_storage_owned(unsafe { output.filled() })
}

impl Conv {
    fn run<T: Element>(&self, x: View, weight: View, bias: View) -> Result<(CpuStorage, Shape)> {
        let (plan, weight, bias) = (&self.plan, elements(weight)?, elements::<T::Acc>(bias)?);
        let y = forward::<T, T>(plan, planes(x)?, weight, bias, Isa::best());
        let shape = (plan.samples, bias.len(), plan.out[0], plan.out[1]);
        Ok((T::to_cpu_storage_owned(y), shape.into()))
    }
}

impl Transposed {
    fn run<T: Element>(&self, x: View, weight: View, bias: View) -> Result<(CpuStorage, Shape)> {
        let (plan, weight, bias) = (&self.plan, elements(weight)?, elements::<T::Acc>(bias)?);
        let shape = (plan.samples, bias.len(), self.out[0], self.out[1]);
        let y = match &self.folded {
            None => {
                let y = forward::<T, T>(plan, planes(x)?, weight, bias, Isa::best());
                T::to_cpu_storage_owned(y)
            }
            Some(axes) => {
                let y = forward::<T, T::Acc>(plan, planes(x)?, weight, bias, Isa::best());
                narrow::<T>(fold(&y, axes, self.out))
            }
        };
        Ok((y, shape.into()))
    }
}

impl WeightGrad {
    fn run<T: Element>(&self, x: View, grad: View) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (planes::<T>(x)?, planes(grad)?);
        let weight = gradient_of_weight(self.plan.clone(), x, grad, Isa::best());
        Ok((
            T::Acc::to_cpu_storage_owned(weight),
            Shape::from_dims(&self.weight),
        ))
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let views = ((x, x_layout), (weight, weight_layout), (bias, bias_layout));
        on_dtype!(x.dtype(), self.run(views.0, views.1, views.2))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let form = Form {
            relu: false,
            ..self.form
        };
        let grad = if self.form.relu {
            // As PyTorch: where the result is NaN the gradient passes.
            &y.le(0f64)?.where_cond(&grad.zeros_like()?, grad)?
        } else {
            grad
        };
        let sides = [x.dim(2)?, x.dim(3)?];
        let of_x = x
            .track_op()
            .then(|| transposed(grad, weight, None, form, sides));
        let of_weight = weight
            .track_op()
            .then(|| weight_grad(x, grad, form, weight));
        let of_bias = bias.track_op().then(|| bias_grad(grad));
        Ok((
            of_x.transpose()?,
            of_weight.transpose()?,
            of_bias.transpose()?,
        ))
    }
}

impl CustomOp3 for Transposed {
    fn name(&self) -> &'static str {
        "conv_transpose"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let views = ((x, x_layout), (weight, weight_layout), (bias, bias_layout));
        on_dtype!(x.dtype(), self.run(views.0, views.1, views.2))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of_x = x.track_op().then(|| conv(grad, weight, None, self.form));
        let of_weight = weight
            .track_op()
            .then(|| weight_grad(grad, x, self.form, weight));
        let of_bias = bias.track_op().then(|| bias_grad(grad));
        Ok((
            of_x.transpose()?,
            of_weight.transpose()?,
            of_bias.transpose()?,
        ))
    }
}

impl CustomOp2 for WeightGrad {
    fn name(&self) -> &'static str {
        "conv_weight_grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let views = ((x, x_layout), (grad, grad_layout));
        on_dtype!(x.dtype(), self.run(views.0, views.1))
    }

    fn bwd(
        &self,
        x: &Tensor,
        grad: &Tensor,
        _: &Tensor,
        of_weight: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let sides = [x.dim(2)?, x.dim(3)?];
        let of_x = x
            .track_op()
            .then(|| transposed(grad, of_weight, None, self.form, sides));
        let of_grad = grad.track_op().then(|| conv(x, of_weight, None, self.form));
        Ok((of_x.transpose()?, of_grad.transpose()?))
    }
}
