//! candle's CUDA device: its memory, and launches on its stream.

use super::arguments::{behind, both_to_addresses, sum_bytes, to_addresses};
use super::memory::{self, Pointer};
use super::module::Kernels;
use crate::gpu::abi::ParamSum;
use crate::gpu::launch::{Access, Arg, Bound, Launch, Size, Slot};
use crate::gpu::{Gpu, adain, bwd, fwd};
use crate::plan::Caps;
use crate::spec::{Extras, GradMask, Gradients, NormSpec, ScaleStat, View};
use crate::tuning::{MAX_PARAMS, PARAM_SUMS_BYTES, VECTOR_BYTES};
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaStream, sys};
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape};
use std::ffi::c_void;
use std::sync::Arc;

crate::gpu::entries!(CudaStorage, Cuda::of);

/// The device of a call.
struct Cuda {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    kernels: Arc<Kernels>,
}

/// `ParamSums` of finish.cu.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ParamSums {
    of: [ParamSum; MAX_PARAMS],
    blocks: i32,
}

const _: () = assert!(size_of::<ParamSums>() == PARAM_SUMS_BYTES);

impl Cuda {
    /// The device of `x`.
    fn of(x: &CudaStorage) -> Result<Self> {
        Ok(Self {
            device: x.device().clone(),
            stream: x.device().cuda_stream(),
            kernels: Kernels::of(x.device())?,
        })
    }

    /// The address of a storage, which the launch reads or writes for as long as this is held.
    fn pointer<'a>(&'a self, bound: Bound<'a, CudaStorage>) -> Result<Pointer<'a>> {
        match bound.storage {
            Access::Read(storage) => memory::read(storage, &self.stream),
            Access::Write(storage) => memory::write(storage, &self.stream),
        }
    }

    /// # Safety
    ///
    /// `args` point to the kernel's arguments, in number, order and layout; every address among these
    /// is that of memory which holds what the kernel accesses in this grid, for as long as it runs.
    unsafe fn launch_kernel(
        &self,
        function: &CudaFunction,
        size: Size,
        args: &mut [*mut c_void],
    ) -> Result<()> {
        let blocks = sys::CUlaunchAttributeValue_union__bindgen_ty_1 {
            x: size.cluster,
            y: 1,
            z: 1,
        };
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { clusterDim: blocks },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: size.grid,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: size.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: size.shared,
            hStream: self.stream.cu_stream(),
            attrs: &mut attribute,
            numAttrs: (size.cluster > 1) as u32,
        };
        self.stream.context().bind_to_thread().w()?;
        // SAFETY: promised by the caller; the config, its attribute and the arguments live until the
        // call returns, which copies them. cudarc has no launch with clusters.
        let result = unsafe {
            let none = std::ptr::null_mut();
            sys::cuLaunchKernelEx(&config, function.cu_function(), args.as_mut_ptr(), none)
        };
        result.result().w()
    }
}

impl Gpu for Cuda {
    type Storage = CudaStorage;
    type Real = f64;

    const SUMS_PER_LAUNCH: usize = MAX_PARAMS;

    fn dtype(storage: &CudaStorage) -> DType {
        storage.dtype()
    }

    fn caps(&self) -> Caps {
        self.kernels.caps
    }

    /// A storage may wrap memory that somebody else allocated.
    fn misalignment(&self, storage: &CudaStorage) -> Result<usize> {
        let address = memory::read(storage, &self.stream)?.address;
        Ok(address as usize % VECTOR_BYTES)
    }

    fn alloc(&self, dtype: DType, len: usize) -> Result<CudaStorage> {
        memory::alloc(&self.device, dtype, len)
    }

    fn zeros(&self, dtype: DType, len: usize) -> Result<CudaStorage> {
        self.device.zeros_impl(&Shape::from(len), dtype)
    }

    unsafe fn launch(&self, launch: Launch<Self>) -> Result<()> {
        let Launch {
            kernel,
            plain,
            dtype,
            size,
            mut arg,
            mut chunks,
            buffers,
            workspace,
        } = launch;
        let function = self.kernels.function(kernel, plain, dtype)?;
        let slots: Vec<u32> = buffers.iter().map(|bound| bound.slots).collect();
        let pointers = buffers.into_iter().map(|bound| self.pointer(bound));
        // Held until the launch is on its stream.
        let pointers = pointers.collect::<Result<Vec<_>>>()?;
        let number = sum_bytes(dtype.size_in_bytes());
        let address = |slot: Slot| {
            let at = slots.iter().position(|slots| slots & slot.bit() != 0);
            let offset = workspace.offset(slot, number) as u64;
            at.map_or(0, |at| pointers[at].address + offset)
        };
        match &mut arg {
            Arg::Call(call) => {
                to_addresses(call, dtype.size_in_bytes(), address);
                let mut behind = behind(kernel, address);
                // The kernels have numbers of the type of their sums.
                let mut narrow = call.with::<f32>();
                let call = match dtype {
                    DType::F64 => as_arg(call),
                    _ => as_arg(&mut narrow),
                };
                let mut args = vec![call, as_arg(&mut chunks)];
                args.extend(behind.iter_mut().map(as_arg));
                // SAFETY: promised by the caller; a kernel takes a call, those of strips and of several passes then
                // chunks and the addresses `behind`, and none reads more arguments than it has.
                unsafe { self.launch_kernel(&function, size, &mut args) }
            }
            Arg::AdaIn(calls) => {
                both_to_addresses(calls, dtype.size_in_bytes(), address);
                let mut narrow = calls.each_ref().map(|call| call.with::<f32>());
                let mut args = match dtype {
                    DType::F64 => calls.each_mut().map(as_arg),
                    _ => narrow.each_mut().map(as_arg),
                };
                // SAFETY: promised by the caller; the kernel takes two calls.
                unsafe { self.launch_kernel(&function, size, &mut args) }
            }
            Arg::Sums(sums) => {
                let mut arg = ParamSums {
                    blocks: size.grid as i32 / sums.len() as i32,
                    ..Default::default()
                };
                for ((of, sum), pointers) in arg.of.iter_mut().zip(sums).zip(pointers.chunks(2)) {
                    *of = ParamSum {
                        shares: pointers[0].address + sum.shares * number as u64,
                        out: pointers[1].address,
                        ..*sum
                    };
                }
                // SAFETY: promised by the caller; the kernel takes this struct alone.
                unsafe { self.launch_kernel(&function, size, &mut [as_arg(&mut arg)]) }
            }
        }
    }
}

fn as_arg<T>(arg: &mut T) -> *mut c_void {
    std::ptr::from_mut(arg).cast()
}
