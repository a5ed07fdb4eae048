//! Networks built around instance normalization, loading the state dicts their authors published.

mod layers;
mod norms;
mod padding;
mod resnet_generator;

pub use norms::Norms;
pub use padding::reflection_pad2d;
pub use resnet_generator::ResnetGenerator;
