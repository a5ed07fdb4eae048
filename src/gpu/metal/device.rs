//! candle's Metal device: its memory, its encoder, and the compiled kernels of each GPU.

use super::module::{element, source};
use crate::gpu::bytes::arguments;
use crate::gpu::launch::{Launch, Slot};
use crate::gpu::{Gpu, adain, bwd, fwd};
use crate::plan::{Caps, Kernel, Without};
use crate::spec::{Extras, GradMask, Gradients, NormSpec, ScaleStat, View};
use crate::tuning::WARP;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{DType, Error, Layout, MetalDevice, MetalStorage, Result, Shape, bail};
use candle_metal_kernels::metal::{ComputePipeline, Library, MetalDeviceType};
use objc2_metal::{MTLCompileOptions, MTLComputePipelineState, MTLSize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

crate::gpu::entries!(MetalStorage, Metal::of);

/// The device of a call.
struct Metal {
    device: MetalDevice,
    kernels: Arc<Kernels>,
}

impl Metal {
    /// The device of `x`.
    fn of(x: &MetalStorage) -> Result<Self> {
        Ok(Self {
            device: x.device().clone(),
            kernels: Kernels::of(x.device())?,
        })
    }
}

impl Gpu for Metal {
    type Storage = MetalStorage;
    type Real = f32;

    const SUMS_PER_LAUNCH: usize = 1;

    fn check(dtype: DType) -> Result<()> {
        element(dtype).map(|_| ())
    }

    fn dtype(storage: &MetalStorage) -> DType {
        storage.dtype()
    }

    fn caps(&self) -> Caps {
        self.kernels.caps
    }

    fn alloc(&self, dtype: DType, len: usize) -> Result<MetalStorage> {
        let memory = self.device.new_buffer_builder().with_size_for(len, dtype);
        let buffer = memory.with_label("norm").build()?;
        Ok(MetalStorage::new(buffer, self.device.clone(), len, dtype))
    }

    fn zeros(&self, dtype: DType, len: usize) -> Result<MetalStorage> {
        self.device.zeros_impl(&Shape::from(len), dtype)
    }

    unsafe fn launch(&self, launch: Launch<Self>) -> Result<()> {
        let pipeline = self.kernels.pipeline(&self.device, &launch)?;
        // Waits for all others that encode, so nothing may be allocated or compiled from here on.
        let guard = self.device.command_encoder()?;
        let encoder = guard.as_ref();
        encoder.set_compute_pipeline_state(&pipeline);
        for (index, bytes) in arguments(&launch).into_iter().enumerate() {
            encoder.set_bytes_directly(index, bytes.len(), bytes.as_ptr().cast());
        }
        // Metal wants a buffer in every place that a kernel names. Whether one is really there is
        // part of the argument.
        for slot in Slot::BUFFERS {
            let index = slot as usize;
            let bound = launch.buffers.iter().find(|b| b.has(slot));
            match (bound, launch.buffers.first()) {
                // Told as an input, a write would not be waited for.
                (Some(b), _) if b.is_written() => {
                    let offset = launch.workspace.offset(slot, size_of::<f32>());
                    encoder.set_output_buffer(index, Some(b.storage().buffer()), offset)
                }
                (Some(b), _) | (None, Some(b)) => {
                    encoder.set_input_buffer(index, Some(b.storage().buffer()), 0)
                }
                (None, None) => {}
            }
        }
        let along = |width: u32| MTLSize {
            width: width as usize,
            height: 1,
            depth: 1,
        };
        encoder.dispatch_thread_groups(along(launch.size.grid), along(launch.size.threads));
        Ok(())
    }
}

/// The libraries and pipelines of one GPU, each compiled once.
struct Kernels {
    caps: Caps,
    libraries: Mutex<HashMap<DType, Library>>,
    pipelines: RwLock<HashMap<(Kernel, DType), ComputePipeline>>,
}

impl Kernels {
    /// The kernels of the GPU of `device`, shared by all of candle's devices for it.
    fn of(device: &MetalDevice) -> Result<Arc<Self>> {
        static ALL: OnceLock<RwLock<HashMap<u64, Arc<Kernels>>>> = OnceLock::new();
        let all = ALL.get_or_init(Default::default);
        let id = device.registry_id();
        if let Some(kernels) = all.read().map_err(poisoned)?.get(&id) {
            return Ok(kernels.clone());
        }
        let mut all = all.write().map_err(poisoned)?;
        let caps = Caps {
            without: Without::from_env()?,
            ..Caps::metal(cores(device.device_type()))
        };
        let new = || {
            Arc::new(Self {
                caps,
                libraries: Mutex::default(),
                pipelines: RwLock::default(),
            })
        };
        Ok(all.entry(id).or_insert_with(new).clone())
    }

    fn pipeline(&self, device: &MetalDevice, launch: &Launch<Metal>) -> Result<ComputePipeline> {
        let key = (launch.kernel, launch.dtype);
        let cached = self.pipelines.read().map_err(poisoned)?.get(&key).cloned();
        let pipeline = match cached {
            Some(pipeline) => pipeline,
            None => {
                let pipeline = self.compile(device, launch.kernel, launch.dtype)?;
                let mut pipelines = self.pipelines.write().map_err(poisoned)?;
                pipelines.entry(key).or_insert(pipeline).clone()
            }
        };
        let (most, threads) = (
            pipeline.max_total_threads_per_threadgroup(),
            launch.size.threads,
        );
        if most < threads as usize {
            let entry = launch.kernel.entry();
            bail!(
                "norm: expected a GPU that runs {threads} threads a threadgroup of {entry}, got one that runs {most}"
            )
        }
        Ok(pipeline)
    }

    fn compile(
        &self,
        device: &MetalDevice,
        kernel: Kernel,
        dtype: DType,
    ) -> Result<ComputePipeline> {
        let entry = kernel.entry();
        let function = self.library(device, dtype)?.get_function(&entry, None);
        let function = function.map_err(Error::wrap)?;
        let pipeline = device.new_compute_pipeline_state_with_function(&function);
        let pipeline = pipeline.map_err(Error::wrap)?;
        let width = pipeline.as_ref().threadExecutionWidth();
        if width != WARP {
            bail!("norm: expected a GPU with simdgroups of {WARP} threads, got {width}")
        }
        Ok(pipeline)
    }

    fn library(&self, device: &MetalDevice, dtype: DType) -> Result<Library> {
        let mut libraries = self.libraries.lock().map_err(poisoned)?;
        if let Some(library) = libraries.get(&dtype) {
            return Ok(library.clone());
        }
        let options = MTLCompileOptions::new();
        // The rounding error of a mean must not be computed away, nor NaN be taken for
        // impossible. Its successor, the math mode, is there from macOS 15 on only.
        #[allow(deprecated)]
        options.setFastMathEnabled(false);
        let library = device.new_library_with_source(&source(dtype)?, Some(&options));
        let library = library.map_err(Error::wrap)?;
        libraries.insert(dtype, library.clone());
        Ok(library)
    }
}

/// About how many cores a GPU has, which Metal does not tell: by its class, an estimate.
fn cores(class: MetalDeviceType) -> usize {
    match class {
        MetalDeviceType::Phone => 6,
        MetalDeviceType::BasePro | MetalDeviceType::Medium => 16,
        MetalDeviceType::Max => 32,
        MetalDeviceType::Ultra => 64,
    }
}

fn poisoned<T>(_: T) -> Error {
    Error::Msg("norm: a thread panicked while it compiled kernels".into())
}
