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

pub use adaptive::{adaptive_instance_norm, AdaptiveInstanceNorm};
pub use batch_instance_norm::{batch_instance_norm, BatchInstanceNorm, BatchInstanceNormConfig};
pub use conditional::{conditional_instance_norm, ConditionalInstanceNorm, StyleTables};
pub use group_norm::{group_norm, GroupNorm};
pub use instance_norm::{
    instance_norm1d, instance_norm2d, instance_norm3d, InstanceNorm, InstanceNorm1d,
    InstanceNorm2d, InstanceNorm3d, InstanceNormConfig,
};
pub use spade::{spade, ParamFreeNorm, Spade, SpadeConfig};
