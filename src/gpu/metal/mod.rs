//! The Metal backend: launches on candle's encoder of the device.

#[cfg(feature = "metal")]
mod device;
mod module;
#[cfg(test)]
mod tests;

#[cfg(feature = "metal")]
pub use device::{adain, backward, forward, forward_in_place, stats};
