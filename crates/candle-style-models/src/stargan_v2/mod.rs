//! The networks of StarGAN v2.

mod blocks;
mod generator;
mod style;

pub use generator::{StarGanV2Config, StarGanV2Generator};
pub use style::{StarGanV2Mapping, StarGanV2StyleEncoder};

use candle_core::{Result, bail};
use candle_nn::VarBuilder;

/// The networks of StarGAN v2 (Choi et al., [StarGAN v2: Diverse Image Synthesis for Multiple
/// Domains](https://arxiv.org/abs/1912.01865), 2020) that make pictures, as one checkpoint of
/// [clovaai/stargan-v2](https://github.com/clovaai/stargan-v2) holds them: the generator, and the two
/// that make its styles. Their pages have the shapes and errors.
///
/// # Example
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::StarGanV2;
/// use candle_style_models::weights::Weights;
///
/// let device = &Device::Cpu;
/// let weights = Weights::open("100000_nets_ema.ckpt")?.select(StarGanV2::original_name);
/// let networks = weights.build(DType::F32, device, StarGanV2::new)?;
/// // A style of the third domain, which is the wild animals in AFHQ.
/// let z = Tensor::randn(0f32, 1., (1, networks.mapping.latent()), device)?;
/// let style = networks.mapping.forward(&z, &[2])?;
/// let x = Tensor::rand(-1f32, 1., (1, 3, 256, 256), device)?;
/// assert_eq!(networks.generator.forward(&x, &style)?.dims(), x.dims());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StarGanV2 {
    /// Gives a picture a style.
    pub generator: StarGanV2Generator,
    /// Makes a style of a domain from noise.
    pub mapping: StarGanV2Mapping,
    /// Takes the style of a picture of a known domain.
    pub style_encoder: StarGanV2StyleEncoder,
}

/// The most halvings of the sides: a side of 16 bits is more than any network has, and a hostile
/// file with thousands of blocks ends here.
const MAX_HALVINGS: usize = 16;

impl StarGanV2 {
    /// Builds the networks from a checkpoint of `clovaai/stargan-v2` (`generator.from_rgb.weight`,
    /// `mapping_network.shared.0.weight`, `style_encoder.shared.0.weight`, ...). The number of
    /// blocks tells whether the generator has [shortcuts](StarGanV2Config::shortcuts): for pictures
    /// of one size, the generator of faces, which has none, halves the sides once more than that of
    /// animals; and the size follows from the blocks of the style encoder, the same for both.
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it, and the error names it;
    /// or the two networks of styles do not have the same number of domains.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let style_encoder = StarGanV2StyleEncoder::new(vb.pp("style_encoder"))?;
        let mapping = StarGanV2Mapping::new(vb.pp("mapping_network"))?;
        if mapping.domains() != style_encoder.domains() {
            bail!(
                "StarGanV2: expected as many domains in mapping_network as in style_encoder, got {} and {}",
                mapping.domains(),
                style_encoder.domains()
            )
        }
        let shortcuts = !generator::halves_once_more(&vb.pp("generator"), style_encoder.side());
        Ok(Self {
            generator: StarGanV2Generator::new(StarGanV2Config { shortcuts }, vb.pp("generator"))?,
            mapping,
            style_encoder,
        })
    }

    /// Leaves out what these networks do without, the network that finds masks of faces and the
    /// constant filter that goes with them: `None` for their tensors' names, and every other name as
    /// it is. For [`Weights::select`](crate::weights::Weights::select).
    pub fn original_name(name: &str) -> Option<String> {
        let networks = ["generator.", "mapping_network.", "style_encoder."];
        let of_ours = networks.iter().any(|network| name.starts_with(network));
        (of_ours && !name.starts_with("generator.hpf.")).then(|| name.to_string())
    }
}
