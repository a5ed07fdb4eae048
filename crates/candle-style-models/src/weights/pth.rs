//! Files of `torch.save`, through the crate `pytorch-reader`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Error, Result, Shape, Tensor, bail};
use pytorch_reader::PytorchReader;

use super::{Entry, Stored, guarded, vet};

/// The most bytes of all tensors per byte of the file. In an honest file, a tensor is at most as long
/// as its storage, and a storage may appear two or three times under different names; but a view
/// with a stride of 0 may claim any size, of which the reader allows 10 GiB each.
const MAX_REPEATED: u64 = 8;

/// Files shorter than this count as this long: they may hold large views, such as a bias of zeros.
const ROOM: u64 = 1 << 20;

/// The tensors of a file, whose data is read when they are loaded.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let shown = path.display();
    vet::check(path)?;
    let reader = guarded(&shown.to_string(), || PytorchReader::new(path))?
        .map_err(|error| Error::Msg(format!("{shown} is not a whole PyTorch file: {error}")))?;

    let length = path.metadata()?.len();
    let allowed = MAX_REPEATED.saturating_mul(length.max(ROOM));
    let tensors = reader.into_tensors();
    let claimed = tensors.values().fold(0u64, |sum, tensor| {
        sum.saturating_add(tensor.byte_len() as u64)
    });
    if claimed > allowed {
        bail!("{shown} has {length} bytes, but its tensors would take {claimed}");
    }
    let entry = |(name, tensor): (String, pytorch_reader::Tensor)| {
        let shape = Shape::from(tensor.shape());
        let stored = Stored::Pickled(tensor);
        (name, Entry { shape, stored })
    };
    Ok(tensors.into_iter().map(entry).collect())
}

pub(super) fn load(
    tensor: &pytorch_reader::Tensor,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let stored = match tensor.dtype() {
        pytorch_reader::DType::F64 => DType::F64,
        pytorch_reader::DType::F32 => DType::F32,
        pytorch_reader::DType::F16 => DType::F16,
        pytorch_reader::DType::BF16 => DType::BF16,
        pytorch_reader::DType::I64 => DType::I64,
        pytorch_reader::DType::I32 => DType::I32,
        pytorch_reader::DType::I16 => DType::I16,
        pytorch_reader::DType::U32 => DType::U32,
        pytorch_reader::DType::U8 | pytorch_reader::DType::Bool => DType::U8,
        other => bail!(
            "{} has the dtype {other:?}, which candle does not have",
            tensor.name
        ),
    };
    let bytes = guarded(&tensor.name, || tensor.read())??;
    Tensor::from_raw_buffer(&bytes, stored, tensor.shape(), device)?.to_dtype(dtype)
}
