//! Networks around instance normalization, which load the state dicts that their authors published.
//!
//! | network | input | from | output | styles |
//! |---|---|---|---|---|
//! | [`TransformerNet`], fast neural style | a picture | 0 to 255 | about 0 to 255 | its weights |
//! | [`ResnetGenerator`], CycleGAN and pix2pix | a picture | -1 to 1 | -1 to 1 | its weights |
//! | [`AdaInStyle`] | a picture | 0 to 1 | about 0 to 1 | pictures |
//! | [`MicroAst`] | a picture | 0 to 1 | about 0 to 1 | pictures |
//! | [`StarGanV2`] | a picture | -1 to 1 | about -1 to 1 | a domain, and noise or pictures |
//! | [`SpadeGenerator`], GauGAN | a map of labels | one-hot | -1 to 1 | its weights |
//!
//! Pictures are `(N, 3, H, W)`, RGB; the page of a network has the sides that it takes. The networks
//! compute in the dtype of their weights: f32, f16, bf16 or f64 (not on Metal). On the CPU convolutions
//! are passes of this crate, in every dtype and with every gradient; on GPUs they are candle's.
//!
//! # A network in your own program
//!
//! It takes any `VarBuilder` with its tensors:
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
//! A larger network that contains one of these passes `vb.pp("generator")`. A `VarMap` can make the
//! variables only where the widths are known, as in [`TransformerNet::with_config`]; the others read
//! their widths from the weights. All networks are differentiable, with respect to the picture and
//! to the weights, and run wherever candle has convolutions: on the CPU, on CUDA and on Metal.
//!
//! [`Weights`](crate::weights::Weights) builds the same networks from `.pth` files of any age, from
//! folders and from the Hugging Face Hub, and lists everything that does not fit in one error:
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
//! Pictures larger than memory are processed in tiles; see [`NormStats`].

#![cfg_attr(docsrs, feature(doc_cfg))]

mod adain_style;
mod conv;
mod layers;
mod microast;
mod norm_stats;
mod padding;
mod resample;
mod resnet_generator;
mod shapes;
mod spade_generator;
mod stargan_v2;
mod transformer_net;
pub mod weights;

pub use adain_style::{AdaInStyle, AdaInStyleStats};
pub use microast::{MicroAst, MicroAstStyle};
pub use norm_stats::NormStats;
pub use padding::reflection_pad2d;
pub use resnet_generator::ResnetGenerator;
pub use spade_generator::{SpadeGenerator, SpadeGeneratorConfig};
pub use stargan_v2::{
    StarGanV2, StarGanV2Config, StarGanV2Generator, StarGanV2Mapping, StarGanV2StyleEncoder,
};
pub use transformer_net::{TransformerNet, TransformerNetConfig};

/// Tests the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
