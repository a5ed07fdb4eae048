//! The generator of GauGAN.

use candle_core::{Result, Tensor, bail};
use candle_instance_norm::Activation;
use candle_instance_norm::nn::{self, ParamFreeNorm, Spade};
use candle_nn::{Module, VarBuilder};

use super::NormStats;
use super::conv::{Conv, acc_dtype};
use super::layers::{LEAKY_RELU, leaky_relu, same_conv2d, same_conv2d_of};
use super::resample::{every, nearest2x};
use super::shapes::{ANY, named_weight};

/// The choices of a [`SpadeGenerator`] that its weights do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpadeGeneratorConfig {
    /// The norm that every map modulates.
    pub norm: ParamFreeNorm,
    /// The number of times that the sides are doubled: 5 for `--num_upsampling_layers normal`, 6
    /// for `more` and 7 for `most`.
    pub doublings: usize,
}

impl SpadeGeneratorConfig {
    /// Reads the choices from the names of the weights: batch norm where there are running
    /// statistics, and 7 doublings where there is a fifth block after the middle. Nothing tells 5
    /// from 6: this says 5, as for COCO-Stuff and ADE20K, and the networks of Cityscapes need 6.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_style_models::SpadeGeneratorConfig;
    /// use candle_instance_norm::nn::ParamFreeNorm;
    ///
    /// let name = "head_0.norm_0.param_free_norm.running_mean".to_string();
    /// let weights = HashMap::from([(name, Tensor::zeros(4, DType::F32, &Device::Cpu)?)]);
    /// let vb = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    /// let expected = SpadeGeneratorConfig { norm: ParamFreeNorm::Batch, doublings: 5 };
    /// assert_eq!(SpadeGeneratorConfig::infer(&vb), expected);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn infer(vb: &VarBuilder) -> Self {
        let has_statistics = vb.contains_tensor("head_0.norm_0.param_free_norm.running_mean");
        let has_fifth_block = vb.contains_tensor("up_4.conv_0.bias");
        Self {
            norm: if has_statistics {
                ParamFreeNorm::Batch
            } else {
                ParamFreeNorm::Instance
            },
            doublings: if has_fifth_block { 7 } else { 5 },
        }
    }
}

/// The generator of GauGAN (Park et al., [Semantic Image Synthesis with Spatially-Adaptive
/// Normalization](https://arxiv.org/abs/1903.07291), 2019), as `SPADEGenerator` in
/// [NVlabs/SPADE](https://github.com/NVlabs/SPADE) without the variational encoder.
///
/// It draws a picture from a map of labels alone, with residual blocks of [`Spade`] norms: `norm(x) *
/// (1 + gamma) + beta`, where small convolutions compute gamma and beta of each pixel from the map.
///
/// # Shapes
///
/// - map: `(N, L, H, W)`, one-hot over L labels (with a channel each for edges and for unknown, where
///   the network has them); `H` and `W` multiples of 2 to the number of doublings; in the dtype of
///   the weights
/// - output: `(N, 3, H, W)`, RGB from -1 to 1
///
/// # Errors
///
/// `forward` fails on another shape, on a map whose dtype or device is not that of the weights, and
/// on f64 on Metal, for which candle 0.11 has no convolution.
///
/// # Example
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{weights::Weights, SpadeGeneratorConfig, SpadeGenerator};
/// use candle_instance_norm::nn::ParamFreeNorm;
///
/// let config = SpadeGeneratorConfig { norm: ParamFreeNorm::Batch, doublings: 5 };
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
    fc: Conv,
    /// The blocks, each with whether the sides are doubled before it.
    blocks: Vec<(bool, Block)>,
    conv_img: Conv,
}

impl SpadeGenerator {
    /// Builds the generator from its state dict (`fc.weight`, `head_0.conv_0.weight_orig`, ...). The
    /// widths and the number of labels are read from the shapes. Weights that were trained with
    /// spectral norm are divided by it, as the vectors stored for evaluation give it.
    ///
    /// # Errors
    ///
    /// The number of doublings is not 5 to 7, a tensor is missing, or its shape does not fit the
    /// layer before it. The error names it.
    pub fn new(config: SpadeGeneratorConfig, vb: VarBuilder) -> Result<Self> {
        let doublings = config.doublings;
        if !(5..=7).contains(&doublings) {
            bail!("SpadeGenerator: expected 5 to 7 doublings, got {doublings}")
        }
        let mut names = vec![
            (false, "head_0"),
            (true, "G_middle_0"),
            (doublings > 5, "G_middle_1"),
            (true, "up_0"),
            (true, "up_1"),
            (true, "up_2"),
            (true, "up_3"),
        ];
        if doublings == 7 {
            names.push((true, "up_4"));
        }
        let fc = same_conv2d(&vb.pp("fc"), [ANY, ANY], 3, true)?;
        let (mut c_in, labels) = (fc.width(), fc.inputs());
        let mut blocks = Vec::new();
        for (doubles, name) in names {
            let block = Block::new(&vb.pp(name), c_in, labels, config.norm)?;
            c_in = block.conv_1.width();
            blocks.push((doubles, block));
        }
        Ok(Self {
            doublings,
            fc,
            blocks,
            conv_img: same_conv2d(&vb.pp("conv_img"), [3, c_in], 3, true)?,
        })
    }

    /// L, the number of channels of a map.
    pub fn labels(&self) -> usize {
        self.fc.inputs()
    }

    /// The number that the sides of a map must be multiples of.
    pub fn multiple(&self) -> usize {
        1 << self.doublings
    }

    /// The number of pixels around a pixel of the output that it depends on, with [replayed
    /// statistics](NormStats::replay).
    pub fn reach(&self) -> usize {
        // In pixels of the map: 1 for the last convolution; for each block, 2 convolutions at its
        // scale, and 1 where the sides are doubled before it; before the first block, 2
        // convolutions over the map, or fc, and 1 for the reduction of the map.
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

    /// The picture for a map.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self).
    pub fn forward(&self, map: &Tensor) -> Result<Tensor> {
        self.forward_with(map, &mut NormStats::own())
    }

    /// [`forward`](Self::forward) with statistics of the instance norms taken from `stats`; batch
    /// norms use their running ones.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self), and `stats` [replays](NormStats::replay) those of fewer norms or
    /// of other numbers of samples or channels.
    pub fn forward_with(&self, map: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
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
            x = block.forward(&x, map, stats)?;
        }
        self.conv_img.forward(&leaky_relu(&x)?)?.tanh()
    }
}

/// `conv_s(norm_s(x)) + conv_1(act(norm_1(conv_0(act(norm_0(x))))))`, with norms modulated by the map.
/// Where the widths agree, the first term is x.
#[derive(Debug, Clone)]
struct Block {
    norm_0: Spade<Conv>,
    conv_0: Conv,
    norm_1: Spade<Conv>,
    conv_1: Conv,
    shortcut: Option<(Spade<Conv>, Conv)>,
}

impl Block {
    fn new(vb: &VarBuilder, c_in: usize, labels: usize, norm: ParamFreeNorm) -> Result<Self> {
        let spade =
            |name, width, activation| spade(&vb.pp(name), [labels, width], norm, activation);
        let conv_0 = spectral_conv2d(&vb.pp("conv_0"), [ANY, c_in], 3, true)?;
        let middle = conv_0.width();
        let conv_1 = spectral_conv2d(&vb.pp("conv_1"), [ANY, middle], 3, true)?;
        let c_out = conv_1.width();
        let shortcut = if c_in == c_out {
            None
        } else {
            let conv = spectral_conv2d(&vb.pp("conv_s"), [c_out, c_in], 1, false)?;
            Some((spade("norm_s", c_in, Activation::None)?, conv))
        };
        Ok(Self {
            norm_0: spade("norm_0", c_in, LEAKY_RELU)?,
            conv_0,
            norm_1: spade("norm_1", middle, LEAKY_RELU)?,
            conv_1,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, map: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        let around = match &self.shortcut {
            Some((norm, conv)) => conv.forward(&modulate(norm, x, map, stats)?)?,
            None => x.clone(),
        };
        let y = modulate(&self.norm_0, x, map, stats)?;
        let y = self.conv_0.forward(&y)?;
        let y = modulate(&self.norm_1, &y, map, stats)?;
        around + self.conv_1.forward(&y)?
    }
}

/// Loads a norm for `width` channels. The size of its kernels (3x3 as published, 1x1 or 5x5 by an
/// option of the training) and its inner width are read from the weights.
fn spade(
    vb: &VarBuilder,
    [labels, width]: [usize; 2],
    norm: ParamFreeNorm,
    activation: Activation,
) -> Result<Spade<Conv>> {
    let shared = vb
        .pp("mlp_shared.0")
        .get_unchecked_dtype("weight", vb.dtype());
    let (hidden, kernel_size) = match shared.as_ref().map(|weight| weight.dims()) {
        Ok(&[hidden, _, _, kernel]) => (hidden, kernel),
        _ => (ANY, 3),
    };
    if kernel_size.is_multiple_of(2) {
        bail!("SpadeGenerator: expected an odd kernel size, got {kernel_size}")
    }
    let conv = |name, widths| same_conv2d(&vb.pp(name), widths, kernel_size, true);
    let shared = conv("mlp_shared.0", [hidden, labels])?.then_relu();
    let config = nn::SpadeConfig {
        kernel_size,
        hidden: shared.width(),
        // In the pass of the convolution.
        hidden_activation: Activation::None,
        ..nn::SpadeConfig::new(norm)
    };
    let running = if norm == ParamFreeNorm::Batch {
        let vb = vb.pp("param_free_norm");
        // In f32 whatever half type the others have, as the layer keeps them.
        let dtype = acc_dtype(vb.dtype());
        let get = |name| vb.get_with_hints_dtype(width, name, Default::default(), dtype);
        Some((get("running_mean")?, get("running_var")?))
    } else {
        None
    };
    let gamma = conv("mlp_gamma", [width, shared.width()])?;
    let beta = conv("mlp_beta", [width, shared.width()])?;
    let spade = Spade::new(shared, gamma, beta, running, config)?;
    Ok(spade.with_activation(activation))
}

/// The norm of x modulated by the map; an instance norm with the statistics of this pass.
fn modulate(
    spade: &Spade<Conv>,
    x: &Tensor,
    map: &Tensor,
    stats: &mut NormStats,
) -> Result<Tensor> {
    match spade.config().norm {
        ParamFreeNorm::Instance => stats.apply(x, spade.modulation(x, map)?),
        _ => spade.forward(x, map),
    }
}

/// Loads a convolution that may have been trained with spectral norm. Its weight is then
/// `weight_orig` divided by its largest singular value, which is `u^T W v` for the stored vectors.
fn spectral_conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    bias: bool,
) -> Result<Conv> {
    if !vb.contains_tensor("weight_orig") {
        return same_conv2d(vb, [c_out, c_in], kernel, bias);
    }
    let mut weight = named_weight(vb, "weight_orig", [c_out, c_in, kernel, kernel])?;
    let (rows, columns) = (weight.dim(0)?, weight.dim(1)? * kernel * kernel);
    let u = vb.get(rows, "weight_u")?;
    let v = vb.get(columns, "weight_v")?;
    // A blank, which stands for a weight that does not fit, has no elements to divide.
    if weight.elem_count() > 0 {
        let sigma = u.reshape((1, rows))?.matmul(&weight.flatten_from(1)?)?;
        let sigma = sigma.matmul(&v.reshape((columns, 1))?)?;
        weight = weight.broadcast_div(&sigma.reshape((1, 1, 1, 1))?)?;
    }
    same_conv2d_of(vb, weight, bias)
}
