//! A fixed set of calls, which together take every kernel: their results are the same bits each time,
//! and may be compared with those of another device.
//!
//! `CANDLE_INSTANCE_NORM_RECORD=FOLDER` writes those of the GPU there, `CANDLE_INSTANCE_NORM_EXPECT=FOLDER`
//! compares them with what was written, and puts what differs into the file that
//! `CANDLE_INSTANCE_NORM_CALLS_JSON` names. That is a report, not a condition: approximate instructions
//! differ between devices, and planes are split by the number of multiprocessors.

#[cfg(feature = "cuda")]
mod recorded;

use crate::common::reference::Random;
use crate::common::{has, to_f64};
use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::{
    Activation, AdaInConfig, NormGrads, Normalization, PlaneStats, adain, instance_stats,
};
use std::collections::HashMap;

const EPS: f64 = 1e-5;
pub const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// The tensors of a call: x, and others drawn on demand.
pub struct Tensors {
    x: Tensor,
    random: Random,
    last: bool,
}

impl Tensors {
    /// An x of `(n, c, spatial)`, in channels-last memory or planar.
    pub fn new(
        shape: (usize, usize, usize),
        last: bool,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut random = Random::new(3, device);
        let x = like(shape, last, dtype, &mut random)?;
        Ok(Self { x, random, last })
    }

    /// Another tensor like x.
    fn like_x(&mut self) -> Result<Tensor> {
        like(self.x.dims3()?, self.last, self.x.dtype(), &mut self.random)
    }

    fn per_channel(&mut self) -> Result<Tensor> {
        let (c, dtype) = (self.x.dim(1)?, self.x.dtype());
        Ok(self.random.tensor(c, dtype, 1., 0.1)?)
    }

    fn backward(&mut self, norm: &Normalization) -> Result<Results> {
        let dy = self.like_x()?;
        let NormGrads {
            x,
            weight,
            bias,
            residual,
            ..
        } = norm.backward(&self.x, &dy)?;
        Ok([Some(x), weight, bias, residual]
            .into_iter()
            .flatten()
            .collect())
    }

    fn forward(&self, norm: &Normalization) -> Result<Results> {
        Ok(vec![norm.forward(&self.x)?])
    }
}

fn like(
    (n, c, s): (usize, usize, usize),
    last: bool,
    dtype: DType,
    random: &mut Random,
) -> Result<Tensor> {
    Ok(if last {
        random.tensor((n, s, c), dtype, 0., 1.)?.transpose(1, 2)?
    } else {
        random.tensor((n, c, s), dtype, 0., 1.)?
    })
}

pub type Results = Vec<Tensor>;
pub type Run = fn(&mut Tensors) -> Result<Results>;

pub fn plain(t: &mut Tensors) -> Result<Results> {
    t.forward(&Normalization::instance(EPS))
}

pub fn plain_backward(t: &mut Tensors) -> Result<Results> {
    t.backward(&Normalization::instance(EPS))
}

/// x + relu: what every style network does.
fn with_relu_and_residual(t: &mut Tensors) -> Result<Normalization> {
    let (weight, bias, residual) = (t.per_channel()?, t.per_channel()?, t.like_x()?);
    Ok(Normalization::instance(EPS)
        .weight(&weight)
        .bias(&bias)
        .residual(&residual)
        .activation(Activation::Relu))
}

pub fn fused(t: &mut Tensors) -> Result<Results> {
    let norm = with_relu_and_residual(t)?;
    t.forward(&norm)
}

pub fn fused_backward(t: &mut Tensors) -> Result<Results> {
    let norm = with_relu_and_residual(t)?;
    t.backward(&norm)
}

pub fn in_place(t: &mut Tensors) -> Result<Results> {
    with_relu_and_residual(t)?.forward_in_place(&t.x)?;
    Ok(vec![t.x.clone()])
}

fn with_elements(t: &mut Tensors) -> Result<Normalization> {
    let (weight, bias) = (t.like_x()?, t.like_x()?);
    Ok(Normalization::instance(EPS).weight(&weight).bias(&bias))
}

pub fn spade(t: &mut Tensors) -> Result<Results> {
    let norm = with_elements(t)?;
    t.forward(&norm)
}

pub fn spade_backward(t: &mut Tensors) -> Result<Results> {
    let norm = with_elements(t)?;
    t.backward(&norm)
}

pub fn group(t: &mut Tensors) -> Result<Results> {
    t.forward(&Normalization::group(2, EPS).activation(Activation::Silu))
}

pub fn group_backward(t: &mut Tensors) -> Result<Results> {
    t.backward(&Normalization::group(2, EPS))
}

pub fn with_stats(t: &mut Tensors) -> Result<Results> {
    let (mean, rstd) = (t.per_channel()?, t.per_channel()?);
    t.forward(&Normalization::instance(EPS).stats(&PlaneStats { mean, rstd }))
}

pub fn stats(t: &mut Tensors) -> Result<Results> {
    let PlaneStats { mean, rstd } = instance_stats(&t.x, EPS)?;
    Ok(vec![mean, rstd])
}

pub fn style(t: &mut Tensors) -> Result<Results> {
    let style = t.like_x()?;
    Ok(vec![adain(&t.x, &style, &AdaInConfig::default())?])
}

const RUNS: [(&str, Run); 12] = [
    ("forward", plain),
    ("backward", plain_backward),
    ("forward, ReLU, residual", fused),
    ("backward, ReLU, residual", fused_backward),
    ("in place", in_place),
    ("forward, SPADE", spade),
    ("backward, SPADE", spade_backward),
    ("group norm, SiLU", group),
    ("group norm, backward", group_backward),
    ("given statistics", with_stats),
    ("statistics", stats),
    ("AdaIN", style),
];

/// For each tier, in every dtype: odd planes for warps, planes for blocks, the smallest that are cut
/// in parts, channels-last.
const SHAPES: [((usize, usize, usize), bool); 4] = [
    ((3, 6, 77), false),
    ((1, 2, 2100), false),
    ((1, 2, 16_400), false),
    ((2, 8, 300), true),
];

fn results_are_reproducible(device: &Device) -> Result<()> {
    let mut all = HashMap::new();
    for (name, run) in RUNS {
        for (shape, last) in SHAPES {
            for dtype in DTYPES.into_iter().filter(|&dtype| has(device, dtype)) {
                let memory = if last { " channels-last" } else { "" };
                let call = format!("{name} {}{memory} {shape:?}", dtype.as_str());
                eprintln!("== {call}");
                let once = || run(&mut Tensors::new(shape, last, dtype, device)?);
                for (i, (a, b)) in once()?.into_iter().zip(once()?).enumerate() {
                    ensure!(
                        bits(&a)? == bits(&b)?,
                        "{call}: result {i} is another one each time"
                    );
                    all.insert(format!("{call}: {i}"), a.to_device(&Device::Cpu)?);
                }
            }
        }
    }
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        recorded::record_or_compare(&all, gpu)?;
    }
    Ok(())
}

test_device!(f64: results_are_reproducible);

/// The bits of the elements, as numbers in the order of the elements themselves: neighbours are an
/// ulp apart.
fn bits(t: &Tensor) -> Result<Vec<i64>> {
    fn ordered<const BITS: u32>(bits: u64) -> i64 {
        let magnitude = (bits & ((1 << (BITS - 1)) - 1)) as i64;
        match bits >> (BITS - 1) {
            0 => magnitude,
            _ => -magnitude - 1, // so that -0 is not 0
        }
    }
    let t = t.to_device(&Device::Cpu)?.flatten_all()?;
    Ok(match t.dtype() {
        DType::F64 => t
            .to_vec1::<f64>()?
            .iter()
            .map(|v| ordered::<64>(v.to_bits()))
            .collect(),
        DType::F32 => t
            .to_vec1::<f32>()?
            .iter()
            .map(|v| ordered::<32>(v.to_bits().into()))
            .collect(),
        DType::F16 => {
            let values = t.to_vec1::<half::f16>()?;
            values
                .iter()
                .map(|v| ordered::<16>(v.to_bits().into()))
                .collect()
        }
        DType::BF16 => {
            let values = t.to_vec1::<half::bf16>()?;
            values
                .iter()
                .map(|v| ordered::<16>(v.to_bits().into()))
                .collect()
        }
        other => anyhow::bail!("no bits of {other:?}"),
    })
}

/// The difference of two tensors: the number of different elements, the largest difference in units in
/// the last place, and the largest as a share of the largest element.
fn difference(got: &Tensor, want: &Tensor) -> Result<Option<(usize, i64, f64)>> {
    ensure!(got.dtype() == want.dtype() && got.dims() == want.dims());
    let (a, b) = (bits(got)?, bits(want)?);
    let apart = a
        .iter()
        .zip(&b)
        .map(|(a, b)| a.abs_diff(*b).min(i64::MAX as u64) as i64);
    let (count, most) = apart.fold((0, 0), |(n, most), d| (n + (d > 0) as usize, most.max(d)));
    if count == 0 {
        return Ok(None);
    }
    let (got, want) = (to_f64(got), to_f64(want));
    let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    let off = got
        .iter()
        .zip(&want)
        .fold(0f64, |m, (g, w)| m.max((g - w).abs()));
    Ok(Some((count, most, off / largest.max(f64::MIN_POSITIVE))))
}

#[test]
fn differences_are_counted_in_ulps() -> Result<()> {
    let of = |v: [f32; 3]| Tensor::new(&v, &Device::Cpu);
    let next = f32::from_bits(2f32.to_bits() + 3);
    assert_eq!(difference(&of([1., 2., -4.])?, &of([1., 2., -4.])?)?, None);
    let (count, ulps, share) =
        difference(&of([1., next, -4.])?, &of([1., 2., -4.])?)?.context("equal")?;
    assert_eq!((count, ulps), (1, 3));
    assert_eq!(share, f64::from(next - 2.) / 4.);
    assert_eq!(
        difference(&of([0., 0., 0.])?, &of([0., -0., 0.])?)?
            .context("equal")?
            .1,
        1
    );
    Ok(())
}
