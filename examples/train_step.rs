//! Training with instance norm: a small network learns to find the edges of discs whatever the
//! contrast of the picture, which its first norm takes away.
//!
//! ```sh
//! cargo run --release --example train_step
//! ```

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Module, Tensor};
use candle_instance_norm::nn::{InstanceNorm2d, InstanceNormConfig, instance_norm2d};
use candle_nn::{AdamW, Conv2d, Conv2dConfig, Optimizer, VarBuilder, VarMap, conv2d};

const STEPS: usize = 100;
const SIDE: usize = 32;

struct Network {
    layers: Vec<(InstanceNorm2d, Conv2d)>,
}

impl Network {
    fn new(vb: VarBuilder) -> Result<Self> {
        let same = Conv2dConfig {
            padding: 1,
            ..Default::default()
        };
        let affine = InstanceNormConfig {
            affine: true,
            ..Default::default()
        };
        let widths = [1, 8, 8, 1];
        let layer = |(i, pair): (usize, &[usize])| {
            let vb = vb.pp(i);
            let norm = instance_norm2d(pair[0], affine, vb.pp("norm"))?;
            Ok((norm, conv2d(pair[0], pair[1], 3, same, vb.pp("conv"))?))
        };
        let layers = widths.windows(2).enumerate().map(layer);
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (i, (norm, conv)) in self.layers.iter().enumerate() {
            y = norm.forward(&y)?;
            y = if i > 0 { y.relu()? } else { y };
            y = conv.forward(&y)?;
        }
        Ok(y)
    }
}

fn main() -> Result<()> {
    let device = Device::Cpu;
    let vars = VarMap::new();
    let network = Network::new(VarBuilder::from_varmap(&vars, DType::F32, &device))?;
    let mut optimizer = AdamW::new_lr(vars.all_vars(), 1e-2)?;
    let (pictures, edges) = discs(&device)?;
    let mut losses = vec![];
    for step in 0..STEPS {
        let loss = (network.forward(&pictures)? - &edges)?.sqr()?.mean_all()?;
        optimizer.backward_step(&loss)?;
        losses.push(loss.to_scalar::<f32>()?);
        if step % 10 == 0 {
            println!("step {step:3}: loss {:.4}", losses[step]);
        }
    }
    let (first, last) = (losses[0], losses[STEPS - 1]);
    println!("step {:3}: loss {last:.4}", STEPS - 1);
    ensure!(last < first / 2., "the loss went from {first} to {last}");
    Ok(())
}

/// Discs of four sizes in four contrasts, and rings where their edges are: `(4, 1, SIDE, SIDE)`.
fn discs(device: &Device) -> Result<(Tensor, Tensor)> {
    let (mut pictures, mut edges) = (vec![], vec![]);
    for k in 0..4 {
        let (radius, contrast) = (4. + 2.5 * k as f32, 10f32.powi(k - 2));
        for at in 0..SIDE * SIDE {
            let centre = (SIDE - 1) as f32 / 2.;
            let (row, column) = ((at / SIDE) as f32, (at % SIDE) as f32);
            let outside = (row - centre).hypot(column - centre) - radius;
            pictures.push(if outside < 0. { contrast } else { 0. });
            edges.push(if outside.abs() < 1. { 1f32 } else { 0. });
        }
    }
    let shape = (4, 1, SIDE, SIDE);
    Ok((
        Tensor::from_vec(pictures, shape, device)?,
        Tensor::from_vec(edges, shape, device)?,
    ))
}
