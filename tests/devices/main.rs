//! Every test whose body runs on each device that the build has. One binary, since each one with
//! CUDA in it has all of candle's kernels. A part of it:
//!
//!     cargo test --test devices golden::              one file
//!     cargo test --test devices -- --skip ::cuda      what needs no GPU
//!
//! A test that needs a GPU with CUDA ends in `::cuda`, and no other does. The binary runs on another
//! machine too, with `CANDLE_INSTANCE_NORM_GOLDENS` set to a copy of `tests/golden`.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

#[path = "../../examples/stylize/pixels.rs"]
mod pixels;

// How shapes are given to kernels, to show that the table of `accuracy` reaches all of them.
#[allow(dead_code, unused_imports)]
#[path = "../../src/plan/mod.rs"]
mod plan;
#[allow(dead_code)]
#[path = "../../src/shapes.rs"]
mod shapes;
#[allow(dead_code)]
#[path = "../../src/tuning.rs"]
mod tuning;

mod accuracy;
mod adain_style;
#[cfg(feature = "cuda")]
mod backends_agree;
mod calls;
#[cfg(feature = "cuda")]
mod candle_ops;
mod conditional;
mod cyclegan;
mod double_backward;
mod edge_cases;
mod errors;
mod family;
mod family_case;
mod family_golden;
mod golden;
mod grad;
#[cfg(feature = "cuda")]
mod graphs;
mod layers;
mod layouts;
mod microast;
mod overflow;
mod own_process;
mod spade_generator;
mod stargan_v2;
#[cfg(feature = "cuda")]
mod traffic;
mod transformer_net;
