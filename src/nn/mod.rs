//! Layers with PyTorch's names, defaults and state dicts.

mod instance_norm;

pub use instance_norm::{
    instance_norm1d, instance_norm2d, instance_norm3d, InstanceNorm, InstanceNorm1d,
    InstanceNorm2d, InstanceNorm3d, InstanceNormConfig,
};
