//! Fused instance normalization for [candle](https://github.com/huggingface/candle).
//!
//! ```text
//! y = (x - mean) / sqrt(var + eps) * weight + bias
//! ```
//!
//! with the mean and the biased variance of each sample and channel: what style transfer,
//! image-to-image and medical-imaging networks do after every convolution.
//!
//! - [`instance_norm`] is the op, [`instance_norm_backward`] its gradients; both are one pass over
//!   memory where a plane fits on chip, on the CPU and, with the features `cuda` and `metal`, on
//!   NVIDIA and Apple GPUs. Metal has no f64, which is an error there, and no Apple machine has run
//!   these kernels yet: they are type-checked and executed on Linux, as the README says.
//! - `nn` has the layers, with PyTorch's names, defaults and state dicts. It is the default feature
//!   `nn`; without it the ops need candle-core alone.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use candle_instance_norm::instance_norm;
//!
//! let x = Var::randn(0f32, 1., (1, 3, 8, 8), &Device::Cpu)?;
//! let weight = Var::ones(3, candle_core::DType::F32, &Device::Cpu)?;
//! let y = instance_norm(&x, Some(&weight), None, 1e-5)?;
//! let grads = y.sqr()?.sum_all()?.backward()?;
//! assert_eq!(grads.get(&weight).unwrap().dims(), [3]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod cpu;
#[cfg(any(feature = "cuda", feature = "metal", test))]
mod gpu;
#[cfg(feature = "nn")]
pub mod nn;
mod ops;
mod spec;
// Public for the tests, which show that their table of shapes reaches every kernel; no part of the API.
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod shapes;
#[doc(hidden)]
pub mod tuning;

#[cfg(feature = "cuda")]
use gpu::cuda;
#[cfg(feature = "metal")]
use gpu::metal;

pub use ops::{
    AdaInConfig, AdaptiveConfig, NormGrads, Normalization, PlaneStats, StyleOrder, StyleSlices,
    adain, adain_mix, adaptive_instance_norm, batch_instance_norm, conditional_instance_norm,
    conditional_instance_norm_mix, group_norm, instance_norm, instance_norm_backward,
    instance_norm_with_stats, instance_stats,
};
pub use spec::{Activation, EpsMode};

/// The README's code is tested with the documentation's.
#[cfg(all(doctest, feature = "nn"))]
#[doc = include_str!("../README.md")]
struct Readme;
