//! Random tensors from a seed, and instance norm with all its gradients in f64.

use super::{max_abs, to_f64};
use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_instance_norm::{NormGrads, instance_norm, instance_norm_backward};
use half::{bf16, f16};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Normal};
use std::f64::consts::FRAC_1_SQRT_2;

/// Runs of up to 4^7 = 16,384 numbers, a chunk of the split kernels.
const RUNS: usize = 7;

/// Normally distributed tensors; the same seed gives the same numbers on every device.
pub struct Random {
    rng: StdRng,
    device: Device,
    rough: bool,
}

impl Random {
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            device: device.clone(),
            rough: false,
        }
    }

    /// Half of the variance is of each number alone, half of runs of 4, 16, 64 ... of them: so the
    /// parts of a plane that threads, warps and blocks have differ in their means, by far more than
    /// parts of white noise would, and a wrong merge of them shows.
    pub fn rough(seed: u64, device: &Device) -> Self {
        Self {
            rough: true,
            ..Self::new(seed, device)
        }
    }

    pub fn tensor(
        &mut self,
        shape: impl Into<Shape>,
        dtype: DType,
        mean: f64,
        std: f64,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let normal = Normal::new(0., std).expect("a deviation of 0 or more");
        let mut draw = || normal.sample(&mut self.rng);
        let mut values: Vec<f64> = (0..shape.elem_count()).map(|_| mean + draw()).collect();
        if self.rough {
            let of_run = FRAC_1_SQRT_2 / (RUNS as f64).sqrt();
            values
                .iter_mut()
                .for_each(|v| *v = mean + (*v - mean) * FRAC_1_SQRT_2);
            for length in (1..=RUNS as u32).map(|scale| 4usize.pow(scale)) {
                for run in values.chunks_mut(length) {
                    let by = draw() * of_run;
                    run.iter_mut().for_each(|v| *v += by);
                }
            }
        }
        let wide = Tensor::from_vec(values, shape, &Device::Cpu)?;
        wide.to_dtype(dtype)?.to_device(&self.device)
    }

    /// A weight and bias for `x`: per channel, per sample, or none.
    pub fn params(&mut self, x: &Tensor, dtype: DType, kind: Affine) -> Result<Params> {
        let (n, c) = (x.dim(0)?, x.dim(1)?);
        let shape = match kind {
            Affine::None => return Ok((None, None)),
            Affine::Channel => Shape::from(c),
            Affine::Sample => Shape::from((n, c)),
        };
        let weight = self.tensor(&shape, dtype, 1., 0.5)?;
        Ok((Some(weight), Some(self.tensor(&shape, dtype, 0., 1.)?)))
    }
}

/// The same numbers in f64 on the CPU.
pub fn wide(t: &Tensor) -> Result<Tensor> {
    t.to_device(&Device::Cpu)?.to_dtype(DType::F64)
}

/// A weight and a bias.
pub type Params = (Option<Tensor>, Option<Tensor>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Affine {
    None,
    Channel,
    Sample,
}

/// Exact numbers, and for each the size that an error of it is measured by.
#[derive(Default)]
pub struct Exact {
    pub values: Vec<f64>,
    pub scale: Vec<f64>,
}

impl Exact {
    /// What the CPU computed in f64; errors are measured by the largest of the numbers.
    pub fn of(wide: &Tensor) -> Self {
        let (mut exact, scale) = (Self::default(), max_abs(wide));
        let numbers = to_f64(wide).into_iter();
        numbers.for_each(|v| exact.push(v, scale));
        exact
    }

    pub fn push(&mut self, value: f64, scale: f64) {
        self.values.push(value);
        self.scale.push(scale);
    }

    /// Panics unless each element of `got` is within `bound` times its scale, for a half type plus
    /// one rounding of the exact number. A NaN must be where one is expected, and nowhere else.
    #[track_caller]
    pub fn check(&self, what: &str, got: &Tensor, bound: f64) {
        let dtype = got.dtype();
        let got = to_f64(got);
        assert_eq!(got.len(), self.values.len(), "{what}: elements");
        let mut worst = (0., 0);
        for (i, (&got, (&want, scale))) in got
            .iter()
            .zip(self.values.iter().zip(&self.scale))
            .enumerate()
        {
            // Where every term is 0, the scale is 0, and products of two roundings remain.
            let allowed = bound * scale + rounding(want, dtype) + bound * bound;
            let excess = (got - want).abs() / allowed;
            let excess = match (got.is_nan(), want.is_nan()) {
                (true, true) => 0.,
                (false, false) if got == want => 0.,
                (false, false) => excess,
                _ => f64::INFINITY,
            };
            if excess > worst.0 {
                worst = (excess, i);
            }
        }
        let (excess, i) = worst;
        assert!(
            excess <= 1.,
            "{what}: element {i} is {excess:.3} times off what {bound:e} allows: got {:e}, want {:e}, scale {:e}",
            got[i],
            self.values[i],
            self.scale[i],
        );
    }
}

/// The most that one rounding of `v` to a half type moves it: half an ulp. 0 for the other types,
/// where the roundings of the arithmetic are as large.
fn rounding(v: f64, dtype: DType) -> f64 {
    let (digits, least) = match dtype {
        DType::F16 => (f16::MANTISSA_DIGITS, f16::MIN_POSITIVE.to_f64()),
        DType::BF16 => (bf16::MANTISSA_DIGITS, bf16::MIN_POSITIVE.to_f64()),
        _ => return 0.,
    };
    let exponent = v.abs().max(least).log2().floor();
    2f64.powi(exponent as i32 - digits as i32)
}

/// A call of `instance_norm` and its backward pass.
pub struct Case {
    pub what: String,
    pub x: Tensor,
    pub params: Params,
    pub dy: Tensor,
    pub eps: f64,
}

impl Case {
    pub fn forward(&self) -> Result<Tensor> {
        let (weight, bias) = &self.params;
        instance_norm(&self.x, weight.as_ref(), bias.as_ref(), self.eps)
    }

    pub fn backward(&self) -> Result<NormGrads> {
        let (weight, bias) = (self.params.0.as_ref(), self.params.1.as_ref());
        instance_norm_backward(&self.x, weight, bias, &self.dy, self.eps)
    }

    /// Panics unless all results are those of [`Reference`], as [`Exact::check`] has it.
    #[track_caller]
    pub fn check(&self, bound: f64) -> Result<()> {
        self.check_against(&self.reference(), bound)
    }

    pub fn reference(&self) -> Reference {
        Reference::new(&self.x, &self.params, &self.dy, self.eps)
    }

    #[track_caller]
    pub fn check_against(&self, want: &Reference, bound: f64) -> Result<()> {
        let (y, grads, (weight, bias)) = (self.forward()?, self.backward()?, &self.params);
        for (key, got, want, like) in [
            ("y", Some(&y), &want.y, Some(&self.x)),
            ("dx", Some(&grads.x), &want.dx, Some(&self.x)),
            (
                "dweight",
                grads.weight.as_ref(),
                &want.dweight,
                weight.as_ref(),
            ),
            ("dbias", grads.bias.as_ref(), &want.dbias, bias.as_ref()),
        ] {
            let what = format!("{}: {key}", self.what);
            let looks = |t: &Tensor| (t.shape().clone(), t.dtype());
            assert_eq!(got.map(looks), like.map(looks), "{what}");
            if let Some(got) = got {
                want.check(&what, got, bound);
            }
        }
        Ok(())
    }
}

/// The results of `instance_norm` and its backward pass for the numbers that the tensors hold,
/// summed in f64 in two passes, the mean with what its own rounding leaves out.
///
/// The scale of y is the size of its two terms at one deviation, |weight| + |bias|; that of dx is
/// what it is made of before it cancels, |weight| rstd max|dy|. The parameters' gradients are sums
/// over N and S: roundings of the terms add up like a random walk, to the root of the sum of their
/// squares, and one of a common factor (rstd) goes with the sum.
#[derive(Default)]
pub struct Reference {
    pub y: Exact,
    pub dx: Exact,
    pub dweight: Exact,
    pub dbias: Exact,
}

impl Reference {
    fn new(x: &Tensor, (weight, bias): &Params, dy: &Tensor, eps: f64) -> Self {
        let (n, c) = (x.dims()[0], x.dims()[1]);
        let spatial: usize = x.dims()[2..].iter().product();
        let params = |t: &Option<Tensor>, absent| match t {
            Some(t) => to_f64(t),
            None => vec![absent; c],
        };
        let (weight, bias) = (params(weight, 1.), params(bias, 0.));
        let (x, dy) = (to_f64(x), to_f64(dy));
        let mut weight_sums = vec![[0f64; 2]; weight.len()];
        let mut bias_sums = vec![[0f64; 2]; bias.len()];
        let mut out = Self::default();
        for plane in 0..n * c {
            let at = plane * spatial..(plane + 1) * spatial;
            let (x, dy) = (centred(&x[at.clone()]), &dy[at]);
            let (w, b) = (plane % weight.len(), plane % bias.len());
            let rstd = 1. / (mean(x.iter().map(|d| d * d)) + eps).sqrt();
            let g = centred(dy);
            let slope = mean(x.iter().zip(&g).map(|(d, e)| d * e)) * rstd * rstd;
            let scale = weight[w] * rstd;
            let largest = dy.iter().fold(0f64, |m, v| m.max(v.abs()));
            for ((d, e), dy) in x.iter().zip(&g).zip(dy) {
                let y = d * scale + bias[b];
                out.y.push(y, weight[w].abs() + bias[b].abs());
                let dx = (e - d * slope) * scale;
                out.dx.push(dx, scale.abs() * largest);
                add(&mut weight_sums[w], dy * d * rstd);
                add(&mut bias_sums[b], *dy);
            }
        }
        for (sums, grad) in [(weight_sums, &mut out.dweight), (bias_sums, &mut out.dbias)] {
            for [sum, squares] in sums {
                grad.push(sum, squares.sqrt() + sum.abs());
            }
        }
        out
    }
}

fn add([sum, squares]: &mut [f64; 2], term: f64) {
    *sum += term;
    *squares += term * term;
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = values.len() as f64;
    values.sum::<f64>() / len
}

fn centred(x: &[f64]) -> Vec<f64> {
    let mean_of_x = mean(x.iter().copied());
    let rest = mean(x.iter().map(|v| v - mean_of_x));
    x.iter().map(|v| (v - mean_of_x) - rest).collect()
}
