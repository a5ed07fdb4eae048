//! How a call is cut into work, as plain data: decided from the shape alone, without a device.

mod cpu;
// Without a GPU backend only the tests below use it, on purpose.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, unused_imports))]
mod gpu;

pub use cpu::{CpuPlan, GROUP, SEGMENT};
#[cfg_attr(not(feature = "cuda"), allow(unused_imports))]
pub use gpu::{Cut, GpuPlan, Job, Pass, Tier};
