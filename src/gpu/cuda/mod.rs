//! The CUDA backend: launches on the stream of the tensor's device.

mod device;
mod memory;
mod module;

use super::{bwd, fwd};
use crate::spec::{Extras, GradMask, Gradients, NormSpec, ScaleStat, View};
use candle_core::{CudaStorage, Layout, Result};
use device::Cuda;

super::entries!(CudaStorage, Cuda::of);
