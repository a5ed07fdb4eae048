//! Shapes, strides, dtypes, and the checks of them.

use candle_core::{DType, Layout, Result, Tensor, bail};

/// A tensor `(N, C, *S)` seen as `n * c` planes of `spatial` elements each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Planes {
    pub n: usize,
    pub c: usize,
    pub spatial: usize,
}

/// The order of a tensor's elements in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `(N, C, *S)`: the elements of a plane are adjacent.
    Planar,
    /// `(N, *S, C)`, contiguous: the channels of a place are adjacent.
    ChannelsLast,
}

impl Planes {
    /// The planes of a tensor of shape `(N, C, *S)`.
    pub fn new(dims: &[usize]) -> Result<Self> {
        match dims {
            [n, c, s @ ..] if !s.is_empty() => Ok(Self {
                n: *n,
                c: *c,
                spatial: s.iter().product(),
            }),
            _ => bail!(
                "norm: expected x of rank 3 or more, (N, C, *), got shape {dims:?}; \
                 add a batch dimension with unsqueeze(0) if it is missing"
            ),
        }
    }

    /// The number of planes, `n * c`.
    pub fn count(&self) -> usize {
        self.n * self.c
    }

    pub fn elements(&self) -> usize {
        self.count() * self.spatial
    }
}

/// The starts of a tensor's planes in its storage; the elements of a plane are adjacent.
///
/// Views made by `narrow`, `transpose` or `expand` over N and C are such layouts, and read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLayout {
    pub offset: usize,
    pub stride_n: usize,
    pub stride_c: usize,
}

impl PlaneLayout {
    /// `None` unless the elements of a plane are adjacent.
    pub fn new(layout: &Layout) -> Option<Self> {
        let strides = layout.stride();
        is_planar(layout).then(|| Self {
            offset: layout.start_offset(),
            stride_n: strides[0],
            stride_c: strides[1],
        })
    }

    /// The index in the storage of the first element of `plane` (which counts `n * C + c`).
    #[inline(always)]
    pub fn start(&self, plane: usize, c: usize) -> usize {
        if self.stride_n == c * self.stride_c {
            // Spares a division, which counts where planes are small.
            return self.offset + plane * self.stride_c;
        }
        self.offset + (plane / c) * self.stride_n + (plane % c) * self.stride_c
    }
}

/// True if the elements of a plane are adjacent, at any strides over N and C.
fn is_planar(layout: &Layout) -> bool {
    let mut adjacent = 1;
    for (&dim, &stride) in layout.dims()[2..].iter().zip(&layout.stride()[2..]).rev() {
        if dim != 1 && stride != adjacent {
            return false;
        }
        adjacent *= dim;
    }
    true
}

/// The [`PlaneLayout`] of a tensor that the op has laid out.
pub fn adjacent(layout: &Layout) -> Result<PlaneLayout> {
    match PlaneLayout::new(layout) {
        Some(planes) => Ok(planes),
        None => bail!("norm: expected planes of adjacent elements, got {layout:?}"),
    }
}

/// The format in which `x`, of shape `(N, C, *S)`, is best read.
pub fn format_of(x: &Tensor) -> Result<Format> {
    let channels_last = !is_planar(x.layout()) && channels_last(x)?.is_contiguous();
    Ok(if channels_last {
        Format::ChannelsLast
    } else {
        Format::Planar
    })
}

/// `(N, C, *S)` seen as `(N, *S, C)`.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order[1..].rotate_left(1);
    x.permute(order)
}

/// `(N, *S, C)` seen as `(N, C, *S)`.
pub fn channels_first(x: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order[1..].rotate_right(1);
    x.permute(order)
}

/// `x`, already in the order of `format`: itself if a backend can read it in place, else a
/// contiguous copy (on the graph).
pub fn to_format(x: &Tensor, format: Format) -> Result<Tensor> {
    match format {
        Format::Planar if is_planar(x.layout()) => Ok(x.clone()),
        _ => x.contiguous(),
    }
}

/// `(N, C, *)` in the order of `format`, as the backends read it.
pub fn in_format(t: &Tensor, format: Format) -> Result<Tensor> {
    match format {
        Format::Planar => to_format(t, format),
        Format::ChannelsLast => to_format(&channels_last(t)?, format),
    }
}

/// Back to `(N, C, *)`.
pub fn from_format(t: &Tensor, format: Format) -> Result<Tensor> {
    match format {
        Format::Planar => Ok(t.clone()),
        Format::ChannelsLast => channels_first(t),
    }
}

/// The shape class of a parameter: `[C]`, `[N, C]` or that of x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamShape {
    PerChannel,
    PerSample,
    PerElement,
}

impl ParamShape {
    /// Plane `p` takes number `p % period` of a parameter per channel or per sample.
    pub fn period(self, planes: &Planes) -> usize {
        match self {
            Self::PerChannel => planes.c,
            Self::PerSample => planes.count(),
            Self::PerElement => planes.elements(),
        }
    }
}

/// Shape class and dtype of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamSpec {
    pub shape: ParamShape,
    pub dtype: DType,
}

impl ParamSpec {
    /// True for one number per element of x, rather than per channel or sample.
    pub fn is_per_element(&self) -> bool {
        self.shape == ParamShape::PerElement
    }

    /// Checks `param` (called `name` in messages) against the `x` it goes with.
    pub fn new(name: &str, param: &Tensor, x: &Tensor, planes: &Planes) -> Result<Self> {
        let (n, c) = (planes.n, planes.c);
        let shape = match *param.dims() {
            [channels] if channels == c => ParamShape::PerChannel,
            [batch, channels] if batch == n && channels == c => ParamShape::PerSample,
            _ if param.dims() == x.dims() => ParamShape::PerElement,
            _ => bail!(
                "norm: expected {name} of shape [{c}], [{n}, {c}] or that of x, {:?}, got {:?}",
                x.dims(),
                param.dims()
            ),
        };
        let dtype = param.dtype();
        // In f32, a parameter per element would be twice the bytes of a half x.
        let wide = is_half(x.dtype()) && shape != ParamShape::PerElement;
        if dtype != x.dtype() && !(dtype == DType::F32 && wide) {
            bail!(
                "norm: expected {name} of dtype {:?}{}, got {dtype:?}",
                x.dtype(),
                if wide { " or F32" } else { "" },
            );
        }
        same_device(name, param, x)?;
        Ok(Self { shape, dtype })
    }

    /// [`new`](Self::new) for a parameter that cannot be per element.
    pub fn per_plane(name: &str, param: &Tensor, x: &Tensor, planes: &Planes) -> Result<Self> {
        let (n, c) = (planes.n, planes.c);
        if param.dims() != [c] && param.dims() != [n, c] {
            bail!(
                "norm: expected {name} of shape [{c}] or [{n}, {c}], got {:?}",
                param.dims()
            );
        }
        Self::new(name, param, x, planes)
    }
}

pub fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

pub fn float_dtype(x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => Ok(()),
        other => bail!("norm: expected x of dtype F32, F16, BF16 or F64, got {other:?}"),
    }
}

pub fn valid_eps(eps: f64) -> Result<()> {
    if eps.is_finite() && eps >= 0. {
        return Ok(());
    }
    bail!("norm: expected a finite eps of 0 or more, got {eps}")
}

pub fn same_device(name: &str, other: &Tensor, x: &Tensor) -> Result<()> {
    if other.device().same_device(x.device()) {
        return Ok(());
    }
    bail!(
        "norm: expected {name} on the device of x, {:?}, got {:?}",
        x.device().location(),
        other.device().location()
    )
}

/// The dtype that sums are kept in: f32 for the half types, else the tensor's own.
pub fn acc_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Shape};

    #[test]
    fn views_over_n_and_c_are_read_in_place() -> Result<()> {
        let x = Tensor::zeros((4, 6, 5, 7), DType::F32, &Device::Cpu)?;
        let layout = |t: &Tensor| PlaneLayout::new(t.layout());
        assert_eq!(
            layout(&x.narrow(1, 2, 3)?),
            Some(PlaneLayout {
                offset: 70,
                stride_n: 210,
                stride_c: 35
            })
        );
        assert_eq!(
            layout(&x.transpose(0, 1)?),
            Some(PlaneLayout {
                offset: 0,
                stride_n: 35,
                stride_c: 210
            })
        );
        assert_eq!(layout(&x.transpose(1, 3)?), None);
        assert_eq!(layout(&x.narrow(3, 0, 6)?), None);
        // A stride over one element is never taken, whatever it says.
        let odd = Layout::new(Shape::from((2, 3, 1, 4)), vec![12, 4, 99, 1], 0);
        assert!(PlaneLayout::new(&odd).is_some());
        Ok(())
    }

    #[test]
    fn plane_starts_are_64_bit() {
        let layout = PlaneLayout {
            offset: 3,
            stride_n: 5 << 31,
            stride_c: 1 << 31,
        };
        assert_eq!(layout.start(13, 5), 3 + (13 << 31));
    }
}
