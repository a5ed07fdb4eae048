//! The timed ops: each op of this crate, and the same composed of other ops.
//!
//! - `instance_norm`, `_affine`: `candle_nn::GroupNorm` with a group per channel.
//! - `planes`: instance norm of 2^24 elements in planes of 16 to 2^20.
//! - `group_norm`: `candle_nn::GroupNorm` with 32 groups; `_silu` followed by candle's `silu`.
//! - `relu_residual`: instance norm, residual and ReLU in one pass, beside the three apart: our
//!   `instance_norm`, then candle's `+` and `relu`.
//! - `adain`: candle's ops for the same formula.
//! - `conditional`, `spade`: parameters per sample and per element in the pass, beside
//!   `instance_norm` and candle's `*` and `+`.
//! - `stats`, `with_stats`: the statistics alone, and norms with given ones, beside candle's ops.
//! - `in_place`: instance norm over x itself, beside a copy within memory that is there already (of
//!   candle's, into one half of a tensor from the other).
//! - `channels_last`: instance norm of a channels-last x, beside that of a planar copy of it.

use candle_core::{DType, Device, Result, Tensor};
use candle_instance_norm::{
    Activation, AdaInConfig, Normalization, adain, instance_norm, instance_norm_with_stats,
    instance_stats,
};
use candle_nn::{GroupNorm, Module};

const EPS: f64 = 1e-5;
const GROUPS: usize = 32;

pub type Forward = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// An op with its parameters, made for a shape.
pub struct Op {
    pub ours: Forward,
    pub composed: Forward,
    /// The normalization, whose backward pass is timed alone; `None` if that is not possible.
    pub backward: Option<Normalization>,
    /// Tensors of the size of x that a perfect kernel moves forward and backward; 0 where nothing
    /// can be differentiated.
    pub moved: [usize; 2],
}

pub struct Row {
    pub op: &'static str,
    pub build: fn(&Tensor) -> Result<Op>,
    pub shapes: &'static [&'static [usize]],
}

/// The rows with public figures come first, since a time limit may cut a run short.
pub const ROWS: [Row; 13] = [
    Row {
        op: "instance_norm",
        build: plain,
        shapes: &[
            &[32, 256, 56, 56],
            &[1, 64, 14, 14],
            &[1, 128, 28, 28],
            &[1, 64, 256, 256],
            &[1, 128, 128, 128],
            &[8, 256, 64, 64],
            &[1, 32, 512, 512],
            &[4, 512, 16, 16],
            &[20, 100, 35, 45],
            &[1, 32, 64, 64, 64],
            &[1, 3, 2160, 3840],
            &[16, 256, 7, 7],
        ],
    },
    Row {
        op: "instance_norm_affine",
        build: affine,
        shapes: &[&[32, 256, 56, 56], &[8, 256, 64, 64]],
    },
    Row {
        op: "group_norm",
        build: group_norm,
        shapes: &[&[32, 256, 56, 56], &[2, 320, 64, 64], &[1, 128, 512, 512]],
    },
    Row {
        op: "group_norm_silu",
        build: group_norm_silu,
        shapes: &[
            &[1, 512, 16, 90, 160],
            &[1, 128, 20, 256, 256],
            &[2, 320, 64, 64],
            &[1, 128, 512, 512],
        ],
    },
    Row {
        op: "planes",
        build: plain,
        shapes: &[
            &[1, 1 << 20, 16],
            &[1, (1 << 24) / 49, 49],
            &[1, 1 << 18, 64],
            &[1, (1 << 24) / 196, 196],
            &[1, 1 << 16, 256],
            &[1, (1 << 24) / 784, 784],
            &[1, 1 << 14, 1024],
            &[1, (1 << 24) / 3136, 3136],
            &[1, 1 << 12, 4096],
            &[1, 1 << 10, 16_384],
            &[1, 1 << 8, 65_536],
            &[1, 1 << 6, 262_144],
            &[1, 1 << 4, 1 << 20],
        ],
    },
    Row {
        op: "relu_residual",
        build: relu_residual,
        shapes: &[&[1, 128, 64, 64], &[1, 64, 256, 256], &[8, 256, 64, 64]],
    },
    Row {
        op: "adain",
        build: style,
        shapes: &[&[1, 512, 32, 32], &[1, 512, 64, 64], &[4, 256, 64, 64]],
    },
    Row {
        op: "conditional",
        build: conditional,
        shapes: &[&[8, 256, 64, 64]],
    },
    Row {
        op: "spade",
        build: spade,
        shapes: &[&[2, 128, 128, 128]],
    },
    Row {
        op: "stats",
        build: statistics,
        shapes: &[&[8, 256, 64, 64]],
    },
    Row {
        op: "with_stats",
        build: with_stats,
        shapes: &[&[8, 256, 64, 64]],
    },
    Row {
        op: "in_place",
        build: in_place,
        shapes: &[&[32, 256, 56, 56], &[1, 64, 256, 256], &[8, 256, 64, 64]],
    },
    Row {
        op: "channels_last",
        build: channels_last,
        shapes: &[&[32, 256, 56, 56], &[1, 64, 256, 256], &[8, 256, 64, 64]],
    },
];

/// A video decoder's tensors take gigabytes: they are for a GPU, in the two bytes an element that
/// the decoder has.
pub fn is_for(shape: &[usize], device: &Device, dtype: DType) -> bool {
    let large = shape.iter().product::<usize>() > 1 << 26;
    !large || (device.is_cuda() && dtype == DType::BF16)
}

fn plain(x: &Tensor) -> Result<Op> {
    let channels = x.dim(1)?;
    let weight = Tensor::ones(channels, x.dtype(), x.device())?;
    let bias = weight.zeros_like()?;
    let composed = GroupNorm::new(weight, bias, channels, channels, EPS)?;
    Ok(Op {
        ours: Box::new(|x| instance_norm(x, None, None, EPS)),
        composed: Box::new(move |x| composed.forward(x)),
        backward: Some(Normalization::instance(EPS)),
        moved: [2, 3],
    })
}

/// A weight and a bias for each channel, neither of them the default.
fn per_channel(x: &Tensor) -> Result<[Tensor; 2]> {
    let ones = Tensor::ones(x.dim(1)?, x.dtype(), x.device())?;
    Ok([ones.affine(1.5, 0.)?, ones.affine(0.25, 0.)?])
}

fn affine(x: &Tensor) -> Result<Op> {
    let (channels, [weight, bias]) = (x.dim(1)?, per_channel(x)?);
    let ours = Normalization::instance(EPS).weight(&weight).bias(&bias);
    let composed = GroupNorm::new(weight, bias, channels, channels, EPS)?;
    Ok(normalization(ours, [2, 3], move |x| composed.forward(x)))
}

/// An op that is one [`Normalization`].
fn normalization(
    ours: Normalization,
    moved: [usize; 2],
    composed: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Op {
    let backward = Some(ours.clone());
    Op {
        ours: Box::new(move |x| ours.forward(x)),
        composed: Box::new(composed),
        backward,
        moved,
    }
}

fn groups(x: &Tensor) -> Result<(Normalization, GroupNorm)> {
    let (channels, [weight, bias]) = (x.dim(1)?, per_channel(x)?);
    let ours = Normalization::group(GROUPS, EPS)
        .weight(&weight)
        .bias(&bias);
    Ok((ours, GroupNorm::new(weight, bias, channels, GROUPS, EPS)?))
}

fn group_norm(x: &Tensor) -> Result<Op> {
    let (ours, composed) = groups(x)?;
    Ok(normalization(ours, [2, 3], move |x| composed.forward(x)))
}

fn group_norm_silu(x: &Tensor) -> Result<Op> {
    let (ours, composed) = groups(x)?;
    let ours = ours.activation(Activation::Silu);
    Ok(normalization(ours, [2, 3], move |x| {
        composed.forward(x)?.silu()
    }))
}

fn relu_residual(x: &Tensor) -> Result<Op> {
    let residual = x.copy()?;
    let ours = Normalization::instance(EPS)
        .residual(&residual)
        .activation(Activation::Relu);
    Ok(normalization(ours, [3, 5], move |x| {
        (instance_norm(x, None, None, EPS)? + &residual)?.relu()
    }))
}

fn style(x: &Tensor) -> Result<Op> {
    let style = x.affine(2., 1.)?;
    let like = style.clone();
    let config = AdaInConfig::default();
    Ok(Op {
        ours: Box::new(move |x| adain(x, &style, &config)),
        composed: Box::new(move |x| {
            let (_, std, centred) = moments(x)?;
            let (style_mean, style_std, _) = moments(&like)?;
            let y = centred.broadcast_div(&std)?.broadcast_mul(&style_std)?;
            y.broadcast_add(&style_mean)
        }),
        backward: None,
        moved: [3, 5],
    })
}

/// The mean and the unbiased deviation of each plane, as one writes them in candle, and `x - mean`.
fn moments(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let len = (x.dim(2)? * x.dim(3)?) as f64;
    let mean = x.mean_keepdim((2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let var = (centred.sqr()?.sum_keepdim((2, 3))? / (len - 1.))?;
    Ok((mean, (var + EPS)?.sqrt()?, centred))
}

/// A weight and a bias for each sample and channel, as conditional and adaptive norms have them.
fn conditional(x: &Tensor) -> Result<Op> {
    let (n, c) = (x.dim(0)?, x.dim(1)?);
    let params = Tensor::ones((n, c), x.dtype(), x.device())?;
    let ours = Normalization::instance(EPS).weight(&params).bias(&params);
    let params = params.reshape((n, c, 1, 1))?;
    Ok(normalization(ours, [2, 3], move |x| {
        let y = instance_norm(x, None, None, EPS)?;
        y.broadcast_mul(&params)?.broadcast_add(&params)
    }))
}

/// A weight and a bias for each element, stored as what they exceed 1 and 0 by.
fn spade(x: &Tensor) -> Result<Op> {
    let (gamma, beta) = (x.copy()?, x.copy()?);
    let ours = Normalization::instance(EPS).weight(&gamma).bias(&beta);
    Ok(normalization(ours.one_plus_weight(), [4, 5], move |x| {
        let y = instance_norm(x, None, None, EPS)?;
        (y * (&gamma + 1.)?)? + &beta
    }))
}

fn statistics(_: &Tensor) -> Result<Op> {
    Ok(Op {
        ours: Box::new(|x| Ok(instance_stats(x, EPS)?.rstd)),
        composed: Box::new(|x| moments(x)?.1.recip()),
        backward: None,
        moved: [1, 2],
    })
}

fn with_stats(x: &Tensor) -> Result<Op> {
    let stats = instance_stats(x, EPS)?;
    let of_planes = |t: &Tensor| t.unsqueeze(2)?.unsqueeze(3);
    let (means, rstds) = (of_planes(&stats.mean)?, of_planes(&stats.rstd)?);
    let backward = Normalization::instance(EPS).stats(&stats);
    Ok(Op {
        ours: Box::new(move |x| instance_norm_with_stats(x, &stats, None, None)),
        composed: Box::new(move |x| x.broadcast_sub(&means)?.broadcast_mul(&rstds)),
        backward: Some(backward),
        moved: [2, 3],
    })
}

fn in_place(x: &Tensor) -> Result<Op> {
    let memory = Tensor::cat(&[x, x], 0)?;
    let (n, norm) = (x.dim(0)?, Normalization::instance(EPS));
    Ok(Op {
        ours: Box::new(move |x| norm.forward_in_place(x).map(|()| x.clone())),
        composed: Box::new(move |x| memory.slice_set(x, 0, n).map(|()| x.clone())),
        backward: None,
        moved: [2, 0],
    })
}

fn channels_last(_: &Tensor) -> Result<Op> {
    let ours = |x: &Tensor| instance_norm(x, None, None, EPS);
    Ok(Op {
        ours: Box::new(ours),
        composed: Box::new(move |x| ours(&x.contiguous()?)),
        backward: Some(Normalization::instance(EPS)),
        moved: [2, 3],
    })
}

/// x in the format of the op: the one for `channels_last` has channels adjacent.
pub fn in_format(op: &str, x: Tensor) -> Result<Tensor> {
    if op != "channels_last" {
        return Ok(x);
    }
    let last = x.dims().len() - 1;
    let mut order: Vec<usize> = (0..=last).filter(|&d| d != 1).collect();
    order.push(1);
    let x = x.permute(order)?.contiguous()?;
    let mut back: Vec<usize> = (1..last).collect();
    back.insert(0, last);
    back.insert(0, 0);
    x.permute(back)
}
