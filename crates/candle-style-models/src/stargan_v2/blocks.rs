//! The blocks that StarGAN v2 is made of.

use std::f64::consts::FRAC_1_SQRT_2;

use candle_core::{Result, Tensor, D};
use candle_instance_norm::nn::AdaptiveInstanceNorm;
use candle_instance_norm::{Activation, AdaptiveConfig, Normalization};
use candle_nn::{Conv2d, Linear, Module, VarBuilder};

use super::super::layers::{same_conv2d, ANY};
use super::super::resample::nearest2x;
use super::super::Norms;

/// `torch.nn.InstanceNorm2d`'s default.
const EPS: f64 = 1e-5;

pub fn width(conv: &Conv2d) -> usize {
    conv.weight().dims()[0]
}

/// What follows every norm.
const LEAKY: Activation = Activation::LeakyRelu(0.2);

/// LeakyReLU of slope 0.2, where there is no norm before it.
pub fn activate(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::leaky_relu(x, 0.2)
}

/// Instance norm with a weight and a bias for each channel, and LeakyReLU.
#[derive(Debug, Clone)]
pub struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Affine {
    pub fn new(vb: &VarBuilder, width: usize) -> Result<Self> {
        Ok(Self {
            weight: vb.get(width, "weight")?,
            bias: vb.get(width, "bias")?,
        })
    }

    pub fn forward(&self, x: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let norm = Normalization::instance(EPS).activation(LEAKY);
        norms.apply(x, norm.weight(&self.weight).bias(&self.bias))
    }
}

/// `(1 + gamma) norm(x) + beta`, with gamma and beta from the style, and LeakyReLU.
#[derive(Debug, Clone)]
pub struct Adaptive(AdaptiveInstanceNorm);

impl Adaptive {
    pub fn new(vb: &VarBuilder, width: usize) -> Result<Self> {
        let fc = vb.pp("fc");
        let weight = fc.get_unchecked_dtype("weight", fc.dtype())?;
        let inputs = weight.dim(D::Minus1)?;
        let weight = fc.get((2 * width, inputs), "weight")?;
        let fc = Linear::new(weight, Some(fc.get(2 * width, "bias")?));
        let norm = AdaptiveInstanceNorm::new(fc, AdaptiveConfig::stargan_v2())?;
        Ok(Self(norm.with_activation(LEAKY)))
    }

    pub fn forward(&self, x: &Tensor, style: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        norms.apply(x, self.0.modulation(x, style)?)
    }
}

/// A residual block that may halve the sides, with or without norms.
#[derive(Debug, Clone)]
pub struct Block {
    norms: Option<[Affine; 2]>,
    conv1: Conv2d,
    pub conv2: Conv2d,
    shortcut: Option<Conv2d>,
    shrinks: bool,
}

impl Block {
    pub fn new(vb: &VarBuilder, c_in: usize, shrinks: bool, normalized: bool) -> Result<Self> {
        let norm = |name| Affine::new(&vb.pp(name), c_in);
        let norms = match normalized {
            true => Some([norm("norm1")?, norm("norm2")?]),
            false => None,
        };
        let conv1 = same_conv2d(&vb.pp("conv1"), [c_in, c_in], 3, true)?;
        let conv2 = same_conv2d(&vb.pp("conv2"), [ANY, c_in], 3, true)?;
        let shortcut = shortcut(vb, [width(&conv2), c_in])?;
        Ok(Self {
            norms,
            conv1,
            conv2,
            shortcut,
            shrinks,
        })
    }

    pub fn forward(&self, x: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let mut half = |x: &Tensor, index: usize| match &self.norms {
            Some(affine) => affine[index].forward(x, norms),
            None => activate(x),
        };
        let shrink = |x: Tensor| if self.shrinks { x.avg_pool2d(2) } else { Ok(x) };
        let y = shrink(self.conv1.forward(&half(x, 0)?)?)?;
        let y = self.conv2.forward(&half(&y, 1)?)?;
        let x = match &self.shortcut {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        (shrink(x)? + y)? * FRAC_1_SQRT_2
    }
}

/// A residual block in a style that may double the sides.
#[derive(Debug, Clone)]
pub struct StyledBlock {
    norm1: Adaptive,
    norm2: Adaptive,
    conv1: Conv2d,
    pub conv2: Conv2d,
    /// None where there is no way around.
    shortcut: Option<Option<Conv2d>>,
    grows: bool,
}

impl StyledBlock {
    pub fn new(vb: &VarBuilder, c_in: usize, grows: bool, shortcuts: bool) -> Result<Self> {
        let conv1 = same_conv2d(&vb.pp("conv1"), [ANY, c_in], 3, true)?;
        let c_out = width(&conv1);
        // The original makes and saves it either way.
        let shortcut = shortcut(vb, [c_out, c_in])?;
        Ok(Self {
            norm1: Adaptive::new(&vb.pp("norm1"), c_in)?,
            norm2: Adaptive::new(&vb.pp("norm2"), c_out)?,
            conv1,
            conv2: same_conv2d(&vb.pp("conv2"), [c_out, c_out], 3, true)?,
            shortcut: shortcuts.then_some(shortcut),
            grows,
        })
    }

    pub fn forward(&self, x: &Tensor, style: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let grow = |x: Tensor| if self.grows { nearest2x(&x) } else { Ok(x) };
        let y = grow(self.norm1.forward(x, style, norms)?)?;
        let y = self.conv1.forward(&y)?;
        let y = self.norm2.forward(&y, style, norms)?;
        let y = self.conv2.forward(&y)?;
        let Some(shortcut) = &self.shortcut else {
            return Ok(y);
        };
        let mut x = grow(x.clone())?;
        if let Some(conv) = shortcut {
            x = conv.forward(&x)?;
        }
        (x + y)? * FRAC_1_SQRT_2
    }
}

/// The convolution around a block whose widths differ.
fn shortcut(vb: &VarBuilder, [c_out, c_in]: [usize; 2]) -> Result<Option<Conv2d>> {
    match c_out == c_in {
        true => Ok(None),
        false => same_conv2d(&vb.pp("conv1x1"), [c_out, c_in], 1, false).map(Some),
    }
}
