//! The CUDA backend against the CPU backend: every choice of `Normalization` on tensors of any
//! offsets and strides, in shapes that reach every tier.

use crate::common::reference::Random;
use crate::common::{Tolerance, assert_close, max_abs};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::{Activation, EpsMode, Normalization, PlaneStats};
use rand::{Rng, SeedableRng, rngs::StdRng};

const EPS: f64 = 1e-2;

/// `(N, C, S)` and the groups of C. Between them they take the warp tier, the block tier, parts of
/// a warp and of a block, parts that a block takes in several goes, and, channels-last, one and
/// several blocks side by side with one and several vectors of channels.
const SHAPES: [((usize, usize, usize), usize); 9] = [
    ((3, 4, 7), 2),
    ((2, 6, 130), 3),
    ((2, 5, 1029), 1),
    ((1, 36, 2048), 4),
    ((3, 2, 8209), 1),
    ((1, 3, 20_011), 3),
    // 135 is 7 more than a multiple of 8: all but one of the last vector.
    ((2, 135, 33), 45),
    ((1, 264, 100), 8),
    ((1, 1, 70_001), 1),
];

/// The layout of a tensor in its storage.
#[derive(Debug, Clone, Copy)]
enum View {
    Whole,
    /// Contiguous, this many elements from the start.
    Offset(usize),
    /// A part of the samples and channels of a larger tensor.
    Narrow,
    /// One sample for all.
    Expanded,
    /// Channels last, this many elements from the start.
    Last(usize),
}

impl View {
    /// A random layout; `last` asks for channels last.
    fn random(rng: &mut StdRng, last: bool) -> Self {
        let offset = [0, 1, 3, 8][rng.random_range(0..4)];
        match rng.random_range(0..4) {
            _ if last => Self::Last(offset),
            0 => Self::Whole,
            1 => Self::Offset(offset),
            2 => Self::Narrow,
            _ => Self::Expanded,
        }
    }

    fn tensor(
        self,
        (n, c, s): (usize, usize, usize),
        dtype: DType,
        mean: f64,
        random: &mut Random,
    ) -> Result<Tensor> {
        let mut flat = |len| random.tensor(len, dtype, mean, 1.);
        Ok(match self {
            Self::Whole => flat(n * c * s)?.reshape((n, c, s))?,
            Self::Offset(by) => flat(by + n * c * s)?
                .narrow(0, by, n * c * s)?
                .reshape((n, c, s))?,
            Self::Narrow => flat((n + 1) * (c + 2) * s)?
                .reshape((n + 1, c + 2, s))?
                .narrow(0, 1, n)?
                .narrow(1, 1, c)?,
            Self::Expanded => flat(c * s)?.reshape((1, c, s))?.broadcast_as((n, c, s))?,
            Self::Last(by) => flat(by + n * c * s)?
                .narrow(0, by, n * c * s)?
                .reshape((n, s, c))?
                .transpose(1, 2)?,
        })
    }
}

/// All the tensors of a call; the absent are `None`.
struct Tensors {
    x: Tensor,
    dy: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    residual: Option<Tensor>,
    stats: Option<(Tensor, Tensor)>,
}

impl Tensors {
    fn to(&self, device: &Device) -> Result<Self> {
        let to = |t: &Tensor| -> Result<Tensor> { Ok(t.to_device(device)?.contiguous()?) };
        let some = |t: &Option<Tensor>| t.as_ref().map(to).transpose();
        let stats = self.stats.as_ref();
        Ok(Self {
            x: to(&self.x)?,
            dy: to(&self.dy)?,
            weight: some(&self.weight)?,
            bias: some(&self.bias)?,
            residual: some(&self.residual)?,
            stats: stats
                .map(|(m, r)| Ok::<_, anyhow::Error>((to(m)?, to(r)?)))
                .transpose()?,
        })
    }

    /// y and all gradients, by name.
    fn results(&self, norm: &Normalization) -> Result<Vec<(&'static str, Tensor)>> {
        let mut norm = norm.clone();
        for (param, set) in [
            (&self.weight, Normalization::weight as fn(_, &Tensor) -> _),
            (&self.bias, Normalization::bias),
            (&self.residual, Normalization::residual),
        ] {
            if let Some(param) = param {
                norm = set(norm, param);
            }
        }
        if let Some((mean, rstd)) = self.stats.clone() {
            norm = norm.stats(&PlaneStats { mean, rstd });
        }
        let y = norm.forward(&self.x)?;
        let grads = norm.backward(&self.x, &self.dy)?;
        let (mean, rstd) = grads.stats.map(|s| (s.mean, s.rstd)).unzip();
        let all = [
            ("y", Some(y)),
            ("dx", Some(grads.x)),
            ("dweight", grads.weight),
            ("dbias", grads.bias),
            ("dresidual", grads.residual),
            ("dmean", mean),
            ("drstd", rstd),
        ];
        Ok(all
            .into_iter()
            .filter_map(|(name, t)| Some((name, t?)))
            .collect())
    }
}

fn check(i: usize, rng: &mut StdRng, random: &mut Random) -> Result<()> {
    // Every kernel with every activation, whichever way its memory lies.
    let (shape, groups) = SHAPES[i % SHAPES.len()];
    let (n, c, _) = shape;
    let dtype = [DType::F32, DType::F16, DType::BF16, DType::F64][(i / SHAPES.len()) % 4];
    let last = i / (SHAPES.len() * 16) == 1;
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu(0.1),
        Activation::Silu,
    ];
    let modes = [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar];
    let grouped = rng.random_bool(0.4);
    let mut norm = if grouped {
        Normalization::group(groups, EPS)
    } else {
        Normalization::instance(EPS)
    };
    let (per_element, given) = (rng.random_bool(0.5), rng.random_bool(0.3));
    norm = norm
        .activation(activations[(i / (SHAPES.len() * 4)) % 4])
        .eps_mode(modes[rng.random_range(0..3)])
        .correction(rng.random_range(0..2));
    if rng.random_bool(0.5) {
        norm = norm.one_plus_weight();
    }
    if !per_element && !given && rng.random_bool(0.3) {
        norm = norm.blend(0.4);
    }
    let view = View::random(rng, last);
    let wide = if matches!(dtype, DType::F16 | DType::BF16) && rng.random_bool(0.4) {
        DType::F32
    } else {
        dtype
    };
    // Digits of a large mean that an f32 has not.
    let mean = if dtype == DType::F32 && !given && rng.random_bool(0.4) {
        1e4
    } else {
        2.
    };
    let mut like_x = |mean, random: &mut Random| -> Result<Tensor> {
        View::random(rng, last).tensor(shape, dtype, mean, random)
    };
    let x = view.tensor(shape, dtype, mean, random)?;
    let (dy, residual) = (like_x(0., random)?, like_x(0., random)?);
    let elements = [like_x(0.8, random)?, like_x(0., random)?];
    let of_params = |mean, rng: &mut StdRng, random: &mut Random| {
        if rng.random_bool(0.5) {
            random.tensor(c, wide, mean, 0.3)
        } else {
            random.tensor((n, c), wide, mean, 0.3)
        }
    };
    let [weight, bias] = match (per_element, elements) {
        (true, elements) => elements,
        _ => [of_params(0.8, rng, random)?, of_params(0., rng, random)?],
    };
    let stats = (of_params(1.5, rng, random)?, of_params(1., rng, random)?);
    let inputs = Tensors {
        x,
        dy,
        weight: rng.random_bool(0.7).then_some(weight),
        bias: rng.random_bool(0.7).then_some(bias),
        residual: rng.random_bool(0.4).then_some(residual),
        stats: given.then_some(stats),
    };
    let what = format!(
        "{i}: {dtype:?} {shape:?} {view:?} of {groups} groups ({grouped}), {per_element}, {norm:?}"
    );
    let got = inputs.results(&norm)?;
    let want = inputs.to(&Device::Cpu)?.results(&norm)?;
    assert_eq!(got.len(), want.len(), "{what}");
    for ((name, got), (of, want)) in got.iter().zip(&want) {
        let what = format!("{what}: {name}");
        assert_eq!(
            (name, got.dims(), got.dtype()),
            (of, want.dims(), want.dtype()),
            "{what}"
        );
        // Two roundings apart at most; sums over many elements keep the error of their terms.
        let terms = (inputs.dy.elem_count() / want.elem_count()).max(1) as f64;
        let tol = Tolerance::of(dtype).scaled(3. * max_abs(want).max(terms.sqrt()).max(1.));
        let tol = Tolerance {
            rtol: 2. * tol.rtol,
            ..tol
        };
        assert_close(&what, got, want, tol);
    }
    Ok(())
}

fn combinations(device: &Device) -> Result<()> {
    let (mut rng, mut random) = (StdRng::seed_from_u64(5), Random::rough(5, device));
    for i in 0..2 * 4 * 4 * SHAPES.len() {
        check(i, &mut rng, &mut random)?;
    }
    Ok(())
}

test_device!(cuda: combinations);

/// Far out, SiLU is x or 0, and its derivative 1 or 0: no exponential overflows.
fn silu_far_out(device: &Device) -> Result<()> {
    let mut random = Random::new(6, device);
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        for (shape, _) in [SHAPES[0], SHAPES[2], SHAPES[4], SHAPES[6]] {
            for last in [false, true] {
                let view = if last { View::Last(0) } else { View::Whole };
                let inputs = Tensors {
                    x: view.tensor(shape, dtype, 0., &mut random)?,
                    dy: view.tensor(shape, dtype, 0., &mut random)?,
                    weight: Some(Tensor::full(2000f32, shape.1, device)?.to_dtype(dtype)?),
                    bias: None,
                    residual: None,
                    stats: None,
                };
                let norm = Normalization::instance(EPS).activation(Activation::Silu);
                let got = inputs.results(&norm)?;
                let want = inputs.to(&Device::Cpu)?.results(&norm)?;
                for ((name, got), (_, want)) in got.iter().zip(&want) {
                    let what = format!("{name} of {dtype:?} {shape:?} {last}");
                    assert!(max_abs(want).is_finite(), "{what}");
                    // Two roundings apart at most.
                    let tol = Tolerance::of(dtype).scaled(10. * max_abs(want));
                    let rtol = 2. * tol.rtol;
                    assert_close(&what, got, want, Tolerance { rtol, ..tol });
                }
            }
        }
    }
    Ok(())
}

test_device!(cuda: silu_far_out);
