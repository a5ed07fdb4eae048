//! Fused instance normalization for candle.

mod args;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod models;
pub mod nn;
mod ops;
mod plan;
mod shapes;
mod tuning;

pub use ops::{instance_norm, instance_norm_backward, InstanceNormGrads};
