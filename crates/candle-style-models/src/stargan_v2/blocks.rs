//! The residual blocks of StarGAN v2.

use std::f64::consts::FRAC_1_SQRT_2;

use candle_core::{D, Result, Tensor};
use candle_instance_norm::nn::AdaptiveInstanceNorm;
use candle_instance_norm::{AdaptiveConfig, Normalization};
use candle_nn::{Linear, Module, VarBuilder};

use super::super::NormStats;
use super::super::conv::{Conv, mean_pool2x, scaled_sum};
use super::super::layers::{AffineNorm, LEAKY_RELU, leaky_relu, same_conv2d};
use super::super::resample::nearest2x;
use super::super::shapes::ANY;

/// The default eps of `torch.nn.InstanceNorm2d`.
const EPS: f64 = 1e-5;

/// Loads an instance norm with a weight and a bias for each channel.
pub fn affine_norm(vb: &VarBuilder, channels: usize) -> Result<AffineNorm> {
    AffineNorm::new(vb, ["weight", "bias"], channels, EPS)
}

/// `(1 + gamma) norm(x) + beta`, with gamma and beta from the style, and a leaky ReLU.
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
        Ok(Self(norm.with_activation(LEAKY_RELU)))
    }

    /// The norm of x in a style.
    pub fn norm(&self, x: &Tensor, style: &Tensor) -> Result<Normalization> {
        self.0.modulation(x, style)
    }
}

/// A residual block that may halve the sides, with or without norms.
#[derive(Debug, Clone)]
pub struct Block {
    norms: Option<[AffineNorm; 2]>,
    conv1: Conv,
    pub conv2: Conv,
    shortcut: Shortcut,
    shrinks: bool,
}

impl Block {
    pub fn new(vb: &VarBuilder, c_in: usize, shrinks: bool, normalized: bool) -> Result<Self> {
        let norm = |name| affine_norm(&vb.pp(name), c_in);
        let norms = if normalized {
            Some([norm("norm1")?, norm("norm2")?])
        } else {
            None
        };
        let conv1 = same_conv2d(&vb.pp("conv1"), [c_in, c_in], 3, true)?;
        let conv2 = same_conv2d(&vb.pp("conv2"), [ANY, c_in], 3, true)?;
        let shortcut = Shortcut::load(vb, [conv2.width(), c_in])?;
        Ok(Self {
            norms,
            conv1,
            conv2,
            shortcut,
            shrinks,
        })
    }

    pub fn forward(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        let shrink = |x: Tensor| if self.shrinks { mean_pool2x(&x) } else { Ok(x) };
        let y = match &self.norms {
            Some([norm, _]) => stats.apply(x, norm.then(LEAKY_RELU))?,
            None => leaky_relu(x)?,
        };
        let y = shrink(self.conv1.forward(&y)?)?;
        let y = match &self.norms {
            Some([_, norm]) => stats.apply_to_own(y, norm.then(LEAKY_RELU))?,
            None => leaky_relu(&y)?,
        };
        let y = self.conv2.forward(&y)?;
        // The original shrinks last: the same for a 1x1 convolution, of four times the work.
        let x = self.shortcut.forward(&shrink(x.clone())?)?;
        scaled_sum(&x, &y, FRAC_1_SQRT_2)
    }
}

/// A residual block in a style that may double the sides.
#[derive(Debug, Clone)]
pub struct StyledBlock {
    norm1: Adaptive,
    norm2: Adaptive,
    conv1: Conv,
    pub conv2: Conv,
    shortcut: Option<Shortcut>,
    grows: bool,
}

impl StyledBlock {
    pub fn new(vb: &VarBuilder, c_in: usize, grows: bool, shortcuts: bool) -> Result<Self> {
        let conv1 = same_conv2d(&vb.pp("conv1"), [ANY, c_in], 3, true)?;
        let c_out = conv1.width();
        // The original makes and saves one either way.
        let shortcut = Shortcut::load(vb, [c_out, c_in])?;
        Ok(Self {
            norm1: Adaptive::new(&vb.pp("norm1"), c_in)?,
            norm2: Adaptive::new(&vb.pp("norm2"), c_out)?,
            conv1,
            conv2: same_conv2d(&vb.pp("conv2"), [c_out, c_out], 3, true)?,
            shortcut: shortcuts.then_some(shortcut),
            grows,
        })
    }

    pub fn forward(&self, x: &Tensor, style: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        let y = stats.apply(x, self.norm1.norm(x, style)?)?;
        let y = if self.grows {
            self.conv1.upsampled(&y)?
        } else {
            self.conv1.forward(&y)?
        };
        let norm2 = self.norm2.norm(&y, style)?;
        let y = stats.apply_to_own(y, norm2)?;
        let y = self.conv2.forward(&y)?;
        let Some(shortcut) = &self.shortcut else {
            return Ok(y);
        };
        // The original upsamples first: the same for a 1x1 convolution, of four times the work.
        let mut x = shortcut.forward(x)?;
        if self.grows {
            x = nearest2x(&x)?;
        }
        scaled_sum(&x, &y, FRAC_1_SQRT_2)
    }
}

/// The path around the convolutions of a block.
#[derive(Debug, Clone)]
enum Shortcut {
    Identity,
    Conv(Conv),
}

impl Shortcut {
    /// Loads the 1x1 convolution of a block whose widths differ.
    fn load(vb: &VarBuilder, [c_out, c_in]: [usize; 2]) -> Result<Self> {
        if c_out == c_in {
            return Ok(Self::Identity);
        }
        same_conv2d(&vb.pp("conv1x1"), [c_out, c_in], 1, false).map(Self::Conv)
    }
}

impl Module for Shortcut {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x.clone()),
            Self::Conv(conv) => conv.forward(x),
        }
    }
}
