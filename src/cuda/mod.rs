//! The CUDA backend: launches of the kernels in `kernels/`, on the stream of the tensor's device.
//!
//! Nothing here waits for the device, copies to it, or looks anything up by name after the first
//! call; the launches are those that [`GpuPlan`](crate::plan::GpuPlan) names.

mod bwd;
mod call;
mod fwd;
mod launch;
mod memory;
mod module;
mod params;
mod parts;

pub use bwd::backward;
pub use fwd::{forward, forward_in_place, stats};
