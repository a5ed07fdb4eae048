//! The ops: validation, the choice of backend, and candle's custom-op traits.

mod adain;
mod call;
mod composed;
mod computed;
mod custom;
mod group_norm;
mod instance_norm;
mod normalization;
mod stats;

pub use adain::{adain, adain_mix, AdaInConfig};
pub use group_norm::group_norm;
pub use instance_norm::{
    instance_norm, instance_norm_backward, instance_norm_with_stats, InstanceNormGrads,
};
pub use normalization::{NormGrads, Normalization};
pub use stats::instance_stats;
pub(crate) use stats::plane_stats;
