//! The Metal backend: launches of the kernels in `kernels/`, on candle's encoder of the device.
//!
//! What is launched, and on which memory, is decided in plain code for any [`Gpu`](launch::Gpu), so
//! that the tests run the same launches where there is no Metal; `device.rs` alone knows candle's.

mod bwd;
mod call;
#[cfg(feature = "metal")]
mod device;
mod fwd;
// Without Metal it is there for the tests, which do not look at all of it.
#[cfg_attr(not(feature = "metal"), allow(dead_code))]
mod launch;
mod module;
mod parts;
#[cfg(test)]
mod tests;

#[cfg(feature = "metal")]
pub use device::{backward, forward, forward_in_place, stats};
