//! Every choice of `Normalization` in random combinations, against the same in candle's own ops
//! in f64.

#[macro_use]
mod common;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_instance_norm::{
    adain, instance_stats, Activation, AdaInConfig, EpsMode, Normalization,
};
use common::reference::Random;
use common::{assert_close, max_abs, Tolerance};
use rand::{rngs::StdRng, Rng, SeedableRng};

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];
const EPS: f64 = 1e-2;

/// One combination.
#[derive(Debug, Clone)]
struct Choice {
    shape: Vec<usize>,
    groups: Option<usize>,
    params: Params,
    one_plus: bool,
    stats: bool,
    mode: EpsMode,
    correction: u32,
    alpha: f64,
    residual: bool,
    activation: Activation,
    channels_last: bool,
    /// f32 parameters beside a half x.
    wide_params: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Params {
    None,
    Channel,
    Sample,
    Element,
    BiasAlone,
    ElementBiasAlone,
}

impl Choice {
    fn random(rng: &mut StdRng) -> Self {
        let shapes: [&[usize]; 10] = [
            &[2, 4, 5],
            &[1, 6, 3, 7],
            &[3, 2, 33],
            &[2, 8, 16, 16],
            &[1, 4, 40, 41],
            &[2, 6, 2, 3, 4],
            &[1, 2, 95, 97],
            &[4, 36, 4, 4],
            &[2, 300, 3, 5],
            &[1, 4, 130, 131],
        ];
        let shape = shapes[rng.random_range(0..shapes.len())].to_vec();
        let kinds = [
            Params::None,
            Params::Channel,
            Params::Sample,
            Params::Element,
            Params::BiasAlone,
            Params::ElementBiasAlone,
        ];
        let params = kinds[rng.random_range(0..kinds.len())];
        let per_element = matches!(params, Params::Element | Params::ElementBiasAlone);
        let stats = rng.random_bool(0.2);
        let groups = [1, 2, shape[1] / 2, shape[1]];
        Self {
            groups: rng.random_bool(0.4).then(|| groups[rng.random_range(0..4)]),
            params,
            one_plus: rng.random_bool(0.3),
            stats,
            mode: [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar]
                [rng.random_range(0..3)],
            correction: rng.random_range(0..2),
            alpha: if stats || per_element || rng.random_bool(0.6) {
                1.
            } else {
                0.3
            },
            residual: rng.random_bool(0.4),
            activation: [
                Activation::None,
                Activation::None,
                Activation::Relu,
                Activation::LeakyRelu(0.2),
                Activation::Silu,
            ][rng.random_range(0..5)],
            channels_last: rng.random_bool(0.3),
            wide_params: rng.random_bool(0.5),
            shape,
        }
    }
}

/// The tensors of a choice; the absent are `None`.
#[derive(Clone)]
struct Tensors {
    x: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    residual: Option<Tensor>,
    stats: Option<(Tensor, Tensor)>,
}

impl Tensors {
    fn random(choice: &Choice, dtype: DType, random: &mut Random) -> Result<Self> {
        let (n, c) = (choice.shape[0], choice.shape[1]);
        let of_params = if choice.wide_params && dtype.size_in_bytes() == 2 {
            DType::F32
        } else {
            dtype
        };
        let mut param = |mean| -> Result<Option<Tensor>> {
            let shape = match choice.params {
                Params::None => return Ok(None),
                Params::Channel | Params::BiasAlone => vec![c],
                Params::Sample => vec![n, c],
                Params::Element | Params::ElementBiasAlone => choice.shape.clone(),
            };
            let wide = if shape == choice.shape {
                dtype
            } else {
                of_params
            };
            Ok(Some(random.tensor(shape, wide, mean, 0.7)?))
        };
        let (weight, bias) = (param(0.8)?, param(0.1)?);
        let alone = matches!(choice.params, Params::BiasAlone | Params::ElementBiasAlone);
        let like_x = |random: &mut Random, mean| -> Result<Tensor> {
            if !choice.channels_last {
                return Ok(random.tensor(choice.shape.clone(), dtype, mean, 1.)?);
            }
            let mut shape = choice.shape.clone();
            shape[1..].rotate_left(1);
            first(&random.tensor(shape, dtype, mean, 1.)?)
        };
        let x = like_x(random, 2.)?;
        let residual = choice.residual.then(|| like_x(random, 0.)).transpose()?;
        let stats = match choice.stats {
            true => Some((
                random.tensor((n, c), of_params, 1.5, 0.5)?,
                random.tensor(c, of_params, 1., 0.1)?,
            )),
            false => None,
        };
        Ok(Self {
            x,
            weight: weight.filter(|_| !alone),
            bias,
            residual,
            stats,
        })
    }

    /// In the order of `list`.
    fn map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let x = f(&self.x)?;
        let mut of = |t: &Option<Tensor>| t.as_ref().map(&mut f).transpose();
        let (weight, bias, residual) = (of(&self.weight)?, of(&self.bias)?, of(&self.residual)?);
        let stats = match &self.stats {
            Some((mean, rstd)) => Some((f(mean)?, f(rstd)?)),
            None => None,
        };
        Ok(Self {
            x,
            weight,
            bias,
            residual,
            stats,
        })
    }

    fn list(&self) -> Vec<(&'static str, &Tensor)> {
        let mut list = vec![("x", &self.x)];
        list.extend(self.weight.iter().map(|t| ("weight", t)));
        list.extend(self.bias.iter().map(|t| ("bias", t)));
        list.extend(self.residual.iter().map(|t| ("residual", t)));
        if let Some((mean, rstd)) = &self.stats {
            list.extend([("mean", mean), ("rstd", rstd)]);
        }
        list
    }
}

fn fused(choice: &Choice, t: &Tensors) -> Normalization {
    let mut norm = match choice.groups {
        Some(groups) => Normalization::group(groups, EPS),
        None => Normalization::instance(EPS),
    };
    norm = norm
        .eps_mode(choice.mode)
        .correction(choice.correction)
        .blend(choice.alpha)
        .activation(choice.activation);
    if choice.one_plus {
        norm = norm.one_plus_weight();
    }
    if let Some(weight) = &t.weight {
        norm = norm.weight(weight);
    }
    if let Some(bias) = &t.bias {
        norm = norm.bias(bias);
    }
    if let Some(residual) = &t.residual {
        norm = norm.residual(residual);
    }
    match &t.stats {
        Some((mean, rstd)) => norm.stats(mean, rstd),
        None => norm,
    }
}

fn composed(choice: &Choice, t: &Tensors) -> Result<Tensor> {
    let (n, c) = (choice.shape[0], choice.shape[1]);
    let x = t.x.contiguous()?.reshape((n, c, ()))?;
    let param = |p: &Tensor| match p.rank() {
        1 => p.reshape((1, c, 1)),
        2 => p.reshape((n, c, 1)),
        _ => p.contiguous()?.reshape((n, c, ())),
    };
    let z = match &t.stats {
        Some((mean, rstd)) => x
            .broadcast_sub(&param(mean)?)?
            .broadcast_mul(&param(rstd)?)?,
        None => {
            let sets = x.reshape((n, choice.groups.unwrap_or(c), ()))?;
            let len = sets.dim(2)? as f64;
            let centred = sets.broadcast_sub(&sets.mean_keepdim(2)?)?;
            let var = (centred.sqr()?.sum_keepdim(2)? / (len - choice.correction as f64))?;
            let std = match choice.mode {
                EpsMode::AddToVar => (var + EPS)?.sqrt()?,
                EpsMode::AddToStd => (var.sqrt()? + EPS)?,
                EpsMode::MaxWithVar => var.maximum(EPS)?.sqrt()?,
            };
            centred.broadcast_div(&std)?.reshape(x.shape())?
        }
    };
    let mut v = z;
    if let Some(weight) = &t.weight {
        let offset = if choice.one_plus { 1. } else { 0. };
        v = v.broadcast_mul(&(param(weight)? + offset)?)?;
    }
    if let Some(bias) = &t.bias {
        v = v.broadcast_add(&param(bias)?)?;
    }
    v = ((v * choice.alpha)? + (x * (1. - choice.alpha))?)?;
    if let Some(residual) = &t.residual {
        v = (v + residual.contiguous()?.reshape((n, c, ()))?)?;
    }
    let y = match choice.activation {
        Activation::None => v,
        Activation::Relu => v.relu()?,
        Activation::LeakyRelu(slope) => candle_nn::ops::leaky_relu(&v, slope)?,
        Activation::Silu => v.silu()?,
    };
    Ok(y.reshape(choice.shape.as_slice())?)
}

/// `(N, C, *)` seen as `(N, *, C)`.
fn last(t: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..t.rank()).collect();
    order[1..].rotate_left(1);
    Ok(t.permute(order)?)
}

/// `(N, *, C)` seen as `(N, C, *)`.
fn first(t: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..t.rank()).collect();
    order[1..].rotate_right(1);
    Ok(t.permute(order)?)
}

fn check(choice: &Choice, dtype: DType, random: &mut Random, device: &Device) -> Result<()> {
    let what = |name: &str| format!("{name} of {dtype:?} {choice:?} on {:?}", device.location());
    let inputs = Tensors::random(choice, dtype, random)?;
    let dy = random.tensor(choice.shape.clone(), dtype, 0.2, 1.)?;

    let wide = |t: &Tensor| -> Result<Tensor> {
        let t = t
            .to_device(&Device::Cpu)?
            .contiguous()?
            .to_dtype(DType::F64)?;
        Ok(Var::from_tensor(&t)?.as_tensor().clone())
    };
    let exact = inputs.map(wide)?;
    let want = composed(choice, &exact)?;
    let grads = (&want * wide(&dy)?.detach())?.sum_all()?.backward()?;

    let y = fused(choice, &inputs).forward(&inputs.x)?;
    assert_eq!(y.dtype(), dtype, "{}", what("y"));
    let mut tol = Tolerance::of(dtype);
    tol.atol *= 3.;
    assert_close(&what("y"), &y, &want, tol);

    // Variables are contiguous: one in the order of a channels-last tensor's memory, seen as it is.
    let mut vars = vec![];
    let tracked = inputs.map(|t| {
        let planar = t.is_contiguous();
        let var = Var::from_tensor(&if planar { t.clone() } else { last(t)? })?;
        vars.push(var.clone());
        Ok(if planar {
            var.as_tensor().clone()
        } else {
            first(&var)?
        })
    })?;
    let y = fused(choice, &tracked).forward(&tracked.x)?;
    assert_close(&what("tracked y"), &y, &want, tol);
    assert_eq!(
        y.is_contiguous(),
        !choice.channels_last,
        "{}",
        what("layout")
    );
    let got = (&y * &dy)?.sum_all()?.backward()?;
    let direct = fused(choice, &inputs).backward(&inputs.x, &dy)?;
    let mut of_direct = vec![Some(direct.x), direct.weight, direct.bias, direct.residual];
    let (mean, rstd) = direct.stats.unzip();
    of_direct.extend([mean, rstd]);
    let mut of_direct = of_direct.into_iter().flatten();
    for ((name, exact), var) in exact.list().into_iter().zip(&vars) {
        let want = grads.get(exact).expect("a gradient in candle's ops");
        let got = got.get(var).unwrap_or_else(|| panic!("{}", what(name)));
        assert_eq!(got.dtype(), var.dtype(), "{}", what(name));
        let view = if got.dims() == want.dims() {
            got.clone()
        } else {
            first(got)?
        };
        // Sums over many elements keep the error of their terms.
        let terms = (dy.elem_count() / want.elem_count()).max(1) as f64;
        let scale = 3. * max_abs(want).max(terms.sqrt()).max(1.);
        assert_close(
            &what(name),
            &view,
            want,
            Tolerance::of(var.dtype()).scaled(scale),
        );
        // Called directly: the same bits as on the graph.
        let direct = of_direct.next().unwrap_or_else(|| panic!("{}", what(name)));
        assert!(
            common::to_f64(&direct) == common::to_f64(&view),
            "direct {}",
            what(name)
        );
    }
    assert!(of_direct.next().is_none());

    // In place: the same bits as in a new tensor, in the memory of x.
    let x = match choice.channels_last {
        true => first(&last(&inputs.x)?.copy()?)?,
        false => inputs.x.copy()?,
    };
    fused(choice, &inputs).forward_in_place(&x)?;
    assert_eq!(
        common::to_f64(&x),
        common::to_f64(&y),
        "{}",
        what("in place")
    );
    Ok(())
}

fn combinations(device: &Device) -> Result<()> {
    let (mut rng, mut random) = (StdRng::seed_from_u64(77), Random::new(77, device));
    let count = if device.is_cpu() { 400 } else { 120 };
    let dtypes = common::on(device, &DTYPES);
    for i in 0..count {
        let choice = Choice::random(&mut rng);
        let dtype = dtypes[i % dtypes.len()];
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1 + i % 3)
            .build()?;
        pool.install(|| check(&choice, dtype, &mut random, device))?;
    }
    Ok(())
}

test_device!(combinations, combinations_cpu, combinations_cuda);

/// Content and style of other sizes, each convention, values and both gradients.
fn styles(device: &Device) -> Result<()> {
    let mut random = Random::new(78, device);
    for (i, &(content, style)) in [
        (&[2usize, 3, 5, 7][..], &[2usize, 3, 40][..]),
        (&[2, 3, 31], &[1, 3, 4, 9]),
        (&[1, 4, 90, 91], &[1, 4, 64, 64]),
    ]
    .iter()
    .enumerate()
    {
        for dtype in common::on(device, &DTYPES) {
            let modes = [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar];
            for (mode, alpha) in modes.into_iter().zip([1., 0.4, 0.7]) {
                let config = AdaInConfig {
                    correction: i as u32 % 2,
                    eps: EPS,
                    eps_mode: mode,
                    alpha,
                };
                let (c, s) = (
                    random.tensor(content, dtype, 1., 2.)?,
                    random.tensor(style, dtype, -3., 0.5)?,
                );
                let dy = random.tensor(content, dtype, 0.1, 1.)?;
                let (c, s) = (Var::from_tensor(&c)?, Var::from_tensor(&s)?);
                let y = adain(&c, &s, &config)?;
                let grads = (&y * &dy)?.sum_all()?.backward()?;

                let wide = |t: &Tensor| -> Result<Var> {
                    let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                    Ok(Var::from_tensor(&t.detach())?)
                };
                let (wc, ws) = (wide(&c)?, wide(&s)?);
                let moments = |t: &Tensor| -> Result<(Tensor, Tensor)> {
                    let t = t.flatten_from(2)?;
                    let len = t.dim(2)? as f64;
                    let mean = t.mean_keepdim(2)?;
                    let var = t.broadcast_sub(&mean)?.sqr()?.sum_keepdim(2)?;
                    let var = (var / (len - config.correction as f64))?;
                    let std = match mode {
                        EpsMode::AddToVar => (var + EPS)?.sqrt()?,
                        EpsMode::AddToStd => (var.sqrt()? + EPS)?,
                        EpsMode::MaxWithVar => var.maximum(EPS)?.sqrt()?,
                    };
                    Ok((mean, std))
                };
                let ((cm, cs), (sm, ss)) = (moments(&wc)?, moments(&ws)?);
                let t = wc.flatten_from(2)?.broadcast_sub(&cm)?.broadcast_div(&cs)?;
                let t = t.broadcast_mul(&ss)?.broadcast_add(&sm)?;
                let want = ((t * alpha)? + (wc.flatten_from(2)? * (1. - alpha))?)?;
                let want = want.reshape(content)?;
                let exact = (&want * wide(&dy)?.detach())?.sum_all()?.backward()?;
                let what =
                    |name: &str| format!("{name} {dtype:?} {content:?} {style:?} {config:?}");
                assert_close(&what("y"), &y, &want, Tolerance::of(dtype).scaled(3.));
                for (name, got, want) in [("content", &c, &wc), ("style", &s, &ws)] {
                    let want = exact.get(want).expect("a gradient");
                    let tol = Tolerance::of(dtype).scaled(5. * max_abs(want).max(1.));
                    assert_close(&what(name), grads.get(got).expect("ours"), want, tol);
                }
            }
        }
    }
    Ok(())
}

test_device!(styles, styles_cpu, styles_cuda);

/// The statistics, their gradients, and a channels-last x.
fn statistics(device: &Device) -> Result<()> {
    let mut random = Random::new(79, device);
    for channels_last in [false, true] {
        let x = random.tensor((2, 5, 7, 6), DType::F64, 3., 2.)?;
        let x = if channels_last {
            x.permute((0, 3, 1, 2))?
        } else {
            x
        };
        let x = Var::from_tensor(&x)?;
        let (mean, rstd) = instance_stats(&x, EPS)?;
        let flat = x.contiguous()?.flatten_from(2)?;
        let want_mean = flat.mean_keepdim(2)?;
        let var = flat.broadcast_sub(&want_mean)?.sqr()?.mean_keepdim(2)?;
        let want_rstd = (var + EPS)?.sqrt()?.recip()?;
        let (want_mean, want_rstd) = (want_mean.squeeze(2)?, want_rstd.squeeze(2)?);
        let tol = Tolerance::of(DType::F64).scaled(10.);
        assert_close("mean", &mean, &want_mean, tol);
        assert_close("rstd", &rstd, &want_rstd, tol);
        let loss =
            |m: &Tensor, r: &Tensor| -> Result<Tensor> { Ok((m.sin()? * r.sqr()?)?.sum_all()?) };
        let got = loss(&mean, &rstd)?.backward()?;
        let want = loss(&want_mean, &want_rstd)?.backward()?;
        assert_close("dx", got.get(&x).unwrap(), want.get(&x).unwrap(), tol);
    }
    Ok(())
}

test_device!(f64: statistics, statistics_cpu, statistics_cuda);
