//! The kernels of a device: their PTX and their handles.

use crate::plan::{Caps, Kernel, Pass};
use candle_core::cuda_backend::cudarc::driver::{sys, CudaContext, CudaFunction, CudaModule};
use candle_core::cuda_backend::WrapErr;
use candle_core::{bail, CudaDevice, DType, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

/// The PTX of one source file for one dtype, for the baseline and for Hopper.
macro_rules! ptx {
    ($file:literal, $dtype:literal) => {
        [
            include_str!(concat!(
                env!("OUT_DIR"),
                "/",
                $file,
                ".",
                $dtype,
                ".baseline.ptx"
            )),
            include_str!(concat!(
                env!("OUT_DIR"),
                "/",
                $file,
                ".",
                $dtype,
                ".hopper.ptx"
            )),
        ]
    };
    ($file:literal) => {
        [
            ptx!($file, "f32"),
            ptx!($file, "f16"),
            ptx!($file, "bf16"),
            ptx!($file, "f64"),
        ]
    };
}
/// By [`source_of`] and [`dtype_index`]. They are modules of their own since the driver compiles a
/// module as a whole, when the first of its kernels is asked for.
const PTX: [[[&str; 2]; 4]; SOURCES] = [
    ptx!("in_fwd.plain"),
    ptx!("in_fwd.full"),
    ptx!("in_bwd.plain"),
    ptx!("in_bwd.full"),
    ptx!("split.plain"),
    ptx!("split.full"),
    ptx!("channels_last.plain"),
    ptx!("channels_last.full"),
    ptx!("in_sets.plain"),
    ptx!("in_sets.full"),
    ptx!("finish"),
];
const SOURCES: usize = 11;
/// The compute capability from which on a device takes the second of them: 9.0.
const HOPPER: i32 = 90;
/// Set, it makes every device take the first, so that tests reach it on newer ones.
const BASELINE: &str = "CANDLE_INSTANCE_NORM_BASELINE";

/// The index of a kernel's source in [`PTX`].
fn source_of(kernel: Kernel, plain: bool) -> usize {
    let of_elements = match kernel {
        Kernel::Warp(Pass::Forward, _)
        | Kernel::Block(Pass::Forward, _)
        | Kernel::Cluster(Pass::Forward) => 0,
        Kernel::Warp(Pass::Backward, _)
        | Kernel::Block(Pass::Backward, _)
        | Kernel::Cluster(Pass::Backward) => 2,
        Kernel::Split(..) => 4,
        Kernel::Columns(..) => 6,
        Kernel::SetsBlock | Kernel::SetsCluster => 8,
        Kernel::Finish(_) | Kernel::Stats | Kernel::SumParams => return SOURCES - 1,
    };
    of_elements + !plain as usize
}

fn dtype_index(dtype: DType) -> Result<usize> {
    Ok(match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        DType::F64 => 3,
        other => bail!("norm: no CUDA kernel for dtype {other:?}"),
    })
}

/// The modules and kernel handles of one device, each looked up once.
pub struct Kernels {
    context: Arc<CudaContext>,
    pub caps: Caps,
    modules: [[Mutex<Option<Arc<CudaModule>>>; 4]; SOURCES],
    functions: RwLock<HashMap<(Kernel, bool, DType), CudaFunction>>,
}

impl Kernels {
    /// Those of the GPU of `device`, shared by all of candle's devices for it: they use the one
    /// primary context of the GPU.
    pub fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        static ALL: OnceLock<RwLock<HashMap<usize, Arc<Kernels>>>> = OnceLock::new();
        let all = ALL.get_or_init(Default::default);
        let stream = device.cuda_stream();
        let context = stream.context();
        if let Some(kernels) = all.read().map_err(poisoned)?.get(&context.ordinal()) {
            return Ok(kernels.clone());
        }
        let kernels = Arc::new(Self::new(context)?);
        let mut all = all.write().map_err(poisoned)?;
        Ok(all.entry(context.ordinal()).or_insert(kernels).clone())
    }

    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        use sys::CUdevice_attribute as Attribute;
        let get = |attribute| context.attribute(attribute).w();
        let major = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let sm_count = get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(Self {
            context: context.clone(),
            caps: Caps {
                sm_count: sm_count.max(1) as usize,
                clusters: 10 * major + minor >= HOPPER && std::env::var_os(BASELINE).is_none(),
            },
            modules: Default::default(),
            functions: RwLock::default(),
        })
    }

    /// `plain` says that nothing goes beside the normalization.
    pub fn function(&self, kernel: Kernel, plain: bool, dtype: DType) -> Result<CudaFunction> {
        let key = (kernel, plain, dtype);
        if let Some(function) = self.functions.read().map_err(poisoned)?.get(&key) {
            return Ok(function.clone());
        }
        let module = self.load(source_of(kernel, plain), dtype_index(dtype)?)?;
        let function = module.load_function(&kernel.entry()).w()?;
        let mut functions = self.functions.write().map_err(poisoned)?;
        Ok(functions.entry(key).or_insert(function).clone())
    }

    fn load(&self, source: usize, dtype: usize) -> Result<Arc<CudaModule>> {
        // The driver compiles for up to seconds: only those wait who need the same module.
        let mut module = self.modules[source][dtype].lock().map_err(poisoned)?;
        if let Some(module) = &*module {
            return Ok(module.clone());
        }
        let ptx = PTX[source][dtype][self.caps.clusters as usize];
        let loaded = self.context.load_module(ptx.into()).w()?;
        *module = Some(loaded.clone());
        Ok(loaded)
    }
}

fn poisoned<T>(_: T) -> candle_core::Error {
    candle_core::Error::Msg("norm: a thread panicked while it loaded kernels".into())
}
