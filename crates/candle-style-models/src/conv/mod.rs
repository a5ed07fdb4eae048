//! The convolutions of the networks, with what stands before them: padding and upsampling.
//!
//! On the CPU they are ops of this crate, forward and backward; on GPUs they are composed of candle's
//! ops. candle's convolution on the CPU copies the whole input for every tap of the kernel, takes
//! padding and upsampling as copies of their own, differentiates by loops over single values, and does
//! not know bf16.
//!
//! From the bottom up: [`plan`] says what is read and written, [`vector`] and [`kernel`] multiply,
//! [`element`] converts, [`strip`] and [`output`] are the memory on both sides, [`forward`],
//! [`weight_grad`] and [`fold`] are the passes, [`op`] makes ops of candle of them. [`between`] has the
//! passes that stand between convolutions.

mod between;
mod composed;
mod element;
mod fold;
mod forward;
mod kernel;
mod op;
mod output;
mod plan;
mod strip;
#[cfg(test)]
mod tests;
mod vector;
mod weight_grad;

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::Module;

pub use between::{max_pool2x, mean_pool2x, scaled_sum};
pub use composed::dense;
pub use op::acc_dtype;
pub use plan::{Form, Padding};

impl Form {
    /// Stride 1, and zeros around the input that keep its sides.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            padding: Padding::Zeros(kernel / 2),
            upsample: false,
            groups: 1,
            relu: false,
        }
    }

    /// A reflection of half the kernel around the input.
    pub fn reflect(kernel: usize) -> Self {
        Self {
            padding: Padding::Reflect(kernel / 2),
            ..Self::same(kernel)
        }
    }

    /// The same with a step between the pixels of the output.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with the channels in groups, each by itself.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The same with a ReLU of the result.
    pub fn relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// The same over an input of twice the sides, in which every pixel has become a square of four.
    pub fn upsampled(self) -> Self {
        Self {
            upsample: true,
            ..self
        }
    }
}

/// The weight and the bias of a convolution.
///
/// On the CPU those of the half types are kept in f32, which convolutions of them compute in, unless
/// they are trained: to convert them in every pass took longer than the small layers of StarGAN v2.
#[derive(Debug, Clone)]
struct Params {
    weight: Tensor,
    bias: Option<Tensor>,
    /// The dtype that they came in, and that x has to have.
    dtype: DType,
}

impl Params {
    fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let dtype = weight.dtype();
        let kept = |tensor: Tensor| {
            if tensor.device().is_cpu() && !tensor.track_op() {
                tensor.to_dtype(acc_dtype(dtype))
            } else {
                Ok(tensor)
            }
        };
        Ok(Self {
            weight: kept(weight)?,
            bias: bias.map(kept).transpose()?,
            dtype,
        })
    }

    /// Both as the ops of the CPU take them.
    fn on_cpu(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        if x.dtype() != self.dtype {
            bail!(
                "conv: expected x in the dtype of the weights, {:?}, got {:?}",
                self.dtype,
                x.dtype()
            )
        }
        let wide = |tensor: &Tensor| tensor.to_dtype(acc_dtype(self.dtype));
        let bias = self.bias.as_ref().map(wide).transpose()?;
        Ok((wide(&self.weight)?, bias))
    }
}

/// A convolution.
#[derive(Debug, Clone)]
pub struct Conv {
    params: Params,
    form: Form,
}

impl Conv {
    /// `weight` is `(outputs, inputs / groups, height, width)`, `bias` is `(outputs)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, form: Form) -> Result<Self> {
        let params = Params::new(weight, bias)?;
        Ok(Self { params, form })
    }

    /// The same convolution with a ReLU of the result.
    pub fn then_relu(self) -> Self {
        let form = self.form.relu();
        Self { form, ..self }
    }

    /// The number of output channels.
    pub fn width(&self) -> usize {
        self.params.weight.dims()[0]
    }

    /// The number of input channels.
    pub fn inputs(&self) -> usize {
        self.params.weight.dims()[1] * self.form.groups
    }

    /// This convolution of an input that is doubled first.
    pub fn upsampled(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, self.form.upsampled())
    }

    fn run(&self, x: &Tensor, form: Form) -> Result<Tensor> {
        if x.device().is_cpu() {
            let (weight, bias) = self.params.on_cpu(x)?;
            op::conv(x, &weight, bias.as_ref(), form)
        } else {
            let Params { weight, bias, .. } = &self.params;
            composed::conv(x, weight, bias.as_ref(), form)
        }
    }
}

impl Module for Conv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, self.form)
    }
}

/// A transposed convolution of stride 2 that doubles the sides.
#[derive(Debug, Clone)]
pub struct DoublingConv(Params);

impl DoublingConv {
    /// `weight` is `(inputs, outputs, 3, 3)`, `bias` is `(outputs)`.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        Ok(Self(Params::new(weight, Some(bias))?))
    }
}

impl Module for DoublingConv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        if !x.device().is_cpu() {
            let Params { weight, bias, .. } = &self.0;
            return composed::doubling(x, weight, bias.as_ref());
        }
        let (weight, bias) = self.0.on_cpu(x)?;
        let form = Form::same(3).stride(2);
        let sides = [2 * height, 2 * width];
        op::transposed(x, &weight, bias.as_ref(), form, sides)
    }
}
