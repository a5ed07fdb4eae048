//! Safetensors, mapped into memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{bail, DType, Device, Result, Shape, Tensor};

use super::{first_line, Entry, Stored};

pub(super) struct Mapped(MmapedSafetensors);

/// Everything in the file. The crate `safetensors` has checked by then that the header, of at most
/// 100 MB, is whole, and that the tensors cover the rest of the file without gap or overlap.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, Entry>> {
    // SAFETY: the mapping is only ever read. That nobody changes the file meanwhile cannot be
    // enforced; `Weights::open` asks for it.
    let file = match unsafe { MmapedSafetensors::new(path) } {
        Ok(file) => Arc::new(Mapped(file)),
        Err(error) => bail!(
            "{} is not a whole safetensors file: {}",
            path.display(),
            first_line(&error)
        ),
    };
    let entries = file.0.tensors().into_iter().map(|(name, view)| {
        let shape = Shape::from(view.shape());
        let stored = Stored::Mapped(file.clone(), name.clone());
        (name, Entry { shape, stored })
    });
    Ok(entries.collect())
}

impl Mapped {
    pub fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let view = self.0.get(name)?;
        // candle has names for more types than it computes with.
        match DType::try_from(view.dtype()) {
            Ok(DType::F64 | DType::F32 | DType::F16 | DType::BF16) => {}
            Ok(DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64) => {}
            _ => bail!("{name} is of {:?}, which is not read", view.dtype()),
        }
        self.0.load(name, device)?.to_dtype(dtype)
    }
}
