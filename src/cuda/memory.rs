//! Device pointers of candle's storages, and the structs that the kernels take.

use crate::args::View;
use crate::shapes::{acc_dtype, adjacent, Param, PlaneLayout, Planes};
use crate::tuning::VECTOR_BYTES;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, SyncOnDrop,
};
use candle_core::cuda_backend::CudaStorageSlice as Slice;
use candle_core::{bail, CudaDevice, CudaStorage, DType, Result};
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
            _ => bail!("instance-norm: no CUDA implementation for this dtype"),
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
        other => bail!("instance-norm: no CUDA implementation for dtype {other:?}"),
    })
}

/// `Input` of span.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Input {
    data: u64,
    stride_n: i64,
    stride_c: i64,
}

/// `Param` of span.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ParamArg {
    data: u64,
    period: i32,
    is_f32: i32,
}

/// `Shape` of span.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ShapeArg {
    spatial: i64,
    planes: i32,
    c: i32,
    eps: f64,
}

/// `Output` of in_bwd.cu; 0 is null.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OutputArg {
    pub dx: u64,
    pub dweight: u64,
    pub dbias: u64,
}

// SAFETY: plain numbers in C layout, field for field those of the kernels' structs; tests/cuda
// run every kernel with them.
unsafe impl DeviceRepr for Input {}
unsafe impl DeviceRepr for ParamArg {}
unsafe impl DeviceRepr for ShapeArg {}
unsafe impl DeviceRepr for OutputArg {}

impl ShapeArg {
    /// The plan has checked that the number of planes fits.
    pub fn new(planes: &Planes, eps: f64) -> Self {
        Self {
            spatial: planes.spatial as i64,
            planes: planes.count() as i32,
            c: planes.c as i32,
            eps,
        }
    }
}

/// An input's planes, with the pointer that keeps them readable.
pub struct InputPlanes<'a> {
    pub arg: Input,
    pub aligned: bool,
    _pointer: Pointer<'a>,
}

impl<'a> InputPlanes<'a> {
    pub fn new((storage, layout): View<'a, CudaStorage>, stream: &'a CudaStream) -> Result<Self> {
        let planes: PlaneLayout = adjacent(layout)?;
        let pointer = read(storage, stream)?;
        let size = storage.dtype().size_in_bytes();
        let arg = Input {
            data: pointer.address + (planes.offset * size) as u64,
            stride_n: planes.stride_n as i64,
            stride_c: planes.stride_c as i64,
        };
        // A storage may wrap memory that somebody else allocated, so the address itself counts.
        let aligned =
            arg.data.is_multiple_of(VECTOR_BYTES as u64) && planes.strides_in(VECTOR_BYTES / size);
        Ok(Self {
            arg,
            aligned,
            _pointer: pointer,
        })
    }
}

/// A weight or bias, with the pointer that keeps it readable; null where there is none.
pub struct ParamPointer<'a> {
    pub arg: ParamArg,
    _pointer: Option<Pointer<'a>>,
}

impl<'a> ParamPointer<'a> {
    pub fn new(
        param: Option<View<'a, CudaStorage>>,
        x: DType,
        stream: &'a CudaStream,
    ) -> Result<Self> {
        let Some((storage, layout)) = param else {
            let arg = ParamArg {
                data: 0,
                period: 1,
                is_f32: 0,
            };
            return Ok(Self {
                arg,
                _pointer: None,
            });
        };
        let pointer = read(storage, stream)?;
        let dtype = storage.dtype();
        let arg = ParamArg {
            data: pointer.address + (layout.start_offset() * dtype.size_in_bytes()) as u64,
            period: layout.shape().elem_count() as i32,
            is_f32: narrower(x, dtype),
        };
        Ok(Self {
            arg,
            _pointer: Some(pointer),
        })
    }
}

/// Whether a parameter is f32 beside an x that is not.
pub fn narrower(x: DType, param: DType) -> i32 {
    (param == DType::F32 && x != DType::F32) as i32
}

/// Whether the planes' shares of a gradient are that gradient as they stand.
pub fn is_final(param: Param, planes: &Planes, x: DType) -> bool {
    let sums = param.granularity.period(planes) == planes.count();
    sums && param.dtype == acc_dtype(x)
}
