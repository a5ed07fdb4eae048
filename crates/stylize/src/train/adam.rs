//! Adam with moments that a checkpoint can hold; candle keeps those of its own private.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const EPS: f64 = 1e-8;

/// A variable of the network with its moments.
pub struct Parameter {
    pub name: String,
    pub var: Var,
    /// The running mean of the gradient.
    pub first: Tensor,
    /// The running mean of the squared gradient.
    pub second: Tensor,
}

impl Parameter {
    pub fn new(name: String, var: Var) -> Result<Self> {
        let (first, second) = (var.zeros_like()?, var.zeros_like()?);
        Ok(Self {
            name,
            var,
            first,
            second,
        })
    }

    /// Takes a step (Kingma and Ba, [1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1). The
    /// number of the first is 1.
    pub fn step(&mut self, grads: &GradStore, number: usize, rate: f64) -> Result<()> {
        let Some(grad) = grads.get(&self.var) else {
            candle_core::bail!("{} has no gradient", self.name)
        };
        // candle leaves some gradients on the graph; the moments would keep the graphs of all steps
        // in memory.
        let grad = grad.detach();
        self.first = ((&self.first * BETA1)? + (&grad * (1. - BETA1))?)?;
        self.second = ((&self.second * BETA2)? + (grad.sqr()? * (1. - BETA2))?)?;
        let first = (&self.first / (1. - BETA1.powi(number as i32)))?;
        let second = (&self.second / (1. - BETA2.powi(number as i32)))?;
        let change = (first / (second.sqrt()? + EPS)?)?;
        self.var.set(&(self.var.as_tensor() - (change * rate)?)?)
    }
}
