//! Fused instance normalization for candle.

mod args;
mod cpu;
pub mod models;
mod ops;
mod plan;
mod shapes;

pub use ops::{instance_norm, instance_norm_backward, InstanceNormGrads};
