//! The networks that make the styles of StarGAN v2.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Linear, Module, VarBuilder};

use super::super::NormStats;
use super::super::conv::{Conv, Form, Padding};
use super::super::layers::{leaky_relu, same_conv2d};
use super::super::shapes::{ANY, weight};
use super::MAX_HALVINGS;
use super::blocks::Block;

/// The mapping network of StarGAN v2 (Choi et al., [1912.01865](https://arxiv.org/abs/1912.01865)), as
/// `MappingNetwork` in [clovaai/stargan-v2](https://github.com/clovaai/stargan-v2): makes a style of
/// a domain from noise.
///
/// # Shapes
///
/// - z: `(N, Z)`, standard normal, in the dtype of the weights
/// - domains: N indices
/// - output: `(N, S)`
///
/// # Errors
///
/// `forward` fails on another shape or number of domains, on a domain that the network does not
/// have, and on a z whose dtype or device is not that of the weights.
#[derive(Debug, Clone)]
pub struct StarGanV2Mapping {
    shared: Vec<Linear>,
    unshared: Vec<Vec<Linear>>,
}

impl StarGanV2Mapping {
    /// Builds the network from its state dict (`shared.0.weight`, `unshared.0.0.weight`, ...).
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it. The error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let domains = count_domains(&vb, "0.weight")?;
        let layers = |vb: VarBuilder| {
            let indices = (0..).step_by(2);
            let there = indices.take_while(|index| vb.contains_tensor(&format!("{index}.weight")));
            there
                .map(|index| linear(&vb.pp(index)))
                .collect::<Result<Vec<_>>>()
        };
        let unshared = (0..domains).map(|domain| layers(vb.pp("unshared").pp(domain)));
        let shared = layers(vb.pp("shared"))?;
        if shared.is_empty() {
            bail!(
                "StarGanV2: there is no {}",
                vb.pp("shared.0.weight").prefix()
            )
        }
        Ok(Self {
            shared,
            unshared: unshared.collect::<Result<_>>()?,
        })
    }

    /// The number of domains.
    pub fn domains(&self) -> usize {
        self.unshared.len()
    }

    /// Z, the length of the noise that a style is made from.
    pub fn latent(&self) -> usize {
        self.shared[0].weight().dims()[1]
    }

    /// A style for each row of noise, in the domain of the same index.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self).
    pub fn forward(&self, z: &Tensor, domains: &[usize]) -> Result<Tensor> {
        let mut x = z.clone();
        for layer in &self.shared {
            x = layer.forward(&x)?.relu()?;
        }
        by_domain(&x, domains, self.unshared.len(), |x, domain| {
            let mut x = x.clone();
            for (index, layer) in self.unshared[domain].iter().enumerate() {
                // Between layers only.
                x = if index > 0 { x.relu()? } else { x };
                x = layer.forward(&x)?;
            }
            Ok(x)
        })
    }
}

/// The style encoder of StarGAN v2 (Choi et al., [1912.01865](https://arxiv.org/abs/1912.01865)), as
/// `StyleEncoder` in [clovaai/stargan-v2](https://github.com/clovaai/stargan-v2): takes the style of
/// a picture of a known domain.
///
/// # Shapes
///
/// - x: `(N, 3, H, W)`, RGB from -1 to 1, in the dtype of the weights; `H` and `W` are the
///   [side](Self::side) of the pictures of its training
/// - domains: N indices
/// - output: `(N, S)`
///
/// # Errors
///
/// `forward` fails on another shape or number of domains, on a domain that the network does not
/// have, on an x whose dtype or device is not that of the weights, and on f64 on Metal, for which candle
/// 0.11 has no convolution.
#[derive(Debug, Clone)]
pub struct StarGanV2StyleEncoder {
    from_rgb: Conv,
    blocks: Vec<Block>,
    last: Conv,
    unshared: Vec<Linear>,
}

impl StarGanV2StyleEncoder {
    /// Builds the network from its state dict (`shared.0.weight`, `unshared.0.weight`, ...).
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it. The error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let domains = count_domains(&vb, "weight")?;
        let shared = vb.pp("shared");
        let from_rgb = same_conv2d(&shared.pp(0), [ANY, 3], 3, true)?;
        let mut c_in = from_rgb.width();
        let mut blocks = Vec::new();
        while shared.contains_tensor(&format!("{}.conv1.weight", blocks.len() + 1)) {
            let block = Block::new(&shared.pp(blocks.len() + 1), c_in, true, false)?;
            c_in = block.conv2.width();
            blocks.push(block);
        }
        if blocks.len() > MAX_HALVINGS {
            let count = blocks.len();
            bail!(
                "StarGanV2: expected at most {MAX_HALVINGS} blocks in the style encoder, got {count}"
            )
        }
        // The index between is a leaky ReLU's.
        let last = shared.pp(blocks.len() + 2);
        let bias = last.get(c_in, "bias")?;
        let unpadded = Form {
            padding: Padding::Zeros(0),
            ..Form::same(4)
        };
        let last = Conv::new(weight(&last, [c_in, c_in, 4, 4])?, Some(bias), unpadded)?;
        let unshared = (0..domains).map(|domain| linear(&vb.pp("unshared").pp(domain)));
        Ok(Self {
            from_rgb,
            blocks,
            last,
            unshared: unshared.collect::<Result<_>>()?,
        })
    }

    /// The number of domains.
    pub fn domains(&self) -> usize {
        self.unshared.len()
    }

    /// The width and height of its pictures, 256 as published.
    pub fn side(&self) -> usize {
        4 << self.blocks.len()
    }

    /// The style of each picture, as one of the domain of the same index.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self).
    pub fn forward(&self, x: &Tensor, domains: &[usize]) -> Result<Tensor> {
        let side = self.side();
        match *x.dims() {
            [_, 3, h, w] if h == side && w == side => {}
            ref dims => bail!("StarGanV2: x must have shape (N, 3, {side}, {side}), got {dims:?}"),
        }
        let mut x = self.from_rgb.forward(x)?;
        for block in &self.blocks {
            x = block.forward(&x, &mut NormStats::own())?;
        }
        let x = leaky_relu(&self.last.forward(&leaky_relu(&x)?)?)?.flatten_from(1)?;
        by_domain(&x, domains, self.unshared.len(), |x, domain| {
            self.unshared[domain].forward(x)
        })
    }
}

/// The number of domains that have a branch of their own; `name` is that of a tensor in each.
fn count_domains(vb: &VarBuilder, name: &str) -> Result<usize> {
    let vb = vb.pp("unshared");
    let domains = (0..).take_while(|domain| vb.contains_tensor(&format!("{domain}.{name}")));
    match domains.count() {
        0 => bail!("StarGanV2: there is no {}", vb.pp("0").pp(name).prefix()),
        count => Ok(count),
    }
}

fn linear(vb: &VarBuilder) -> Result<Linear> {
    let weight = vb.get_unchecked_dtype("weight", vb.dtype())?;
    let (c_out, _) = weight.dims2()?;
    Ok(Linear::new(weight, Some(vb.get(c_out, "bias")?)))
}

/// Applies `branch` to each row of x with the domain of the same index.
fn by_domain(
    x: &Tensor,
    domains: &[usize],
    known: usize,
    branch: impl Fn(&Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    if domains.len() != x.dim(0)? || domains.iter().any(|&domain| domain >= known) {
        bail!(
            "StarGanV2: expected {} domains below {known}, got {domains:?}",
            x.dim(0)?
        )
    }
    let rows = domains.iter().enumerate();
    let rows = rows.map(|(row, &domain)| branch(&x.narrow(0, row, 1)?, domain));
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
}
