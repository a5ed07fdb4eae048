//! Device pointers of candle's storages.

use candle_core::cuda_backend::CudaStorageSlice as Slice;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};
use candle_core::{CudaDevice, CudaStorage, DType, Result, bail};
use half::{bf16, f16};

/// An address on the device, held as long as a launch may use it.
pub struct Pointer<'a> {
    pub address: u64,
    _sync: SyncOnDrop<'a>,
}

/// Calls `$use` with the typed slice of a storage.
macro_rules! with_slice {
    ($storage:expr, $slice:ident => $use:expr) => {
        match $storage {
            Slice::F32($slice) => $use,
            Slice::F16($slice) => $use,
            Slice::BF16($slice) => $use,
            Slice::F64($slice) => $use,
            _ => bail!("norm: no CUDA implementation for this dtype"),
        }
    };
}

pub fn read<'a>(storage: &'a CudaStorage, stream: &'a CudaStream) -> Result<Pointer<'a>> {
    let (address, sync) = with_slice!(&storage.slice, s => s.device_ptr(stream));
    Ok(Pointer {
        address,
        _sync: sync,
    })
}

pub fn write<'a>(storage: &'a mut CudaStorage, stream: &'a CudaStream) -> Result<Pointer<'a>> {
    let (address, sync) = with_slice!(&mut storage.slice, s => s.device_ptr_mut(stream));
    Ok(Pointer {
        address,
        _sync: sync,
    })
}

/// A storage of `len` elements that a kernel is to write in full.
pub fn alloc(device: &CudaDevice, dtype: DType, len: usize) -> Result<CudaStorage> {
    macro_rules! of {
        ($t:ty) => {{
            let slice = match len {
                // The driver refuses to allocate nothing, and candle copies all there is.
                0 => device.alloc_zeros::<$t>(1)?,
                // SAFETY: uninitialised numbers; the kernel launched on the same stream writes
                // every one of them before anything reads it.
                _ => unsafe { device.alloc::<$t>(len)? },
            };
            CudaStorage::wrap_cuda_slice(slice, device.clone())
        }};
    }
    Ok(match dtype {
        DType::F32 => of!(f32),
        DType::F16 => of!(f16),
        DType::BF16 => of!(bf16),
        DType::F64 => of!(f64),
        other => bail!("norm: no CUDA implementation for dtype {other:?}"),
    })
}
