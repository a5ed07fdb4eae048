//! Every test whose body runs on each device that the build has. One binary, since each one with
//! CUDA in it has all of candle's kernels. A part of it:
//!
//!     cargo test --test devices golden::              one file
//!     cargo test --test devices -- --skip ::cuda      what needs no GPU
//!
//! A test that needs a GPU with CUDA ends in `::cuda`, and no other does. The binary runs on another
//! machine too, with `CANDLE_INSTANCE_NORM_GOLDENS` set to a folder with the goldens.

#[macro_use(test_device)]
extern crate testing;

mod common;

// The plans of shapes, to show that the table of `accuracy` reaches all kernels.
use candle_instance_norm::{plan, shapes, tuning};

mod accuracy;
#[cfg(feature = "cuda")]
mod backends_agree;
mod calls;
#[cfg(feature = "cuda")]
mod candle_ops;
mod conditional;
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
mod overflow;
#[cfg(feature = "cuda")]
mod traffic;
