//! Networks built around instance normalization, loading the state dicts their authors published.

mod layers;
mod microast;
mod norms;
mod padding;
mod resnet_generator;
mod upsample;

pub use microast::{MicroAst, MicroAstStyle};
pub use norms::Norms;
pub use padding::reflection_pad2d;
pub use resnet_generator::ResnetGenerator;
