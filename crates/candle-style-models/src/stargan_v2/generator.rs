//! The generator of StarGAN v2.

use candle_core::{bail, Result, Tensor};
use candle_nn::{Conv2d, Module, VarBuilder};

use super::super::layers::{same_conv2d, ANY};
use super::super::Norms;
use super::blocks::{width, Affine, Block, StyledBlock};
use super::MAX_HALVINGS;

/// The last blocks of the encoder, and the first of the decoder, that keep the size.
const BOTTLENECK: usize = 2;

/// What does not follow from the weights of a [`StarGanV2Generator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StarGanV2Config {
    /// Whether the decoder's blocks have shortcuts: `w_hpf == 0`, as for the animals of AFHQ. The
    /// faces of CelebA-HQ have none.
    pub shortcuts: bool,
}

/// The generator of StarGAN v2 (Choi et al., "StarGAN v2: Diverse Image Synthesis for Multiple
/// Domains", 2020), as `Generator` in `clovaai/stargan-v2`, without the masks of faces, which
/// another network finds.
///
/// Residual blocks with instance norm take the picture apart; blocks with adaptive instance norm
/// put it together again: `(1 + gamma) norm(x) + beta`, with gamma and beta from the style, in this
/// order, by a linear layer (biased variance, eps 1e-5).
///
/// # Shapes
///
/// - x: `(N, 3, H, W)`, RGB in `[-1, 1]`, `H` and `W` multiples of 2 to the number of halvings
/// - style: `(N, S)`, of [`StarGanV2Mapping`](super::StarGanV2Mapping) or
///   [`StarGanV2StyleEncoder`](super::StarGanV2StyleEncoder)
/// - result: the shape of x, about `[-1, 1]`
///
/// # Errors
///
/// Another shape, and what candle says of dtype and device.
///
/// [`StarGanV2`](super::StarGanV2) opens it with the networks that make its styles.
#[derive(Debug, Clone)]
pub struct StarGanV2Generator {
    from_rgb: Conv2d,
    encode: Vec<Block>,
    decode: Vec<StyledBlock>,
    to_rgb: (Affine, Conv2d),
}

impl StarGanV2Generator {
    /// Builds the generator from its state dict (`from_rgb.weight`, ...); widths and the number of
    /// blocks follow from it.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or its shape does not fit the layer before it; the error names it.
    pub fn new(config: StarGanV2Config, vb: VarBuilder) -> Result<Self> {
        let from_rgb = same_conv2d(&vb.pp("from_rgb"), [ANY, 3], 3, true)?;
        let first = width(&from_rgb);
        let (encoders, decoders) = (count(&vb.pp("encode")), count(&vb.pp("decode")));
        let blocks = BOTTLENECK..=BOTTLENECK + MAX_HALVINGS;
        if encoders != decoders || !blocks.contains(&encoders) {
            bail!("StarGanV2: expected as many blocks in encode as in decode, {blocks:?}, got {encoders} and {decoders}")
        }
        let mut c_in = first;
        let mut encode = Vec::new();
        for index in 0..encoders {
            let shrinks = index + BOTTLENECK < encoders;
            let block = Block::new(&vb.pp("encode").pp(index), c_in, shrinks, true)?;
            c_in = width(&block.conv2);
            encode.push(block);
        }
        let mut decode = Vec::new();
        for index in 0..decoders {
            let grows = index >= BOTTLENECK;
            let block =
                StyledBlock::new(&vb.pp("decode").pp(index), c_in, grows, config.shortcuts)?;
            c_in = width(&block.conv2);
            decode.push(block);
        }
        let to_rgb = vb.pp("to_rgb");
        let norm = Affine::new(&to_rgb.pp(0), c_in)?;
        Ok(Self {
            from_rgb,
            encode,
            decode,
            to_rgb: (norm, same_conv2d(&to_rgb.pp(2), [3, c_in], 1, true)?),
        })
    }

    /// What the sides of a picture must be multiples of.
    pub fn multiple(&self) -> usize {
        1 << (self.encode.len() - BOTTLENECK)
    }

    /// How many pixels around it a pixel of the output depends on, where the statistics of the
    /// norms are given.
    pub fn reach(&self) -> usize {
        // In pixels of the input, with m the multiple: 1 for the first convolution, 4 (m - 1) on
        // the way down (1 and 2 times the scale of a block, and 1 for the pooling), 2 m for each
        // block that keeps the size, 3 (m - 1) on the way up.
        7 * (self.multiple() - 1) + 4 * BOTTLENECK * self.multiple() + 1
    }

    /// The picture in a style; see the [struct](Self) for shapes and errors.
    pub fn forward(&self, x: &Tensor, style: &Tensor) -> Result<Tensor> {
        self.forward_with(x, style, &mut Norms::own())
    }

    /// [`forward`](Self::forward) with the statistics that `norms` says.
    pub fn forward_with(&self, x: &Tensor, style: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let multiple = self.multiple();
        match *x.dims() {
            [_, 3, h, w] if h * w > 0 && h % multiple == 0 && w % multiple == 0 => {}
            ref dims => bail!(
                "StarGanV2: x must have shape (N, 3, H, W), H and W multiples of {multiple}, got {dims:?}"
            ),
        }
        let mut x = self.from_rgb.forward(x)?;
        for block in &self.encode {
            x = block.forward(&x, norms)?;
        }
        for block in &self.decode {
            x = block.forward(&x, style, norms)?;
        }
        let (norm, conv) = &self.to_rgb;
        conv.forward(&norm.forward(&x, norms)?)
    }
}

/// The number of blocks in a list of them.
fn count(list: &VarBuilder) -> usize {
    let there = |index: &i32| list.contains_tensor(&format!("{index}.conv1.weight"));
    (0..).take_while(there).count()
}

/// Whether a generator for pictures of this side halves it once more than down to 16: the one of
/// faces, whose decoder has no shortcuts.
pub(super) fn halves_once_more(vb: &VarBuilder, side: usize) -> bool {
    count(&vb.pp("encode")).checked_sub(BOTTLENECK + 1)
        == (side / 16).checked_ilog2().map(|n| n as usize)
}
