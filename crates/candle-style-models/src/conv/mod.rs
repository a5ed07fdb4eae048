//! The convolutions of the networks, with what stands before them: padding and upsampling.
//!
//! On the CPU they are ops of this crate, forward and backward; on GPUs they are composed of candle's
//! ops. candle's convolution on the CPU copies the whole input for every tap of the kernel, takes
//! padding and upsampling as copies of their own, differentiates by loops over single values, and does
//! not know bf16.
//!
//! From the bottom up: [`plan`] says what is read and written, [`vector`] and [`kernel`] multiply,
//! [`element`] converts, [`strip`] and [`output`] are the memory on both sides, [`forward`],
//! [`weight_grad`] and [`fold`] are the passes, [`op`] makes ops of candle of them.

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

use candle_core::{Result, Tensor};
use candle_nn::Module;

pub use composed::dense;
pub use plan::{Form, Padding};

impl Form {
    /// Stride 1, and zeros around the input that keep its sides.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            padding: Padding::Zeros(kernel / 2),
            upsample: false,
            groups: 1,
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

    /// The same over an input of twice the sides, in which every pixel has become a square of four.
    pub fn upsampled(self) -> Self {
        Self {
            upsample: true,
            ..self
        }
    }
}

/// A convolution.
#[derive(Debug, Clone)]
pub struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    form: Form,
}

impl Conv {
    /// `weight` is `(outputs, inputs / groups, height, width)`, `bias` is `(outputs)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, form: Form) -> Self {
        Self { weight, bias, form }
    }

    /// The weight, `(outputs, inputs / groups, height, width)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The number of output channels.
    pub fn width(&self) -> usize {
        self.weight.dims()[0]
    }

    /// This convolution of an input that is doubled first.
    pub fn upsampled(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, self.form.upsampled())
    }

    fn run(&self, x: &Tensor, form: Form) -> Result<Tensor> {
        let bias = self.bias.as_ref();
        if x.device().is_cpu() {
            op::conv(x, &self.weight, bias, form)
        } else {
            composed::conv(x, &self.weight, bias, form)
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
pub struct DoublingConv {
    weight: Tensor,
    bias: Tensor,
}

impl DoublingConv {
    /// `weight` is `(inputs, outputs, 3, 3)`, `bias` is `(outputs)`.
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
    }
}

impl Module for DoublingConv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        if !x.device().is_cpu() {
            return composed::doubling(x, &self.weight, &self.bias);
        }
        let form = Form::same(3).stride(2);
        let sides = [2 * height, 2 * width];
        op::transposed(x, &self.weight, Some(&self.bias), form, sides)
    }
}
