//! Networks against their goldens.

use std::collections::HashMap;
use std::ops::Index;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use candle_style_models::{NormStats, weights::Weights};

/// A golden with the weights of a network, inputs and outputs.
pub struct Golden(pub HashMap<String, Tensor>);

impl Golden {
    pub fn load(file: &str, device: &Device) -> Result<Self> {
        let path = testing::golden(file);
        Ok(Self(candle_core::safetensors::load(path, device)?))
    }

    /// The tensors whose names are those of weights.
    pub fn weights(&self, is_weight: impl Fn(&str) -> bool) -> Weights {
        let weights = self.0.iter().filter(|(name, _)| is_weight(name));
        let weights = weights.map(|(name, tensor)| (name.clone(), tensor.clone()));
        Weights::from_tensors(weights, "the golden")
    }
}

impl Index<&str> for Golden {
    type Output = Tensor;

    fn index(&self, name: &str) -> &Tensor {
        &self.0[name]
    }
}

/// The largest difference as a share of the largest value; NaN where there is one.
pub fn max_off(got: &Tensor, expected: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), expected.dims());
    let largest = |x: Tensor| -> Result<f64> {
        let values = x.abs()?.flatten_all()?.to_vec1::<f64>()?;
        let larger = |most: f64, x: f64| if x > most || x.is_nan() { x } else { most };
        Ok(values.into_iter().fold(0., larger))
    };
    let expected = expected.to_dtype(DType::F64)?;
    let off = (got.to_dtype(DType::F64)? - &expected)?;
    Ok(largest(off)? / largest(expected)?)
}

/// The largest difference between a tile and the same part of the whole picture, both with the
/// statistics of another picture. The tile is read with `reach` pixels more on either side, rounded
/// up to the `multiple` that sides must be of.
pub fn tiled(
    run: &dyn Fn(&Tensor, &mut NormStats) -> candle_core::Result<Tensor>,
    (reach, multiple): (usize, usize),
) -> Result<f64> {
    let device = &Device::Cpu;
    let whole_multiple = |length: usize| length.next_multiple_of(multiple);
    let (height, part) = (whole_multiple(20), whole_multiple(16));
    let around = whole_multiple(reach);
    let start = around + whole_multiple(64);
    let mut stats = NormStats::record();
    // Large enough to have several pixels at the smallest scale.
    let reduced = Tensor::rand(0f32, 1., (1, 3, 5 * multiple, 6 * multiple), device)?;
    run(&reduced, &mut stats)?;
    let x = Tensor::rand(0f32, 1., (1, 3, height, 2 * start + part), device)?;
    let whole = run(&x, &mut stats.replay())?;
    let tile = x.narrow(3, start - around, part + 2 * around)?;
    let tile = run(&tile, &mut stats.replay())?;
    max_off(
        &tile.narrow(3, around, part)?,
        &whole.narrow(3, start, part)?,
    )
}

/// The gradients of the sum of squares, in random directions, are those of finite differences.
pub fn check_gradients(
    vars: &[Var],
    run: &dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) -> Result<()> {
    const STEP: f64 = 1e-6;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let grads = run(&tensors)?.sqr()?.sum_all()?.backward()?;
    for (index, var) in vars.iter().enumerate() {
        let grad = grads.get(var).context("no gradient")?;
        let direction = Tensor::randn(0f64, 1., var.dims(), var.device())?;
        let moved = |sign: f64| -> Result<f64> {
            let mut tensors: Vec<_> = tensors.iter().map(Tensor::detach).collect();
            tensors[index] = (&tensors[index] + (&direction * (sign * STEP))?)?;
            Ok(run(&tensors)?.sqr()?.sum_all()?.to_scalar()?)
        };
        let difference = (moved(1.)? - moved(-1.)?) / (2. * STEP);
        let expected: f64 = (grad * &direction)?.sum_all()?.to_scalar()?;
        let off = (difference - expected).abs() / expected.abs();
        ensure!(off < 1e-4, "input {index}: {difference} for {expected}");
    }
    Ok(())
}
