//! Layers with PyTorch's names, defaults and state dicts. As in candle_nn, `new` takes tensors, and a
//! function of the name of the layer takes a `VarBuilder`.

mod adaptive;
mod batch_instance_norm;
mod conditional;
mod group_norm;
mod instance_norm;
mod resize;
mod running;
mod spade;

pub use adaptive::{AdaptiveInstanceNorm, adaptive_instance_norm};
pub use batch_instance_norm::{BatchInstanceNorm, BatchInstanceNormConfig, batch_instance_norm};
pub use conditional::{ConditionalInstanceNorm, StyleTables, conditional_instance_norm};
pub use group_norm::{GroupNorm, group_norm};
pub use instance_norm::{
    InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, InstanceNormConfig,
    instance_norm1d, instance_norm2d, instance_norm3d,
};
pub use spade::{ParamFreeNorm, Spade, SpadeConfig, spade};
