//! The networks against PyTorch, on each device that the build has, and the checkpoints that they
//! load. A part of it:
//!
//!     cargo test --test networks cyclegan::            one file
//!     cargo test --test networks -- --skip ::cuda      what needs no GPU
//!
//! A test that needs a GPU with CUDA ends in `::cuda`, and no other does. The binary runs on another
//! machine too, with `CANDLE_INSTANCE_NORM_GOLDENS` set to a folder with the goldens.

#[macro_use(test_device)]
extern crate testing;

mod common;

mod adain_style;
mod cyclegan;
mod half_types;
#[cfg(feature = "hub")]
mod hub;
mod microast;
mod spade_generator;
mod stargan_v2;
mod transformer_net;
#[cfg(feature = "pth")]
mod weights;
