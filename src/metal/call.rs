//! What the kernels take, the structs of kernels/call.metal field for field, and how an op's
//! arguments become that.

use super::launch::{Bound, Gpu, Launch, Slot};
use crate::kernel_args::{is_f32_beside, CutArg, RuleArg};
use crate::plan::{Job, Kernel, Pass};
use crate::shapes::{adjacent, Format, PlaneLayout};
use crate::spec::{Extras, NormSpec, ScaleStat, View};
use crate::tuning::VECTOR_BYTES;
use candle_core::{DType, Layout, Result};

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct TensorArg {
    start: i64,
    stride_n: i64,
    stride_c: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct ParamArg {
    start: i64,
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
    present: u32,
}

/// `Call` of call.metal.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CallArg {
    shape: ShapeArg,
    rule: RuleArg<f32>,
    /// Where C++ has padding.
    _unused: i32,
    x: TensorArg,
    dy: TensorArg,
    weights: TensorArg,
    biases: TensorArg,
    residual: TensorArg,
    weight: ParamArg,
    bias: ParamArg,
    mean: ParamArg,
    rstd: ParamArg,
    out: TensorArg,
    dv: TensorArg,
    dweights: TensorArg,
}

/// `Sum` of call.metal.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SumArg {
    pub n: i32,
    pub c: i32,
    pub columns: i32,
    pub is_f32: i32,
}

/// A kernel's first argument, for the one launch that it is made for.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Arg {
    Call(CallArg),
    Sum(SumArg),
}

/// A struct of numbers in C layout, without padding.
pub trait Plain: Copy {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the structs that implement this have no padding, so every byte is there, for as
        // long as `self` is.
        unsafe { std::slice::from_raw_parts((self as *const Self).cast(), size_of::<Self>()) }
    }
}

impl Plain for CallArg {}
impl Plain for CutArg {}
impl Plain for SumArg {}

impl Arg {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Call(call) => call.bytes(),
            Self::Sum(sum) => sum.bytes(),
        }
    }
}

impl CallArg {
    /// Without any tensor yet.
    fn new(spec: &NormSpec) -> Self {
        let tensor = TensorArg::default();
        let param = ParamArg::default();
        Self {
            shape: ShapeArg {
                spatial: spec.planes.spatial as i64,
                // The plan has made sure that the number of planes fits.
                planes: spec.planes.count() as i32,
                c: spec.planes.c as i32,
                group: spec.channels_per_group as i32,
                present: 0,
            },
            rule: RuleArg::new(spec, |v| v as f32),
            _unused: 0,
            x: tensor,
            dy: tensor,
            weights: tensor,
            biases: tensor,
            residual: tensor,
            weight: param,
            bias: param,
            mean: param,
            rstd: param,
            out: tensor,
            dv: tensor,
            dweights: tensor,
        }
    }
}

/// A call: the argument that its launches share, and the tensors that go with it.
pub struct Call<'a, G: Gpu> {
    pub gpu: &'a G,
    pub spec: &'a NormSpec,
    /// That of x.
    pub dtype: DType,
    arg: CallArg,
    bound: Vec<Bound<'a, G::Storage>>,
    aligned: bool,
}

impl<'a, G: Gpu> Call<'a, G> {
    /// Of an x of this dtype and layout.
    pub fn new(gpu: &'a G, spec: &'a NormSpec, (x, layout): View<'a, G::Storage>) -> Result<Self> {
        let dtype = G::dtype(x);
        let mut call = Self {
            gpu,
            spec,
            dtype,
            arg: CallArg::new(spec),
            bound: vec![],
            aligned: is_aligned(layout, dtype),
        };
        call.arg.x = call.at(layout)?;
        call.bind(Slot::X, x, false);
        Ok(call)
    }

    /// What is planned for this call.
    pub fn job(&self, pass: Pass) -> Job {
        Job {
            pass,
            planes: self.spec.planes,
            format: self.spec.format,
            group: self.spec.channels_per_group,
            given: self.has(Slot::Mean),
            element: self.dtype.size_in_bytes(),
            aligned: self.aligned,
            sets_on_chip: false,
            plain: false,
        }
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.bound.iter().any(|b| b.slot == slot)
    }

    /// Whether somebody wants a plane's share of a gradient.
    pub fn has_shares(&self) -> bool {
        use Slot::{ShareBias, ShareMean, ShareRstd, ShareWeight};
        [ShareWeight, ShareBias, ShareMean, ShareRstd]
            .into_iter()
            .any(|slot| self.has(slot))
    }

    fn bind(&mut self, slot: Slot, storage: &'a G::Storage, written: bool) {
        self.bound.push(Bound {
            slot,
            storage,
            written,
        });
    }

    /// The gradient of the output.
    pub fn dy(&mut self, (storage, layout): View<'a, G::Storage>) -> Result<()> {
        self.arg.dy = self.at(layout)?;
        self.bind(Slot::Dy, storage, false);
        Ok(())
    }

    /// x itself as the result.
    pub fn out_is_x(&mut self) {
        self.arg.out = self.arg.x;
        self.bind(Slot::Out, self.bound[0].storage, true);
    }

    /// A result where it is wanted, contiguous: in the norm's format, or numbers for each plane.
    pub fn result(&mut self, slot: Slot, storage: Option<&'a G::Storage>) {
        let Some(storage) = storage else { return };
        match slot {
            Slot::Out => self.arg.out = self.contiguous(0),
            Slot::Dv => self.arg.dv = self.contiguous(0),
            Slot::Dweights => self.arg.dweights = self.contiguous(0),
            _ => {}
        }
        self.bind(slot, storage, true);
    }

    /// Everything beside x.
    pub fn extras(&mut self, extras: &Extras<View<'a, G::Storage>>) -> Result<()> {
        if let Some((storage, layout)) = extras.weight {
            if self.spec.is_per_element(layout) {
                self.arg.weights = self.at(layout)?;
                self.bind(Slot::Weights, storage, false);
            } else {
                self.arg.weight = self.param(Slot::Weight, (storage, layout));
            }
        }
        if let Some((storage, layout)) = extras.bias {
            if self.spec.is_per_element(layout) {
                self.arg.biases = self.at(layout)?;
                self.bind(Slot::Biases, storage, false);
            } else {
                self.arg.bias = self.param(Slot::Bias, (storage, layout));
            }
        }
        if let Some((storage, layout)) = extras.residual {
            self.arg.residual = self.at(layout)?;
            self.bind(Slot::Residual, storage, false);
        }
        if let Some([mean, rstd]) = extras.stats {
            self.arg.mean = self.param(Slot::Mean, mean);
            self.arg.rstd = self.param(Slot::Rstd, rstd);
        }
        Ok(())
    }

    /// The statistic that is asked for beside the mean.
    pub fn set_stat(&mut self, which: ScaleStat) {
        self.arg.rule.set_stat(which);
    }

    fn param(&mut self, slot: Slot, (storage, layout): View<'a, G::Storage>) -> ParamArg {
        self.bind(slot, storage, false);
        ParamArg {
            start: layout.start_offset() as i64,
            period: layout.shape().elem_count() as i32,
            is_f32: is_f32_beside(self.dtype, G::dtype(storage)),
        }
    }

    /// How the elements of `layout` lie, of the size and format of x.
    fn at(&self, layout: &Layout) -> Result<TensorArg> {
        match self.spec.format {
            Format::Planar => {
                let planes = adjacent(layout)?;
                Ok(TensorArg {
                    start: planes.offset as i64,
                    stride_n: planes.stride_n as i64,
                    stride_c: planes.stride_c as i64,
                })
            }
            Format::ChannelsLast => Ok(self.contiguous(layout.start_offset())),
        }
    }

    fn contiguous(&self, start: usize) -> TensorArg {
        let planes = &self.spec.planes;
        let stride_c = match self.spec.format {
            Format::Planar => planes.spatial,
            Format::ChannelsLast => 1,
        };
        TensorArg {
            start: start as i64,
            stride_n: (planes.c * planes.spatial) as i64,
            stride_c: stride_c as i64,
        }
    }

    /// A launch of this call, with some `more` buffers than its own.
    pub fn launch<'b>(
        &'b self,
        kernel: Kernel,
        (grid, threads): (u32, u32),
        cut: CutArg,
        more: &[Bound<'b, G::Storage>],
    ) -> Launch<'b, G::Storage> {
        let mut buffers: Vec<Bound<'b, G::Storage>> = self.bound.clone();
        buffers.extend(more);
        let mut arg = self.arg;
        arg.shape.present = buffers.iter().fold(0, |bits, b| bits | 1 << b.slot as u32);
        Launch {
            kernel,
            dtype: self.dtype,
            grid,
            threads,
            arg: Arg::Call(arg),
            cut,
            buffers,
        }
    }
}

/// Whether every plane of x starts at a multiple of [`VECTOR_BYTES`]: buffers themselves do.
fn is_aligned(layout: &Layout, dtype: DType) -> bool {
    let elements = VECTOR_BYTES / dtype.size_in_bytes();
    let multiple = |index: usize| index.is_multiple_of(elements);
    PlaneLayout::new(layout)
        .is_some_and(|p| multiple(p.offset) && multiple(p.stride_n) && multiple(p.stride_c))
}
