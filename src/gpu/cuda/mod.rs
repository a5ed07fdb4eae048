//! The CUDA backend: launches on the stream of the tensor's device.

mod arguments;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod memory;
#[cfg(feature = "cuda")]
mod module;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub use device::{adain, backward, forward, forward_in_place, stats};
