//! Launching a kernel: which handle, on which stream, with which arguments.

use super::module::{Kernel, Kernels};
use crate::plan::{GpuPlan, Pass, Tier};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaStream, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, CudaStorage, DType, Result};
use std::sync::Arc;

/// Where a call runs, and on which dtype.
pub struct Gpu<'a> {
    pub device: &'a CudaDevice,
    pub stream: Arc<CudaStream>,
    pub dtype: DType,
    pub kernels: Arc<Kernels>,
}

impl<'a> Gpu<'a> {
    /// The device and dtype of `x`.
    pub fn of(x: &'a CudaStorage) -> Result<Self> {
        let device = x.device();
        Ok(Self {
            device,
            stream: device.cuda_stream(),
            dtype: x.dtype(),
            kernels: Kernels::of(device)?,
        })
    }

    /// Launches `kernel` for the tensor's dtype.
    ///
    /// # Safety
    ///
    /// `args` are the kernel's, in number, order and layout; every pointer among them is live and
    /// holds what the kernel accesses with this many blocks and threads.
    pub unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: u32,
        threads: usize,
        args: &[Arg],
    ) -> Result<()> {
        let function = self.kernels.function(kernel, self.dtype)?;
        let mut launch = self.stream.launch_builder(&function);
        for arg in args {
            arg.push(&mut launch);
        }
        let config = LaunchConfig {
            grid_dim: (grid, 1, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: promised by the caller.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }

    /// [`launch`](Self::launch) with the blocks and threads of a plan.
    ///
    /// # Safety
    ///
    /// As `launch`.
    pub unsafe fn run(&self, kernel: Kernel, plan: &GpuPlan, args: &[Arg]) -> Result<()> {
        // SAFETY: promised by the caller.
        unsafe { self.launch(kernel, plan.grid, plan.threads as usize, args) }
    }
}

/// The kernel that writes the results of a pass.
pub fn writer(pass: Pass, tier: Tier) -> Kernel {
    match tier {
        Tier::Warp { vectors } => Kernel::Warp(pass, vectors),
        Tier::Block { vectors } => Kernel::Block(pass, vectors),
        Tier::Split { .. } => Kernel::SplitWrite(pass),
    }
}

/// An argument of a kernel, whatever its type.
pub type Arg<'a> = &'a dyn Argument;

/// What can be one.
pub trait Argument {
    fn push<'a>(&'a self, launch: &mut LaunchArgs<'a>);
}

impl<T: DeviceRepr> Argument for T {
    fn push<'a>(&'a self, launch: &mut LaunchArgs<'a>) {
        launch.arg(self);
    }
}
