//! The CPU backend: rayon over planes or parts of planes, SIMD chosen at run time.

mod bwd;
mod element;
mod fwd;
mod half;
mod moments;
mod simd;
mod sweep;

use crate::args::{Gradients, Inputs, View, Wanted};
use crate::shapes::{adjacent, Param, PlaneLayout, Planes};
use ::half::{bf16, f16};
use bwd::ParamGrad;
use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, DType, Result, WithDType};
use element::Element;
use std::mem::MaybeUninit;

/// Calls `$f::<T>($args)` with the `T` of a dtype.
macro_rules! dispatch {
    ($dtype:expr, $f:ident($($arg:expr),*)) => {
        match $dtype {
            DType::F32 => $f::<f32>($($arg),*),
            DType::F16 => $f::<f16>($($arg),*),
            DType::BF16 => $f::<bf16>($($arg),*),
            DType::F64 => $f::<f64>($($arg),*),
            other => bail!("instance-norm: no CPU implementation for dtype {other:?}"),
        }
    };
}

pub fn forward(inputs: &Inputs<CpuStorage>, eps: f64) -> Result<CpuStorage> {
    dispatch!(inputs.x.0.dtype(), forward_t(inputs, eps))
}

fn forward_t<T: Element>(inputs: &Inputs<CpuStorage>, eps: f64) -> Result<CpuStorage> {
    let planes = inputs.planes()?;
    let x = Input::<T>::new(inputs.x, &planes)?;
    let params = Params::new(inputs)?;
    Ok(T::store(fwd::forward(x, &planes, &params, eps)))
}

pub fn backward(
    inputs: &Inputs<CpuStorage>,
    dy: View<CpuStorage>,
    eps: f64,
    wanted: &Wanted,
) -> Result<Gradients<CpuStorage>> {
    dispatch!(inputs.x.0.dtype(), backward_t(inputs, dy, eps, wanted))
}

fn backward_t<T: Element>(
    inputs: &Inputs<CpuStorage>,
    dy: View<CpuStorage>,
    eps: f64,
    wanted: &Wanted,
) -> Result<Gradients<CpuStorage>> {
    let planes = inputs.planes()?;
    let x = Input::<T>::new(inputs.x, &planes)?;
    let dy = Input::<T>::new(dy, &planes)?;
    let params = Params::new(inputs)?;
    let (dx, grads) = bwd::backward(x, dy, &planes, &params, eps, wanted.x);
    let reduce = |param: Option<Param>, pick: fn(&ParamGrad) -> f64| {
        param.map(|p| reduce(&grads, &planes, p, pick)).transpose()
    };
    Ok(Gradients {
        x: dx.map(T::store),
        weight: reduce(wanted.weight, |g| g.weight)?,
        bias: reduce(wanted.bias, |g| g.bias)?,
    })
}

pub fn stats(x: View<CpuStorage>) -> Result<CpuStorage> {
    dispatch!(x.0.dtype(), stats_t(x))
}

fn stats_t<T: Element>(x: View<CpuStorage>) -> Result<CpuStorage> {
    let planes = Planes::new(x.1.dims())?;
    Ok(T::Acc::store(fwd::stats(
        Input::<T>::new(x, &planes)?,
        &planes,
    )))
}

/// Sums the planes' shares of a parameter's gradient, over N for one that all samples use.
fn reduce(
    grads: &[ParamGrad],
    planes: &Planes,
    param: Param,
    pick: fn(&ParamGrad) -> f64,
) -> Result<CpuStorage> {
    let period = param.granularity.period(planes);
    let mut sums = vec![0f64; period];
    for (plane, grad) in grads.iter().enumerate() {
        sums[plane % period] += pick(grad);
    }
    dispatch!(param.dtype, narrow(sums))
}

fn narrow<T: Element>(sums: Vec<f64>) -> Result<CpuStorage> {
    Ok(T::store(sums.into_iter().map(T::from_f64).collect()))
}

/// The planes of an input, read where they lie.
#[derive(Clone, Copy)]
struct Input<'a, T> {
    data: &'a [T],
    layout: PlaneLayout,
    planes: Planes,
}

impl<'a, T: Element> Input<'a, T> {
    fn new((storage, layout): View<'a, CpuStorage>, planes: &Planes) -> Result<Self> {
        Ok(Self {
            data: storage.as_slice()?,
            layout: adjacent(layout)?,
            planes: *planes,
        })
    }

    #[inline(always)]
    fn plane(&self, plane: usize) -> &'a [T] {
        let start = self.layout.start(plane, self.planes.c);
        &self.data[start..start + self.planes.spatial]
    }
}

/// Weight and bias in f64: they are read once a plane, and rounded once at the end.
#[derive(Default)]
struct Params {
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

impl Params {
    fn new(inputs: &Inputs<CpuStorage>) -> Result<Self> {
        let read = |param: Option<View<CpuStorage>>| param.map(widen).transpose();
        Ok(Self {
            weight: read(inputs.weight)?,
            bias: read(inputs.bias)?,
        })
    }

    fn weight(&self, plane: usize) -> f64 {
        self.weight.as_ref().map_or(1., |w| w[plane % w.len()])
    }

    fn bias(&self, plane: usize) -> f64 {
        self.bias.as_ref().map_or(0., |b| b[plane % b.len()])
    }
}

fn widen((storage, layout): View<CpuStorage>) -> Result<Vec<f64>> {
    fn all<T: WithDType>(storage: &CpuStorage, start: usize, end: usize) -> Result<Vec<f64>> {
        let values = &storage.as_slice::<T>()?[start..end];
        Ok(values.iter().map(|v| v.to_f64()).collect())
    }
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("instance-norm: expected a contiguous weight and bias, got {layout:?}")
    };
    dispatch!(storage.dtype(), all(storage, start, end))
}

/// A vector of `len` elements that `fill` writes, without writing zeros first.
fn collect<T>(len: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    ask_for_huge_pages(room);
    fill(room);
    // SAFETY: every `fill` here is a `sweep` whose `write` covers each segment of each plane, and
    // the planes tile the `len` elements; a panic in it leaves the length at 0.
    unsafe { values.set_len(len) };
    values
}

/// Asks Linux for pages of 2 MiB where a large result is yet to be touched for the first time.
/// With the usual 4 KiB the page faults take most of the time: 12 ms for 32 MiB, and 2 ms so.
fn ask_for_huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let bytes = room.as_mut_ptr_range();
        let start = (bytes.start as usize).next_multiple_of(HUGE);
        let end = bytes.end as usize / HUGE * HUGE;
        if end > start {
            // SAFETY: whole pages within `room`, whose contents the advice leaves as they are.
            // A refusal is no loss: the pages are small then.
            unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = room;
}
