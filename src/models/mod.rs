//! Networks built around instance normalization, loading the state dicts their authors published.

mod adain_style;
mod conv;
mod layers;
mod microast;
mod norms;
mod padding;
mod resample;
mod resnet_generator;
mod spade_generator;
mod stargan_v2;
mod transformer_net;

pub use adain_style::{AdaInStyle, AdaInStyleStats};
pub use microast::{MicroAst, MicroAstStyle};
pub use norms::Norms;
pub use padding::reflection_pad2d;
pub use resnet_generator::ResnetGenerator;
pub use spade_generator::{SpadeConfig, SpadeGenerator};
pub use stargan_v2::{
    StarGanV2, StarGanV2Config, StarGanV2Generator, StarGanV2Mapping, StarGanV2StyleEncoder,
};
pub use transformer_net::{TransformerNet, TransformerNetConfig};
