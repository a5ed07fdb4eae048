//! Convolutions whose gradients are matrix products on the CPU.
//!
//! candle 0.11 computes them by `conv_transpose2d` and `conv2d` with a kernel as large as the gradient
//! ([`Op::Conv2D` in its backprop.rs]): that of the input value by value, that of the weight with a
//! copy of the input for every tap. In a profile of training `TransformerNet` at width 12 the two
//! were about half of the samples.
//!
//! Remove this file when candle's backward pass of `conv2d` on the CPU takes no longer than its
//! forward pass.
//!
//! [`Op::Conv2D` in its backprop.rs]: https://docs.rs/crate/candle-core/0.11.1/source/src/backprop.rs

use candle_core::{
    CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, backend::BackendStorage,
};
use candle_nn::Conv2d;

/// `conv(x)`, of the same bits as candle's. Its gradients are those of this file on the CPU, where
/// `conv` has a stride of 1 and neither padding nor groups, and else candle's.
pub(super) fn forward(conv: &Conv2d, x: &Tensor) -> Result<Tensor> {
    let (config, weight) = (conv.config(), conv.weight());
    let tracked = x.track_op() || weight.track_op();
    let plain = config.stride == 1 && config.padding == 0;
    if !(tracked && plain && config.groups == 1 && config.dilation == 1 && x.device().is_cpu()) {
        return candle_nn::Module::forward(conv, x);
    }
    let y = x.detach().conv2d(&weight.detach(), 0, 1, 1, 1)?;
    let y = y.apply_op3(x, weight, OnGraph)?;
    match conv.bias() {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(y),
    }
}

/// The op of a convolution whose result y is given: it copies y, and differentiates the convolution
/// of x and the weight.
struct OnGraph;

impl CustomOp3 for OnGraph {
    fn name(&self) -> &'static str {
        "conv2d-on-graph"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        // A fresh result: contiguous, from the start of its storage.
        Ok((y.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad_x = x.track_op().then(|| grad_of_input(weight, grad));
        let grad_weight = weight.track_op();
        let grad_weight = grad_weight.then(|| grad_of_weight(x, weight, grad));
        Ok((None, grad_x.transpose()?, grad_weight.transpose()?))
    }
}

/// The gradient of the input: a convolution of the output's with the taps in reverse order.
fn grad_of_input(weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (height, width) = (weight.dim(2)?, weight.dim(3)?);
    let grad = grad.pad_with_zeros(2, height - 1, height - 1)?;
    let grad = grad.pad_with_zeros(3, width - 1, width - 1)?;
    let reversed = weight.contiguous()?.flip(&[2, 3])?;
    grad.conv2d(&reversed.transpose(0, 1)?, 0, 1, 1, 1)
}

/// The gradient of the weight: for each tap, the matrix product of the output's gradient and the
/// input shifted by the tap.
fn grad_of_weight(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = grad.dims4()?;
    let grad = grad.flatten_from(2)?;
    let mut taps = Vec::new();
    for row in 0..weight.dim(2)? {
        let x = x.narrow(2, row, height)?;
        for column in 0..weight.dim(3)? {
            let x = x.narrow(3, column, width)?.flatten_from(2)?;
            taps.push(grad.matmul(&x.t()?)?.sum(0)?);
        }
    }
    Tensor::stack(&taps, D::Minus1)?.reshape(weight.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use candle_nn::{Conv2dConfig, Module};

    #[test]
    fn gradients_are_candles() -> Result<()> {
        let values = |scale: f64, shape: [usize; 4]| -> Result<Var> {
            let count = shape.iter().product::<usize>() as i64;
            let numbers = Tensor::arange(0, count, &Device::Cpu)?;
            let numbers = numbers.to_dtype(candle_core::DType::F64)?;
            Var::from_tensor(&(numbers * scale)?.sin()?.reshape(&shape)?)
        };
        for (kernel, sides) in [(3, [6, 9]), (9, [13, 10]), (1, [4, 4])] {
            let x = values(0.7, [2, 3, sides[0], sides[1]])?;
            let weight = values(1.1, [4, 3, kernel, kernel])?;
            let bias = values(0.3, [1, 1, 1, 4])?;
            let bias = Var::from_tensor(&bias.flatten_all()?)?;
            let config = Conv2dConfig::default();
            let conv = Conv2d::new(
                weight.as_tensor().clone(),
                Some(bias.as_tensor().clone()),
                config,
            );
            let run = |y: Tensor| -> Result<(Tensor, Vec<Vec<f64>>)> {
                let grads = (&y * y.sin()?)?.sum_all()?.backward()?;
                let grad = |var: &Var| match grads.get(var) {
                    Some(grad) => grad.flatten_all()?.to_vec1(),
                    None => candle_core::bail!("no gradient"),
                };
                Ok((y.detach(), vec![grad(&x)?, grad(&weight)?, grad(&bias)?]))
            };
            let (own, own_grads) = run(forward(&conv, &x)?)?;
            let (candles, candles_grads) = run(conv.forward(&x)?)?;
            let own = own.flatten_all()?.to_vec1::<f64>()?;
            assert_eq!(own, candles.flatten_all()?.to_vec1::<f64>()?);
            for (own, candles) in own_grads.iter().zip(&candles_grads) {
                assert_eq!(own.len(), candles.len());
                for (own, candles) in own.iter().zip(candles) {
                    assert!((own - candles).abs() < 1e-9, "{own} is not {candles}");
                }
            }
        }
        Ok(())
    }
}
