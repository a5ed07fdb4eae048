//! Calls of every kind in shapes that reach every kernel, and what they should give.

use super::shim::{Memory, Shim};
use crate::cpu;
use crate::gpu::{bwd, fwd};
use crate::shapes::{Format, ParamShape, ParamSpec, Planes, is_half};
use crate::spec::{
    Activation, EpsMode, Extras, GradMask, Gradients, NormSpec, Output, RstdRule, ScaleStat, View,
};
use candle_core::{CpuStorage, DType, Error, Layout, Result, Shape};
use half::{bf16, f16};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Normal};
use std::ops::Range;

/// `(N, C, vectors of 16 bytes and elements more)` of planes, and the groups of C. Between them they
/// take all sizes of the tiers of lanes and of threadgroups, parts of a simdgroup and of a
/// threadgroup, in one go and in several, and, channels-last, one and several threadgroups side by
/// side with one and several vectors of channels.
const TABLE: [(usize, usize, (usize, usize), usize); SHAPES] = [
    (2, 3, (0, 1), 3),
    (3, 4, (1, 3), 2),
    (1, 5, (20, 0), 1),
    (2, 6, (32, 2), 3),
    (2, 3, (60, 0), 3),
    (2, 2, (117, 1), 1),
    (1, 3, (250, 0), 1),
    (2, 2, (201, 1), 2),
    (2, 2, (600, 1), 1),
    (1, 3, (719, 1), 3),
    (2, 1, (1500, 0), 1),
    (1, 3, (1733, 1), 1),
    (1, 2, (4200, 0), 2),
    (1, 1, (9000, 1), 1),
    (1, 36, (512, 0), 4),
    (2, 129, (8, 1), 43),
    (1, 264, (25, 0), 8),
    (5, 40, (2, 1), 1),
    (1, 1, (34_000, 1), 1),
    (1, 37, (4, 3), 37),
    (3, 11, (7, 0), 11),
    (1, 65, (15, 1), 5),
];
const SHAPES: usize = 22;
/// Cases of the table: each shape plain, and with several choices.
pub const ALL: usize = 4 * SHAPES;
/// The cases that reach every kernel.
pub const SOME: usize = 2 * SHAPES;
/// Cases behind the table: planes of 1 to 64 elements.
pub const SMALL: Range<usize> = ALL..ALL + 64;

/// A tensor: its storage, and how it lies in that.
struct Data {
    storage: Memory,
    layout: Layout,
}

impl Data {
    fn view(&self) -> View<'_, Memory> {
        (&self.storage, &self.layout)
    }
}

/// A tensor in f64.
fn wide(data: &Data) -> (CpuStorage, Layout) {
    (data.storage.wide(), data.layout.clone())
}

/// The source that cases are drawn from.
struct Source {
    rng: StdRng,
    dtype: DType,
    planes: Planes,
    format: Format,
}

impl Source {
    fn memory(&mut self, dtype: DType, len: usize, mean: f64, std: f64) -> Memory {
        let normal = Normal::new(mean, std).expect("a deviation of 0 or more");
        Memory::new(dtype, normal.sample_iter(&mut self.rng).take(len))
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.random_range(0..choices.len())]
    }

    fn sometimes(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A tensor of the size and format of x: whole or from some element on, or, of planes, narrowed
    /// in N and C or one sample for all.
    fn like_x(&mut self, mean: f64, std: f64) -> Data {
        let Planes { n, c, spatial: s } = self.planes;
        let start = self.one_of(&[0, 0, 1, 3, 8]);
        let (layout, len) = match (self.format, self.rng.random_range(0..4)) {
            (Format::ChannelsLast, _) => {
                let shape = Shape::from((n, s, c));
                (Layout::contiguous_with_offset(shape, start), n * c * s)
            }
            (Format::Planar, 0) => {
                let (of_n, shape) = ((c + 2) * s, Shape::from((n, c, s)));
                let layout = Layout::new(shape, vec![of_n, s, 1], start + of_n + s);
                (layout, (n + 1) * of_n)
            }
            (Format::Planar, 1) => {
                let layout = Layout::new(Shape::from((n, c, s)), vec![0, s, 1], start);
                (layout, c * s)
            }
            (Format::Planar, _) => {
                let shape = Shape::from((n, c, s));
                (Layout::contiguous_with_offset(shape, start), n * c * s)
            }
        };
        let storage = self.memory(self.dtype, start + len, mean, std);
        Data { storage, layout }
    }

    /// A parameter per channel or per sample, of the dtype of x or f32.
    fn param(&mut self, mean: f64, std: f64) -> (Data, ParamSpec) {
        let shape = self.one_of(&[ParamShape::PerChannel, ParamShape::PerSample]);
        let dtype = self.one_of(&[self.dtype, DType::F32]);
        let (n, c) = (self.planes.n, self.planes.c);
        let dims = match shape {
            ParamShape::PerChannel => Shape::from(c),
            _ => Shape::from((n, c)),
        };
        let start = self.one_of(&[0, 1, 5]);
        let storage = self.memory(dtype, start + dims.elem_count(), mean, std);
        let layout = Layout::contiguous_with_offset(dims, start);
        (Data { storage, layout }, ParamSpec { shape, dtype })
    }

    fn param_or_elements(&mut self, per_element: bool, mean: f64, std: f64) -> (Data, ParamSpec) {
        if !per_element {
            return self.param(mean, std);
        }
        let (shape, dtype) = (ParamShape::PerElement, self.dtype);
        (self.like_x(mean, std), ParamSpec { shape, dtype })
    }
}

/// A call, and the relative error that it may have in f32.
struct Case {
    what: String,
    spec: NormSpec,
    stat: ScaleStat,
    x: Data,
    extras: Extras<Data>,
    dy: Data,
    wanted: GradMask,
    cores: usize,
    bound: f64,
}

impl Case {
    fn draw(dtype: DType, index: usize, seed: u64) -> Self {
        // One plane more than a threadgroup has where each takes the fewest lanes.
        let small = (3, 11, (0, index.saturating_sub(ALL) + 1), 11);
        let table = TABLE[index % SHAPES];
        let (n, c, (vectors, more), groups) = if index < ALL { table } else { small };
        let spatial = vectors * (16 / dtype.size_in_bytes()) + more;
        let mut rng = StdRng::seed_from_u64(seed);
        let plain = index < SHAPES;
        let format = match !plain && rng.random_bool(0.4) {
            true => Format::ChannelsLast,
            false => Format::Planar,
        };
        let planes = Planes { n, c, spatial };
        let mut from = Source {
            rng,
            dtype,
            planes,
            format,
        };
        // The first time around, each shape is as plain as can be.
        let often = |p: f64| if plain { 0. } else { p };
        let channels_per_group = match from.sometimes(often(0.4)) {
            true => c / groups,
            false => 1,
        };
        let given = from.sometimes(often(0.2));
        let per_element = from.sometimes(often(0.3));
        let of_set = channels_per_group * spatial;
        let output = match from.sometimes(often(0.1)) && !given && !per_element {
            true => Output::StatsGradient(from.one_of(&[
                ScaleStat::Var,
                ScaleStat::Std,
                ScaleStat::Rstd,
            ])),
            false => Output::Normalized,
        };
        let bare = output != Output::Normalized;
        let activation = match plain || bare {
            true => Activation::None,
            false => from.one_of(&[
                Activation::None,
                Activation::Relu,
                Activation::LeakyRelu(0.1),
                Activation::Silu,
            ]),
        };
        let modes = [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar];
        let spec = NormSpec {
            planes,
            format,
            channels_per_group,
            rule: RstdRule {
                eps: from.one_of(&[1e-5, 1e-2]),
                mode: from.one_of(&modes),
                correction: (of_set > 1 && from.sometimes(0.5)) as u32,
            },
            weight_offset: from.sometimes(0.3) as u32 as f64,
            alpha: match from.sometimes(often(0.3)) && !per_element && !bare {
                true => 0.4,
                false => 1.,
            },
            activation,
            output,
        };
        // An f32 rounds a mean of 1e4 by 5e-4, 5e-2 of a deviation of 1e-2; half types keep none.
        let (mean, std, bound) = match (dtype, activation) {
            (DType::F32, Activation::None) if !given && spec.alpha == 1. => from.one_of(&[
                (0., 1., 2e-6),
                (1e4, 1., 1e-5),
                (1e4, 1e-2, 1e-4),
                (0.1, 0., 2e-6),
            ]),
            _ => from.one_of(&[(0., 1., 4e-6), (2., 1., 4e-6)]),
        };
        let x = from.like_x(mean, std);
        let dy = from.like_x(0.25, 1.);
        let weight = from.param_or_elements(per_element, 0.8, 0.3);
        let bias = from.param_or_elements(per_element, 0., 0.3);
        let weight = (bare || from.sometimes(0.7)).then_some(weight);
        let bias = (bare || from.sometimes(0.7)).then_some(bias);
        let residual = from.sometimes(often(0.4)) && !bare;
        let residual = residual.then(|| from.like_x(0., 1.));
        let stats = given.then(|| [from.param(1.5, 0.3), from.param(1., 0.3)]);
        let asked = |param: &Option<(Data, ParamSpec)>, asked: bool| {
            param.as_ref().map(|(_, p)| *p).filter(|_| asked)
        };
        let of_bias = bias.as_ref().map(|(_, p)| *p);
        let element_bias = of_bias.is_some_and(|p| p.is_per_element());
        let wanted = GradMask {
            x: from.sometimes(0.8),
            weight: asked(&weight, from.sometimes(0.8)),
            bias: of_bias.filter(|_| !element_bias && from.sometimes(0.8)),
            v: (residual.is_some() || element_bias) && activation != Activation::None,
            mean: stats.as_ref().map(|s| s[0].1),
            rstd: stats.as_ref().map(|s| s[1].1),
        };
        let what = format!(
            "{dtype:?} case {index} seed {seed}: mean {mean:e} std {std:e} {spec:?} {wanted:?}"
        );
        let extras = Extras {
            weight: weight.map(|w| w.0),
            bias: bias.map(|b| b.0),
            residual,
            stats: stats.map(|s| s.map(|s| s.0)),
        };
        Self {
            what,
            spec,
            stat: from.one_of(&[ScaleStat::Var, ScaleStat::Std, ScaleStat::Rstd]),
            x,
            extras,
            dy,
            wanted,
            // On a single core the tiers on chip take all that they hold.
            cores: if plain { 1 } else { from.one_of(&[1, 8, 40]) },
            bound,
        }
    }

    /// The input of the activation, in f64.
    fn before_activation(&self) -> Result<Vec<f64>> {
        let spec = NormSpec {
            activation: Activation::None,
            ..self.spec
        };
        let (x, extras) = (wide(&self.x), self.wide_extras());
        values(&cpu::forward((&x.0, &x.1), &views(&extras), &spec)?)
    }

    /// True if no element is so near to the kink of the activation that rounding decides the side.
    fn is_decided(&self) -> Result<bool> {
        let kinks = matches!(
            self.spec.activation,
            Activation::Relu | Activation::LeakyRelu(_)
        );
        let near = |v: &f64| *v != 0. && v.abs() < 4e-6;
        Ok(!kinks || !self.before_activation()?.iter().any(near))
    }

    fn wide_extras(&self) -> Extras<(CpuStorage, Layout)> {
        self.extras.with(self.extras.list().into_iter().map(wide))
    }

    fn check(&self, shim: &Shim) -> Result<()> {
        let gpu = shim.with_cores(self.cores);
        let list = self.extras.list().into_iter().map(Data::view);
        let (view, extras) = (self.x.view(), self.extras.with(list));
        let (wide_x, wide_extras) = (wide(&self.x), self.wide_extras());
        let (wide_x, wide_extras) = ((&wide_x.0, &wide_x.1), views(&wide_extras));
        let y = fwd::forward(gpu, view, &extras, &self.spec)?;
        let want = values(&cpu::forward(wide_x, &wide_extras, &self.spec)?)?;
        self.compare("y", &y, &want, 1)?;

        let x = &self.x;
        if x.layout.is_contiguous() {
            let (mut in_place, layout) = (x.storage.clone(), &x.layout);
            fwd::forward_in_place(gpu, &mut in_place, layout, &extras, &self.spec)?;
            let (start, end) = layout.contiguous_offsets().expect("contiguous");
            let mut whole = x.storage.to_f64();
            whole.splice(start..end, y.to_f64());
            // Bit for bit, though the threads came in another order.
            if in_place.to_f64() != whole {
                return Err(Error::Msg(format!("{}: differs in place", self.what)));
            }
        }
        if self.spec.output != Output::Normalized {
            return Ok(());
        }
        // Statistics alone are asked for of planes, never of groups.
        if self.extras.stats.is_none() && self.spec.channels_per_group == 1 {
            let got = fwd::stats(gpu, view, &self.spec, self.stat)?;
            let want = values(&cpu::stats(wide_x, &self.spec, self.stat)?)?;
            self.compare("statistics", &got, &want, 1)?;
        }
        let backward =
            || bwd::backward(gpu, view, &extras, self.dy.view(), &self.spec, &self.wanted);
        let got = backward()?;
        let bits = |g: Gradients<Memory>| {
            [g.x, g.weight, g.bias, g.v, g.mean, g.rstd].map(|m| m.map(|m| m.to_f64()))
        };
        let (dy, in_f64) = (wide(&self.dy), |p: ParamSpec| ParamSpec {
            dtype: DType::F64,
            ..p
        });
        let wanted = GradMask {
            weight: self.wanted.weight.map(in_f64),
            bias: self.wanted.bias.map(in_f64),
            mean: self.wanted.mean.map(in_f64),
            rstd: self.wanted.rstd.map(in_f64),
            ..self.wanted
        };
        let want = cpu::backward(wide_x, &wide_extras, (&dy.0, &dy.1), &self.spec, &wanted)?;
        self.compare_gradients(&got, &want)?;
        if bits(got) != bits(backward()?) {
            return Err(Error::Msg(format!("{}: gradients differ", self.what)));
        }
        Ok(())
    }

    fn compare_gradients(
        &self,
        got: &Gradients<Memory>,
        want: &Gradients<CpuStorage>,
    ) -> Result<()> {
        for (name, got, want) in [
            ("dx", &got.x, &want.x),
            ("dweight", &got.weight, &want.weight),
            ("dbias", &got.bias, &want.bias),
            ("dv", &got.v, &want.v),
            ("dmean", &got.mean, &want.mean),
            ("drstd", &got.rstd, &want.rstd),
        ] {
            match (got, want) {
                (Some(got), Some(want)) => {
                    let want = values(want)?;
                    let terms = self.spec.planes.elements() / want.len();
                    self.compare(name, got, &want, terms)?;
                }
                (None, None) => {}
                _ => return Err(Error::Msg(format!("{}: {name} is there", self.what))),
            }
        }
        Ok(())
    }

    /// An error unless each number is within the bound, in terms of the largest; a sum of many terms
    /// keeps their errors, which add up like a random walk. Half types add one rounding.
    fn compare(&self, name: &str, got: &Memory, want: &[f64], terms: usize) -> Result<()> {
        let dtype = got.dtype();
        let got = got.to_f64();
        assert_eq!(got.len(), want.len(), "{}: {name}", self.what);
        let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        let scale = largest.max((terms as f64).sqrt());
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let allowed = self.bound * scale + rounding(*want, dtype);
            // No comparison holds for NaN, which is right nowhere here.
            if (got - want).abs() <= allowed {
                continue;
            }
            return Err(Error::Msg(format!(
                "{}: {name}: number {i} is {got:e} and should be {want:e}, {} times what is allowed",
                self.what,
                (got - want).abs() / allowed,
            )));
        }
        Ok(())
    }
}

fn views(extras: &Extras<(CpuStorage, Layout)>) -> Extras<View<'_, CpuStorage>> {
    extras.with(extras.list().into_iter().map(|(s, l)| (s, l)))
}

fn values(storage: &CpuStorage) -> Result<Vec<f64>> {
    Ok(storage.as_slice::<f64>()?.to_vec())
}

/// The most that one rounding of `v` to a half type moves it: half an ulp.
fn rounding(v: f64, dtype: DType) -> f64 {
    let (digits, least) = match dtype {
        DType::F16 => (f16::MANTISSA_DIGITS, f16::MIN_POSITIVE.to_f64()),
        DType::BF16 => (bf16::MANTISSA_DIGITS, bf16::MIN_POSITIVE.to_f64()),
        _ => return 0.,
    };
    let exponent = v.abs().max(least).log2().floor();
    2f64.powi(exponent as i32 - digits as i32)
}

/// Runs these cases for a dtype.
pub fn table(shim: &Shim, dtype: DType, cases: Range<usize>) -> Result<()> {
    debug_assert!(dtype == DType::F32 || is_half(dtype));
    for index in cases {
        let mut seed = index as u64;
        let mut case = Case::draw(dtype, index, seed);
        while !case.is_decided()? {
            seed += SMALL.end as u64;
            case = Case::draw(dtype, index, seed);
        }
        case.check(shim)?;
    }
    Ok(())
}
