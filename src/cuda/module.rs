//! The kernels of a device: which there are, what they are called, and their handles.

use crate::plan::Pass;
use candle_core::cuda_backend::cudarc::driver::{sys, CudaContext, CudaFunction, CudaModule};
use candle_core::cuda_backend::WrapErr;
use candle_core::{bail, CudaDevice, DType, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

/// The PTX of one source file, for the baseline and for Hopper.
macro_rules! ptx {
    ($file:literal) => {
        [
            include_str!(concat!(env!("OUT_DIR"), "/", $file, ".baseline.ptx")),
            include_str!(concat!(env!("OUT_DIR"), "/", $file, ".hopper.ptx")),
        ]
    };
}
const PTX: [[&str; 2]; 2] = [ptx!("in_fwd"), ptx!("in_bwd")];
/// The compute capability from which on a device takes the second of them: 9.0.
const HOPPER: i32 = 90;
/// Set, it makes every device take the first, so that tests reach it on newer ones.
const BASELINE: &str = "CANDLE_INSTANCE_NORM_BASELINE";

/// What a kernel does; the number is that of the vectors a thread keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    Warp(Pass, usize),
    Block(Pass, usize),
    /// The first launch of the split tier.
    SplitMeasure(Pass),
    /// The second launch of the split tier.
    SplitWrite(Pass),
    Stats,
    SumParams,
}

impl Kernel {
    /// The name of the entry in the PTX.
    pub fn entry(self, dtype: DType) -> Result<String> {
        let pass = |pass| match pass {
            Pass::Forward => "in_fwd",
            Pass::Backward => "in_bwd",
        };
        let name = match self {
            Self::Warp(p, n) => format!("{}_warp{n}", pass(p)),
            Self::Block(p, n) => format!("{}_block{n}", pass(p)),
            Self::SplitMeasure(Pass::Forward) => "in_split_moments".to_string(),
            Self::SplitMeasure(Pass::Backward) => "in_split_comoments".to_string(),
            Self::SplitWrite(p) => format!("{}_split", pass(p)),
            Self::Stats => "in_stats".to_string(),
            Self::SumParams => "in_sum_params".to_string(),
        };
        let dtype = match dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
            other => bail!("instance-norm: no CUDA kernel for dtype {other:?}"),
        };
        Ok(format!("{name}_{dtype}"))
    }

    fn module(self) -> usize {
        match self {
            Self::Warp(pass, _)
            | Self::Block(pass, _)
            | Self::SplitMeasure(pass)
            | Self::SplitWrite(pass) => pass as usize,
            Self::Stats => Pass::Forward as usize,
            Self::SumParams => Pass::Backward as usize,
        }
    }
}

/// The modules and kernel handles of one device, each looked up once.
pub struct Kernels {
    context: Arc<CudaContext>,
    pub sm_count: usize,
    hopper: bool,
    modules: Mutex<[Option<Arc<CudaModule>>; 2]>,
    functions: RwLock<HashMap<(Kernel, DType), CudaFunction>>,
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
            sm_count: sm_count.max(1) as usize,
            hopper: 10 * major + minor >= HOPPER && std::env::var_os(BASELINE).is_none(),
            modules: Mutex::default(),
            functions: RwLock::default(),
        })
    }

    pub fn function(&self, kernel: Kernel, dtype: DType) -> Result<CudaFunction> {
        let key = (kernel, dtype);
        if let Some(function) = self.functions.read().map_err(poisoned)?.get(&key) {
            return Ok(function.clone());
        }
        let entry = kernel.entry(dtype)?;
        let function = self.load(kernel.module())?.load_function(&entry).w()?;
        let mut functions = self.functions.write().map_err(poisoned)?;
        Ok(functions.entry(key).or_insert(function).clone())
    }

    fn load(&self, module: usize) -> Result<Arc<CudaModule>> {
        let mut modules = self.modules.lock().map_err(poisoned)?;
        if let Some(module) = &modules[module] {
            return Ok(module.clone());
        }
        let ptx = PTX[module][self.hopper as usize];
        let loaded = self.context.load_module(ptx.into()).w()?;
        modules[module] = Some(loaded.clone());
        Ok(loaded)
    }
}

fn poisoned<T>(_: T) -> candle_core::Error {
    candle_core::Error::Msg("instance-norm: a thread panicked while it loaded kernels".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every entry that Rust can ask for is in the PTX, and nothing else is.
    #[test]
    fn entries_and_ptx_agree() -> Result<()> {
        let mut kernels = vec![Kernel::Stats, Kernel::SumParams];
        for pass in [Pass::Forward, Pass::Backward] {
            let sizes = |least| {
                [1, 2, 4, 8]
                    .into_iter()
                    .filter(move |v| (least..=pass.max_vectors()).contains(v))
            };
            kernels.extend(sizes(1).map(|v| Kernel::Warp(pass, v)));
            kernels.extend(sizes(pass.few_vectors()).map(|v| Kernel::Block(pass, v)));
            kernels.extend([Kernel::SplitMeasure(pass), Kernel::SplitWrite(pass)]);
        }
        for (module, ptx) in PTX.iter().enumerate() {
            let mut wanted = BTreeSet::new();
            for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
                for kernel in kernels.iter().filter(|k| k.module() == module) {
                    wanted.insert(kernel.entry(dtype)?);
                }
            }
            for ptx in ptx {
                let found: BTreeSet<String> = ptx
                    .lines()
                    .filter_map(|line| line.split_once(".entry ")?.1.split('(').next())
                    .map(|name| name.trim().to_string())
                    .collect();
                assert_eq!(found, wanted);
            }
        }
        Ok(())
    }
}
