//! The kernels of a device: their PTX and their handles.

use crate::plan::{Caps, Kernel, Without};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaFunction, sys};
use candle_core::{CudaDevice, DType, Error, Result, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

// `PTX`: by the names of `Kernel::source`, in ascending order, the compressed PTX for the baseline and
// for Hopper.
include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// The compute capability from which on a device takes the second of them: 9.0.
const HOPPER: i32 = 90;
/// Set, it makes every device take the first, so that tests reach it on newer ones.
const BASELINE: &str = "CANDLE_INSTANCE_NORM_BASELINE";
/// A kernel that was asked for, once it is compiled.
type Compiled = Arc<Mutex<Option<CudaFunction>>>;

/// The kernel handles of one device, each looked up once.
pub struct Kernels {
    context: Arc<CudaContext>,
    pub caps: Caps,
    functions: RwLock<HashMap<(Kernel, bool, DType), Compiled>>,
}

impl Kernels {
    /// The kernels of the GPU of `device`, shared by all of candle's devices for it: they use the one
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
        let shared = get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let clusters = 10 * major + minor >= HOPPER && std::env::var_os(BASELINE).is_none();
        Ok(Self {
            context: context.clone(),
            caps: Caps {
                without: Without::from_env()?,
                ..Caps::cuda(sm_count.max(1) as usize, clusters, shared.max(0) as usize)
            },
            functions: RwLock::default(),
        })
    }

    /// `plain` says that nothing goes beside the normalization.
    pub fn function(&self, kernel: Kernel, plain: bool, dtype: DType) -> Result<CudaFunction> {
        let key = (kernel, plain, dtype);
        let known = self.functions.read().map_err(poisoned)?.get(&key).cloned();
        let slot = match known {
            Some(slot) => slot,
            None => {
                let mut functions = self.functions.write().map_err(poisoned)?;
                functions.entry(key).or_default().clone()
            }
        };
        // The driver compiles meanwhile: only those wait who need the same kernel.
        let mut function = slot.lock().map_err(poisoned)?;
        if let Some(function) = &*function {
            return Ok(function.clone());
        }
        let loaded = self.load(kernel, plain, dtype)?;
        Ok(function.insert(loaded).clone())
    }

    fn load(&self, kernel: Kernel, plain: bool, dtype: DType) -> Result<CudaFunction> {
        let (name, entry) = (kernel.source(plain, dtype), kernel.entry());
        let Ok(place) = PTX.binary_search_by_key(&name.as_str(), |(name, _)| name) else {
            bail!("norm: no CUDA kernels {name}")
        };
        let packed = PTX[place].1[self.caps.clusters as usize];
        let ptx = miniz_oxide::inflate::decompress_to_vec(packed).map_err(|e| e.to_string());
        let ptx = ptx.and_then(|ptx| String::from_utf8(ptx).map_err(|e| e.to_string()));
        let ptx =
            ptx.map_err(|e| Error::Msg(format!("norm: the PTX of {name} is damaged: {e}")))?;
        let module = self.context.load_module(alone(&ptx, &entry).into()).w()?;
        let function = module.load_function(&entry).w()?;
        if let Kernel::Shared(_) | Kernel::GroupsShared(_) = kernel {
            // More than 48 KB a kernel has to be granted.
            let bytes = self.caps.shared as i32 - function.shared_size_bytes().w()?;
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(most, bytes).w()?;
        }
        Ok(function)
    }
}

/// A PTX file without all kernels but one. The driver compiles a module as a whole: with all of a file
/// the first call took up to 8 s.
fn alone(ptx: &str, entry: &str) -> String {
    let mut text = String::with_capacity(ptx.len());
    let mut skips = false;
    for line in ptx.split_inclusive('\n') {
        if let Some((_, name)) = line.split_once(".entry ") {
            skips = name.split('(').next() != Some(entry);
        }
        if !skips {
            text.push_str(line);
        }
        // At the start of a line it ends a kernel: blocks within one are indented.
        skips &= line.trim_end() != "}";
    }
    text
}

fn poisoned<T>(_: T) -> Error {
    Error::Msg("norm: a thread panicked while it loaded kernels".into())
}
