//! Safetensors, mapped into memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use super::{Entry, Stored, first_line};

pub(super) struct Mapped(MmapedSafetensors);

/// The tensors of a file, whose data is read when they are loaded. The crate `safetensors` has then
/// checked that the header, of at most 100 MB, is whole, and that the tensors cover the rest of the
/// file without gap or overlap.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, Entry>> {
    // SAFETY: the mapping is only ever read. Nothing can enforce that nobody changes the file
    // meanwhile; the documentation of `Weights::open` requires it of the caller.
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
        // candle's `DType` has more types than candle computes with.
        match DType::try_from(view.dtype()) {
            Ok(DType::F64 | DType::F32 | DType::F16 | DType::BF16) => {}
            Ok(DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64) => {}
            _ => bail!(
                "{name} has the dtype {:?}, which is not supported",
                view.dtype()
            ),
        }
        self.0.load(name, device)?.to_dtype(dtype)
    }
}
