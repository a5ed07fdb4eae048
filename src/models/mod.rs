//! Networks built around instance normalization, loading the state dicts their authors published.

mod layers;
mod padding;
mod resnet_generator;
mod transformer_net;

pub use padding::reflection_pad2d;
pub use resnet_generator::ResnetGenerator;
pub use transformer_net::{TransformerNet, TransformerNetConfig};
