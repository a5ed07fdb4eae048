//! Networks built around instance normalization, loading the state dicts their authors published.
//!
//! | network | takes | in | out | styles from |
//! |---|---|---|---|---|
//! | [`TransformerNet`], fast neural style | a picture | 0 to 255 | about 0 to 255 | its weights |
//! | [`ResnetGenerator`], CycleGAN and pix2pix | a picture | -1 to 1 | -1 to 1 | its weights |
//! | [`AdaInStyle`] | a picture | 0 to 1 | about 0 to 1 | pictures |
//! | [`MicroAst`] | a picture | 0 to 1 | about 0 to 1 | pictures |
//! | [`StarGanV2`] | a picture | -1 to 1 | about -1 to 1 | a domain, and noise or pictures |
//! | [`SpadeGenerator`], GauGAN | a map of labels | one-hot | -1 to 1 | its weights |
//!
//! Pictures are `(N, 3, H, W)`, RGB. What a network needs of the sides, its page says.
//!
//! # Use it in your own pipeline
//!
//! From a `VarBuilder`, wherever that has its tensors, to a picture in five lines:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_style_models::TransformerNet;
//! use candle_nn::{Module, VarBuilder};
//!
//! let (files, device) = (["../stylize/default.safetensors"], Device::Cpu);
//! // SAFETY: nobody changes the file meanwhile.
//! let vb = unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &device)? };
//! let network = TransformerNet::new(vb)?;
//! let x = Tensor::rand(0f32, 255., (1, 3, 64, 48), &device)?;
//! let y = network.forward(&x)?.clamp(0f32, 255f32)?.to_dtype(DType::U8)?;
//! assert_eq!(y.dims(), [1, 3, 64, 48]);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! A network of yours that has one of these in it passes `vb.pp("generator")`. A `VarMap` makes the
//! variables of a new one only where the widths are known, as in `TransformerNet::with_config`; the
//! others read their widths from the weights. All of them are differentiable, in the picture and in
//! the weights, and run wherever candle has convolutions: on the CPU, on CUDA and on Metal.
//!
//! [`Weights`](crate::weights::Weights) builds the same networks from `.pth` files of any age, from
//! folders and from the Hugging Face Hub, and tells everything that does not fit in one error:
//!
//! ```no_run
//! # use candle_core::{DType, Device};
//! use candle_style_models::{weights::Weights, ResnetGenerator};
//!
//! let weights = Weights::open("latest_net_G.pth")?;
//! let network = weights.build(DType::F16, &Device::new_cuda(0)?, ResnetGenerator::new)?;
//! # let _ = network; Ok::<(), candle_core::Error>(())
//! ```
//!
//! Pictures larger than memory go in tiles; see [`Norms`].

mod adain_style;
mod conv;
mod layers;
mod microast;
mod norms;
mod padding;
mod resample;
mod resnet_generator;
mod spade_generator;
mod stargan_v2;
mod transformer_net;
pub mod weights;

pub use adain_style::{AdaInStyle, AdaInStyleStats};
pub use microast::{MicroAst, MicroAstStyle};
pub use norms::Norms;
pub use padding::reflection_pad2d;
pub use resnet_generator::ResnetGenerator;
pub use spade_generator::{SpadeConfig, SpadeGenerator};
pub use stargan_v2::{
    StarGanV2, StarGanV2Config, StarGanV2Generator, StarGanV2Mapping, StarGanV2StyleEncoder,
};
pub use transformer_net::{TransformerNet, TransformerNetConfig};

/// The README's code is tested with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
