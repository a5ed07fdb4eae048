//! The generator of StarGAN v2.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};

use super::super::NormStats;
use super::super::conv::Conv;
use super::super::layers::{AffineNorm, LEAKY_RELU, same_conv2d};
use super::super::shapes::ANY;
use super::MAX_HALVINGS;
use super::blocks::{Block, StyledBlock, affine_norm};

/// The number of blocks that keep the size, at the end of the encoder and at the start of the
/// decoder.
const BOTTLENECK: usize = 2;

/// The choices of a [`StarGanV2Generator`] that its weights do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StarGanV2Config {
    /// True if the blocks of the decoder have shortcuts: `w_hpf == 0`, as for the animals of AFHQ. The
    /// network for the faces of CelebA-HQ has none.
    pub shortcuts: bool,
}

/// The generator of StarGAN v2 (Choi et al., [1912.01865](https://arxiv.org/abs/1912.01865)), as
/// `Generator` in [clovaai/stargan-v2](https://github.com/clovaai/stargan-v2), without the masks of
/// faces, which another network finds. [`StarGanV2`](super::StarGanV2) opens it with the networks
/// that make its styles.
///
/// Residual blocks with instance norm encode the picture; blocks with adaptive instance norm decode
/// it: `(1 + gamma) norm(x) + beta`, where a linear layer computes gamma and beta, in this order, from
/// the style (biased variance, eps 1e-5).
///
/// # Shapes
///
/// - x: `(N, 3, H, W)`, RGB from -1 to 1, in the dtype of the weights; `H` and `W` multiples of 2 to
///   the number of halvings
/// - style: `(N, S)`, from [`StarGanV2Mapping`](super::StarGanV2Mapping) or
///   [`StarGanV2StyleEncoder`](super::StarGanV2StyleEncoder)
/// - output: the shape of x, RGB from about -1 to 1, to be clamped
///
/// # Errors
///
/// `forward` fails on another shape, on an x or style whose dtype or device is not that of the
/// weights, and on f64 on Metal, for which candle 0.11 has no convolution.
#[derive(Debug, Clone)]
pub struct StarGanV2Generator {
    from_rgb: Conv,
    encode: Vec<Block>,
    decode: Vec<StyledBlock>,
    to_rgb: (AffineNorm, Conv),
}

impl StarGanV2Generator {
    /// Builds the generator from its state dict (`from_rgb.weight`, ...). The widths and the number
    /// of blocks are read from there.
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it, and the error names it; or
    /// the decoder has not as many blocks as the encoder.
    pub fn new(config: StarGanV2Config, vb: VarBuilder) -> Result<Self> {
        let from_rgb = same_conv2d(&vb.pp("from_rgb"), [ANY, 3], 3, true)?;
        let first = from_rgb.width();
        let (encoders, decoders) = (count(&vb.pp("encode")), count(&vb.pp("decode")));
        let blocks = BOTTLENECK..=BOTTLENECK + MAX_HALVINGS;
        if encoders != decoders || !blocks.contains(&encoders) {
            bail!(
                "StarGanV2: expected as many blocks in encode as in decode, {blocks:?}, got {encoders} and {decoders}"
            )
        }
        let mut c_in = first;
        let mut encode = Vec::new();
        for index in 0..encoders {
            let shrinks = index + BOTTLENECK < encoders;
            let block = Block::new(&vb.pp("encode").pp(index), c_in, shrinks, true)?;
            c_in = block.conv2.width();
            encode.push(block);
        }
        let mut decode = Vec::new();
        for index in 0..decoders {
            let grows = index >= BOTTLENECK;
            let block =
                StyledBlock::new(&vb.pp("decode").pp(index), c_in, grows, config.shortcuts)?;
            c_in = block.conv2.width();
            decode.push(block);
        }
        let to_rgb = vb.pp("to_rgb");
        let norm = affine_norm(&to_rgb.pp(0), c_in)?;
        Ok(Self {
            from_rgb,
            encode,
            decode,
            to_rgb: (norm, same_conv2d(&to_rgb.pp(2), [3, c_in], 1, true)?),
        })
    }

    /// The number that the sides of a picture must be multiples of.
    pub fn multiple(&self) -> usize {
        1 << (self.encode.len() - BOTTLENECK)
    }

    /// The number of pixels around a pixel of the output that it depends on, with [replayed
    /// statistics](NormStats::replay).
    pub fn reach(&self) -> usize {
        // In pixels of the input, with m the multiple: 1 for the first convolution, 4 (m - 1) on
        // the way down (1 and 2 times the scale of a block, and 1 for the pooling), 2 m for each
        // block that keeps the size, 3 (m - 1) on the way up.
        7 * (self.multiple() - 1) + 4 * BOTTLENECK * self.multiple() + 1
    }

    /// The picture x in a style.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self).
    pub fn forward(&self, x: &Tensor, style: &Tensor) -> Result<Tensor> {
        self.forward_with(x, style, &mut NormStats::own())
    }

    /// [`forward`](Self::forward) with statistics taken from `stats`.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self), and `stats` [replays](NormStats::replay) those of fewer norms or
    /// of other numbers of samples or channels.
    pub fn forward_with(
        &self,
        x: &Tensor,
        style: &Tensor,
        stats: &mut NormStats,
    ) -> Result<Tensor> {
        let multiple = self.multiple();
        match *x.dims() {
            [_, 3, h, w] if h * w > 0 && h % multiple == 0 && w % multiple == 0 => {}
            ref dims => bail!(
                "StarGanV2: x must have shape (N, 3, H, W), H and W multiples of {multiple}, got {dims:?}"
            ),
        }
        let mut x = self.from_rgb.forward(x)?;
        for block in &self.encode {
            x = block.forward(&x, stats)?;
        }
        for block in &self.decode {
            x = block.forward(&x, style, stats)?;
        }
        let (norm, conv) = &self.to_rgb;
        conv.forward(&stats.apply(&x, norm.then(LEAKY_RELU))?)
    }
}

/// The number of blocks in a list of them.
fn count(list: &VarBuilder) -> usize {
    let there = |index: &i32| list.contains_tensor(&format!("{index}.conv1.weight"));
    (0..).take_while(there).count()
}

/// True for a generator that halves pictures of this side down to 8, as the one of faces does, whose
/// decoder has no shortcuts; the one of animals halves them down to 16.
pub(super) fn halves_once_more(vb: &VarBuilder, side: usize) -> bool {
    count(&vb.pp("encode")).checked_sub(BOTTLENECK + 1)
        == (side / 16).checked_ilog2().map(|n| n as usize)
}
