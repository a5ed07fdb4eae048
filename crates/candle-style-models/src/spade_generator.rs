//! GauGAN.

use candle_core::{bail, Result, Tensor};
use candle_instance_norm::nn::{self, ParamFreeNorm, Spade};
use candle_instance_norm::Activation;
use candle_nn::{Conv2d, Module, VarBuilder};

use super::layers::{named_weight, same_conv2d, same_conv2d_of, ANY};
use super::resample::{every, nearest2x};
use super::Norms;

/// What does not follow from the weights of a [`SpadeGenerator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpadeConfig {
    /// The norm inside.
    pub norm: ParamFreeNorm,
    /// How often the sides are doubled: 5 for `--num_upsampling_layers normal`, 6 for `more` and 7
    /// for `most`.
    pub doublings: usize,
}

impl SpadeConfig {
    /// What the names of the weights tell: batch norm where there are running statistics, and 7
    /// doublings where there is a fifth block after the middle. Between 5 and 6 they do not tell,
    /// and this says 5, as for COCO-Stuff and ADE20K; the networks of Cityscapes have 6.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_style_models::SpadeConfig;
    /// use candle_instance_norm::nn::ParamFreeNorm;
    ///
    /// let name = "head_0.norm_0.param_free_norm.running_mean".to_string();
    /// let weights = HashMap::from([(name, Tensor::zeros(4, DType::F32, &Device::Cpu)?)]);
    /// let vb = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    /// let expected = SpadeConfig { norm: ParamFreeNorm::Batch, doublings: 5 };
    /// assert_eq!(SpadeConfig::infer(&vb), expected);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn infer(vb: &VarBuilder) -> Self {
        let norm = match vb.contains_tensor("head_0.norm_0.param_free_norm.running_mean") {
            true => ParamFreeNorm::Batch,
            false => ParamFreeNorm::Instance,
        };
        let doublings = match vb.contains_tensor("up_4.conv_0.bias") {
            true => 7,
            false => 5,
        };
        Self { norm, doublings }
    }
}

/// The generator of GauGAN (Park et al., "Semantic Image Synthesis with Spatially-Adaptive
/// Normalization", 2019), as `SPADEGenerator` in `NVlabs/SPADE` without the variational encoder.
///
/// From a map of labels alone: residual blocks whose norms are scaled and shifted, pixel by pixel,
/// by what small convolutions make of the map, `norm(x) * (1 + gamma) + beta`.
///
/// # Shapes
///
/// - map: `(N, L, H, W)`, one-hot over L labels (with those for edges and unknown, where the
///   network has them); `H` and `W` multiples of 2 to the number of doublings
/// - result: `(N, 3, H, W)`, RGB in `[-1, 1]`
///
/// # Errors
///
/// Another shape, and what candle says of dtype and device.
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{weights::Weights, SpadeConfig, SpadeGenerator};
/// use candle_instance_norm::nn::ParamFreeNorm;
///
/// let config = SpadeConfig { norm: ParamFreeNorm::Batch, doublings: 5 };
/// let weights = Weights::open("latest_net_G.pth")?;
/// let build = |vb| SpadeGenerator::new(config, vb);
/// let generator = weights.build(DType::F32, &Device::Cpu, build)?;
/// let map = Tensor::zeros((1, 184, 256, 256), DType::F32, &Device::Cpu)?;
/// assert_eq!(generator.forward(&map)?.dims(), [1, 3, 256, 256]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SpadeGenerator {
    doublings: usize,
    fc: Conv2d,
    /// Each with whether the sides are doubled before it.
    blocks: Vec<(bool, Block)>,
    conv_img: Conv2d,
}

impl SpadeGenerator {
    /// Builds the generator from its state dict (`fc.weight`, `head_0.conv_0.weight_orig`, ...);
    /// widths and labels follow from it. Spectral norm is divided out of the weights, with the
    /// vectors that are stored for evaluation.
    ///
    /// # Errors
    ///
    /// A number of doublings other than 5 to 7, and a tensor that is missing or whose shape does
    /// not fit the layer before it; the error names it.
    pub fn new(config: SpadeConfig, vb: VarBuilder) -> Result<Self> {
        let names: &[(bool, &str)] = match config.doublings {
            5 => &[
                (false, "head_0"),
                (true, "G_middle_0"),
                (false, "G_middle_1"),
            ],
            6 | 7 => &[
                (false, "head_0"),
                (true, "G_middle_0"),
                (true, "G_middle_1"),
            ],
            other => bail!("SpadeGenerator: expected 5 to 7 doublings, got {other}"),
        };
        let ups = [
            (true, "up_0"),
            (true, "up_1"),
            (true, "up_2"),
            (true, "up_3"),
            (true, "up_4"),
        ];
        let ups = if config.doublings == 7 {
            &ups[..]
        } else {
            &ups[..4]
        };
        let fc = same_conv2d(&vb.pp("fc"), [ANY, ANY], 3, true)?;
        let [mut c_in, labels, ..] = *fc.weight().dims() else {
            bail!("SpadeGenerator: fc.weight has no four dimensions")
        };
        let mut blocks = Vec::new();
        for &(doubles, name) in names.iter().chain(ups) {
            let block = Block::new(&vb.pp(name), c_in, labels, config.norm)?;
            c_in = block.conv_1.weight().dims()[0];
            blocks.push((doubles, block));
        }
        Ok(Self {
            doublings: config.doublings,
            fc,
            blocks,
            conv_img: same_conv2d(&vb.pp("conv_img"), [3, c_in], 3, true)?,
        })
    }

    /// The number of labels.
    pub fn labels(&self) -> usize {
        self.fc.weight().dims()[1]
    }

    /// What the sides of a map must be multiples of.
    pub fn multiple(&self) -> usize {
        1 << self.doublings
    }

    /// How many pixels around it a pixel of the output depends on, where the statistics of the
    /// norms are given.
    pub fn reach(&self) -> usize {
        // In pixels of the map: 1 for the last convolution; for each block 2 convolutions at its
        // scale, and 1 where the sides are doubled before it; before the first 2 convolutions of
        // the map, or fc, and 1 for its reduction.
        let mut scale = self.multiple();
        let kernels = |block: &Block| 2 * (block.norm_0.config().kernel_size / 2);
        let first = self.blocks.first().map_or(0, |(_, block)| kernels(block));
        let mut reach = 1 + scale * (1 + first.max(1));
        for (doubles, _) in &self.blocks {
            if *doubles {
                scale /= 2;
                reach += scale;
            }
            reach += 2 * scale;
        }
        reach
    }

    /// The picture for a map; see the [struct](Self) for shapes and errors.
    pub fn forward(&self, map: &Tensor) -> Result<Tensor> {
        self.forward_with(map, &mut Norms::own())
    }

    /// [`forward`](Self::forward) with the statistics of the instance norms that `norms` says.
    pub fn forward_with(&self, map: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let (labels, multiple) = (self.labels(), self.multiple());
        match *map.dims() {
            [_, l, h, w] if l == labels && h * w > 0 && h % multiple == 0 && w % multiple == 0 => {}
            ref dims => bail!(
                "SpadeGenerator: the map must have shape (N, {labels}, H, W), H and W multiples of {multiple}, got {dims:?}"
            ),
        }
        let mut x = self.fc.forward(&every(map, multiple)?)?;
        for (doubles, block) in &self.blocks {
            if *doubles {
                x = nearest2x(&x)?;
            }
            x = block.forward(&x, map, norms)?;
        }
        self.conv_img.forward(&activate(&x)?)?.tanh()
    }
}

const LEAKY: Activation = Activation::LeakyRelu(0.2);

/// LeakyReLU of slope 0.2.
fn activate(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::leaky_relu(x, 0.2)
}

/// `conv_s(norm_s(x)) + conv_1(act(norm_1(conv_0(act(norm_0(x))))))`, each norm by the map.
#[derive(Debug, Clone)]
struct Block {
    norm_0: Spade,
    conv_0: Conv2d,
    norm_1: Spade,
    conv_1: Conv2d,
    shortcut: Option<(Spade, Conv2d)>,
}

impl Block {
    fn new(vb: &VarBuilder, c_in: usize, labels: usize, norm: ParamFreeNorm) -> Result<Self> {
        let spade =
            |name, width, activation| spade(&vb.pp(name), [labels, width], norm, activation);
        let conv_0 = spectral_conv2d(&vb.pp("conv_0"), [ANY, c_in], 3, true)?;
        let middle = conv_0.weight().dims()[0];
        let conv_1 = spectral_conv2d(&vb.pp("conv_1"), [ANY, middle], 3, true)?;
        let c_out = conv_1.weight().dims()[0];
        let shortcut = match c_in == c_out {
            true => None,
            false => {
                let conv = spectral_conv2d(&vb.pp("conv_s"), [c_out, c_in], 1, false)?;
                Some((spade("norm_s", c_in, Activation::None)?, conv))
            }
        };
        Ok(Self {
            norm_0: spade("norm_0", c_in, LEAKY)?,
            conv_0,
            norm_1: spade("norm_1", middle, LEAKY)?,
            conv_1,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, map: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let around = match &self.shortcut {
            Some((norm, conv)) => conv.forward(&modulate(norm, x, map, norms)?)?,
            None => x.clone(),
        };
        let y = modulate(&self.norm_0, x, map, norms)?;
        let y = self.conv_0.forward(&y)?;
        let y = modulate(&self.norm_1, &y, map, norms)?;
        around + self.conv_1.forward(&y)?
    }
}

/// A norm for `width` channels; the size of its kernels (3x3 as published, 1x1 or 5x5 as the option
/// has it) and the width inside are read from the weights.
fn spade(
    vb: &VarBuilder,
    [labels, width]: [usize; 2],
    norm: ParamFreeNorm,
    activation: Activation,
) -> Result<Spade> {
    let shared = vb
        .pp("mlp_shared.0")
        .get_unchecked_dtype("weight", vb.dtype());
    let (hidden, kernel_size) = match shared.as_ref().map(|weight| weight.dims()) {
        Ok(&[hidden, _, _, kernel]) => (hidden, kernel),
        _ => (ANY, 3),
    };
    let config = nn::SpadeConfig {
        kernel_size,
        hidden,
        ..nn::SpadeConfig::new(norm)
    };
    let spade = nn::spade(width, labels, config, vb.clone())?;
    Ok(spade.with_activation(activation))
}

fn modulate(spade: &Spade, x: &Tensor, map: &Tensor, norms: &mut Norms) -> Result<Tensor> {
    match spade.config().norm {
        ParamFreeNorm::Instance => norms.apply(x, spade.modulation(x, map)?),
        _ => spade.forward(x, map),
    }
}

/// Loads a convolution that may have been trained with spectral norm: `weight_orig` over its
/// largest singular value, `u^T W v` by the vectors that are stored.
fn spectral_conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    bias: bool,
) -> Result<Conv2d> {
    if !vb.contains_tensor("weight_orig") {
        return same_conv2d(vb, [c_out, c_in], kernel, bias);
    }
    let mut weight = named_weight(vb, "weight_orig", [c_out, c_in, kernel, kernel])?;
    let (rows, columns) = (weight.dim(0)?, weight.dim(1)? * kernel * kernel);
    let u = vb.get(rows, "weight_u")?;
    let v = vb.get(columns, "weight_v")?;
    // None of a blank, which stands for a weight that does not fit.
    if weight.elem_count() > 0 {
        let sigma = u.reshape((1, rows))?.matmul(&weight.flatten_from(1)?)?;
        let sigma = sigma.matmul(&v.reshape((columns, 1))?)?;
        weight = weight.broadcast_div(&sigma.reshape((1, 1, 1, 1))?)?;
    }
    same_conv2d_of(vb, weight, bias)
}
