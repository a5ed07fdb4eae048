//! The ops: validation, the choice of backend, and candle's custom-op traits.

mod adain;
mod adaptive;
mod batch_instance_norm;
mod carrier;
mod conditional;
mod custom_op;
mod double_backward;
mod group_norm;
mod instance_norm;
mod norm_op;
mod normalization;
mod off_graph;
mod passes;
mod reference;
mod stats;

pub use adain::{AdaInConfig, adain, adain_mix};
pub use adaptive::{AdaptiveConfig, StyleOrder, StyleSlices, adaptive_instance_norm};
pub use batch_instance_norm::batch_instance_norm;
pub use conditional::{conditional_instance_norm, conditional_instance_norm_mix};
pub use group_norm::group_norm;
pub use instance_norm::{
    instance_norm, instance_norm_backward, instance_norm_with_stats, instance_stats,
};
pub use normalization::Normalization;
pub use passes::NormGrads;
pub use stats::PlaneStats;

/// Parts of the ops that the layers combine anew.
#[cfg(feature = "nn")]
pub(crate) use {
    batch_instance_norm::{BatchMoments, gated},
    conditional::{by_ids, by_weights},
    reference::activate,
    stats::plane_stats,
};
