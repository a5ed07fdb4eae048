//! Launching a kernel: which handle, on which stream, with which arguments.

use super::call::{is_aligned, CallArg};
use super::module::Kernels;
use crate::plan::{GpuPlan, Job, Kernel, Pass, Step, Tier};
use crate::spec::NormSpec;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    sys, CudaStream, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result};
use std::sync::Arc;

/// Where a call runs, and on which dtype.
pub struct Gpu<'a> {
    pub device: &'a CudaDevice,
    pub stream: Arc<CudaStream>,
    pub dtype: DType,
    kernels: Arc<Kernels>,
}

impl<'a> Gpu<'a> {
    pub fn new(device: &'a CudaDevice, dtype: DType) -> Result<Self> {
        Ok(Self {
            device,
            stream: device.cuda_stream(),
            dtype,
            kernels: Kernels::of(device)?,
        })
    }

    /// The device and dtype of `x`.
    pub fn of(x: &'a CudaStorage) -> Result<Self> {
        Self::new(x.device(), x.dtype())
    }

    /// What is planned for an x that starts at an address.
    fn job(&self, pass: Pass, spec: &NormSpec, (call, layout): Start, given: bool) -> Job {
        Job {
            pass,
            planes: spec.planes,
            format: spec.format,
            group: spec.channels_per_group,
            given,
            element: self.dtype.size_in_bytes(),
            aligned: is_aligned(call.x.data, layout, self.dtype),
            sets_on_chip: call.planes_are_adjacent(),
            plain: call.is_plain(),
        }
    }

    pub fn plan(&self, pass: Pass, spec: &NormSpec, x: Start, given: bool) -> Result<GpuPlan> {
        GpuPlan::new(&self.job(pass, spec, x, given), self.kernels.caps)
    }

    /// Launches `kernel` for the tensor's dtype, that for `plain` calls or that for all.
    ///
    /// # Safety
    ///
    /// `args` are the kernel's, in number, order and layout; every pointer among them is live and
    /// holds what the kernel accesses with this many blocks and threads.
    pub unsafe fn launch(
        &self,
        kernel: Kernel,
        plain: bool,
        (grid, threads): (u32, u32),
        args: &[Arg],
    ) -> Result<()> {
        let function = self.kernels.function(kernel, plain, self.dtype)?;
        let mut launch = self.stream.launch_builder(&function);
        for arg in args {
            arg.push(&mut launch);
        }
        let config = LaunchConfig {
            grid_dim: (grid, 1, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: promised by the caller.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }

    /// Launches the one kernel of a plan that keeps planes on chip.
    ///
    /// # Safety
    ///
    /// Every pointer of `call` is live and holds what the kernel accesses for this plan.
    pub unsafe fn launch_on_chip(&self, pass: Pass, plan: &GpuPlan, call: &CallArg) -> Result<()> {
        let kernel = Kernel::of(plan.tier, pass, Step::Write);
        let (Tier::Cluster { blocks }
        | Tier::Sets {
            blocks: blocks @ 2..,
        }) = plan.tier
        else {
            let size = (plan.grid, plan.threads);
            // SAFETY: promised by the caller; these kernels take a call and nothing else.
            return unsafe { self.launch(kernel, call.is_plain(), size, &[call]) };
        };
        let function = self.kernels.function(kernel, call.is_plain(), self.dtype)?;
        let dimension = sys::CUlaunchAttributeValue_union__bindgen_ty_1 {
            x: blocks as u32,
            y: 1,
            z: 1,
        };
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue {
                clusterDim: dimension,
            },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: plan.grid,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: plan.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: self.stream.cu_stream(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        let mut params = [std::ptr::from_ref(call).cast_mut().cast()];
        self.stream.context().bind_to_thread().w()?;
        // SAFETY: promised by the caller; the config, its attribute and the one argument live until
        // the call returns, which copies them. cudarc has no launch with clusters.
        let result = unsafe {
            sys::cuLaunchKernelEx(
                &config,
                function.cu_function(),
                params.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        result.result().w()
    }
}

/// A call, and how its x lies.
pub type Start<'a> = (&'a CallArg, &'a Layout);

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
