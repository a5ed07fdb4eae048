//! What the kernels take, the structs of kernels/call.cuh field for field, and how an op's arguments
//! become that.

use super::memory::{read, Pointer};
use crate::kernel_args::{is_f32_beside, CutArg, RuleArg};
use crate::shapes::{adjacent, Format, PlaneLayout};
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use crate::tuning::VECTOR_BYTES;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DeviceRepr};
use candle_core::{CudaStorage, DType, Layout, Result};

/// An address of 0 stands for what there is none of.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TensorArg {
    pub data: u64,
    stride_n: i64,
    stride_c: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct ParamArg {
    data: u64,
    period: i32,
    is_f32: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct ShapeArg {
    spatial: i64,
    planes: i32,
    c: i32,
    group: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SharesArg {
    pub weight: u64,
    pub bias: u64,
    pub mean: u64,
    pub rstd: u64,
}

/// `Call` of call.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CallArg {
    shape: ShapeArg,
    rule: RuleArg<f64>,
    pub x: TensorArg,
    pub dy: TensorArg,
    weights: TensorArg,
    biases: TensorArg,
    residual: TensorArg,
    weight: ParamArg,
    bias: ParamArg,
    mean: ParamArg,
    rstd: ParamArg,
    pub out: TensorArg,
    pub dv: TensorArg,
    pub dweights: TensorArg,
    pub shares: SharesArg,
}

// SAFETY: plain numbers in C layout, field for field those of the kernels' structs; the tests run
// every kernel with them.
unsafe impl DeviceRepr for CallArg {}
// SAFETY: as above.
unsafe impl DeviceRepr for CutArg {}

impl SharesArg {
    pub fn any(&self) -> bool {
        [self.weight, self.bias, self.mean, self.rstd] != [0; 4]
    }
}

impl CallArg {
    /// Without any tensor yet.
    pub fn new(spec: &NormSpec) -> Self {
        let none = TensorArg::default();
        Self {
            shape: ShapeArg {
                spatial: spec.planes.spatial as i64,
                // The plan has made sure that the number of planes fits.
                planes: spec.planes.count() as i32,
                c: spec.planes.c as i32,
                group: spec.channels_per_group as i32,
            },
            rule: RuleArg::new(spec, |v| v),
            x: none,
            dy: none,
            weights: none,
            biases: none,
            residual: none,
            weight: ParamArg::default(),
            bias: ParamArg::default(),
            mean: ParamArg::default(),
            rstd: ParamArg::default(),
            out: none,
            dv: none,
            dweights: none,
            shares: SharesArg::default(),
        }
    }

    pub fn set_stat(&mut self, which: ScaleStat) {
        self.rule.set_stat(which);
    }

    /// Whether there is nothing beside the normalization of planes: PLAIN of the kernels.
    pub fn is_plain(&self) -> bool {
        let extras = [self.weights, self.biases, self.residual, self.dweights];
        self.rule.activation == 0 && extras.iter().all(|t| t.data == 0)
    }
}

impl CallArg {
    /// Whether the planes of a sample lie behind each other in every tensor.
    pub fn planes_are_adjacent(&self) -> bool {
        let read = [self.x, self.dy, self.weights, self.biases, self.residual];
        let written = [self.out, self.dv, self.dweights];
        let adjacent = |t: &TensorArg| t.data == 0 || t.stride_c == self.shape.spatial;
        read.iter().chain(&written).all(adjacent)
    }
}

/// The tensors of a call, as long as launches may use their addresses.
pub struct Tensors<'a> {
    spec: &'a NormSpec,
    dtype: DType,
    stream: &'a CudaStream,
    pointers: Vec<Pointer<'a>>,
}

impl<'a> Tensors<'a> {
    pub fn new(spec: &'a NormSpec, dtype: DType, stream: &'a CudaStream) -> Self {
        Self {
            spec,
            dtype,
            stream,
            pointers: vec![],
        }
    }

    fn address(&mut self, (storage, layout): View<'a, CudaStorage>) -> Result<u64> {
        let pointer = read(storage, self.stream)?;
        let start = layout.start_offset() * storage.dtype().size_in_bytes();
        let address = pointer.address + start as u64;
        self.pointers.push(pointer);
        Ok(address)
    }

    /// A tensor of the size and format of x.
    pub fn read(&mut self, view: View<'a, CudaStorage>) -> Result<TensorArg> {
        let data = self.address(view)?;
        self.at(data, view.1)
    }

    /// The elements of `layout`, the first of which is at `data`.
    pub fn at(&self, data: u64, layout: &Layout) -> Result<TensorArg> {
        match self.spec.format {
            Format::Planar => {
                let planes = adjacent(layout)?;
                Ok(TensorArg {
                    data,
                    stride_n: planes.stride_n as i64,
                    stride_c: planes.stride_c as i64,
                })
            }
            Format::ChannelsLast => Ok(self.contiguous(data)),
        }
    }

    /// A result: contiguous in the norm's format.
    pub fn contiguous(&self, data: u64) -> TensorArg {
        let planes = &self.spec.planes;
        let stride_c = match self.spec.format {
            Format::Planar => planes.spatial,
            Format::ChannelsLast => 1,
        };
        TensorArg {
            data,
            stride_n: (planes.c * planes.spatial) as i64,
            stride_c: stride_c as i64,
        }
    }

    fn param(&mut self, view: View<'a, CudaStorage>) -> Result<ParamArg> {
        Ok(ParamArg {
            data: self.address(view)?,
            period: view.1.shape().elem_count() as i32,
            is_f32: is_f32_beside(self.dtype, view.0.dtype()),
        })
    }

    /// Everything beside x.
    pub fn extras(
        &mut self,
        call: &mut CallArg,
        extras: &Extras<View<'a, CudaStorage>>,
    ) -> Result<()> {
        for (view, whole, per_plane) in [
            (extras.weight, &mut call.weights, &mut call.weight),
            (extras.bias, &mut call.biases, &mut call.bias),
        ] {
            match view {
                Some(view) if self.spec.is_per_element(view.1) => *whole = self.read(view)?,
                Some(view) => *per_plane = self.param(view)?,
                None => {}
            }
        }
        if let Some(view) = extras.residual {
            call.residual = self.read(view)?;
        }
        if let Some([mean, rstd]) = extras.stats {
            (call.mean, call.rstd) = (self.param(mean)?, self.param(rstd)?);
        }
        Ok(())
    }
}

/// Whether every plane of x, which starts at this address, starts at a multiple of
/// [`VECTOR_BYTES`]. A storage may wrap memory that somebody else allocated, so the address itself
/// counts.
pub fn is_aligned(address: u64, layout: &Layout, dtype: DType) -> bool {
    let elements = VECTOR_BYTES / dtype.size_in_bytes();
    let multiple = |stride: usize| stride.is_multiple_of(elements);
    address.is_multiple_of(VECTOR_BYTES as u64)
        && PlaneLayout::new(layout).is_some_and(|p| multiple(p.stride_n) && multiple(p.stride_c))
}
