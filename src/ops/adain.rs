//! Adaptive instance norm: content with the statistics of a style.

use super::custom_op::{Backend, FusedOp, apply};
use super::norm_op::NormOp;
use super::normalization::Normalization;
use super::stats::Stats;
use crate::shapes::{
    ParamShape, ParamSpec, Planes, acc_dtype, float_dtype, from_format, in_format, same_device,
};
use crate::spec::{EpsMode, Extras, NormSpec, ScaleStat, View};
use candle_core::{DType, Layout, Result, Shape, Tensor, bail};

/// The conventions of [`adain`]; the default is that of Huang and Belongie's code and of
/// [naoto0804/pytorch-AdaIN](https://github.com/naoto0804/pytorch-AdaIN), and so of MicroAST.
///
/// ```
/// use candle_instance_norm::{AdaInConfig, EpsMode};
///
/// // Reference AdaIN of Stable Diffusion pipelines.
/// let config = AdaInConfig {
///     correction: 0,
///     eps: 1e-6,
///     eps_mode: EpsMode::MaxWithVar,
///     ..Default::default()
/// };
/// assert_eq!(config.alpha, 1.);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaInConfig {
    /// Variances divide by the number of elements less this: 1 by default, as in `torch.var`.
    pub correction: u32,
    /// 1e-5 by default.
    pub eps: f64,
    /// The place of eps, in the deviations of content and style alike; [`EpsMode::AddToVar`] by
    /// default.
    pub eps_mode: EpsMode,
    /// The share of the stylized content, blended with `1 - alpha` of the content; 1 by default.
    pub alpha: f64,
}

impl Default for AdaInConfig {
    fn default() -> Self {
        Self {
            correction: 1,
            eps: 1e-5,
            eps_mode: EpsMode::AddToVar,
            alpha: 1.,
        }
    }
}

impl AdaInConfig {
    fn normalization(&self) -> Normalization {
        Normalization::instance(self.eps)
            .eps_mode(self.eps_mode)
            .correction(self.correction)
            .blend(self.alpha)
    }
}

/// Adaptive instance normalization (Huang and Belongie,
/// [1703.06868](https://arxiv.org/abs/1703.06868)): the content with the mean and the deviation of
/// the style, channel by channel.
///
/// ```text
/// t = (content - mean(content)) / std(content) * std(style) + mean(style)
/// y = alpha * t + (1 - alpha) * content
/// ```
///
/// `std` is `sqrt(var + eps)` with the unbiased variance by default; [`AdaInConfig`] names the
/// other conventions. One pass over the style and one over the content, differentiable in both.
///
/// # Shapes
///
/// - content: `(N, C, *S)` in f32, f16, bf16 or f64.
/// - style: `(N, C, *T)` or `(1, C, *T)`, in the dtype of the content; T may differ from S in size
///   and in rank.
/// - result: the shape and dtype of the content.
///
/// # Errors
///
/// Another number of samples or channels, another dtype or device, a rank below 3, a correction
/// that is not 0 or 1, and an eps or alpha that is not finite.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{adain, AdaInConfig};
///
/// let content = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let style = Tensor::new(&[[[10f32, 20., 30.]]], &Device::Cpu)?;
/// let y = adain(&content, &style, &AdaInConfig { eps: 0., ..Default::default() })?;
/// let y = y.to_vec3::<f32>()?;
/// // Mean 20 and deviation 10, as those of the style.
/// assert!((y[0][0][0] - (20. - 50f32.sqrt())).abs() < 1e-4);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn adain(content: &Tensor, style: &Tensor, config: &AdaInConfig) -> Result<Tensor> {
    check_style(content, style)?;
    let spec = config.normalization().spec(content)?;
    let of_style = Stats::new(style, config.normalization().rule(), ScaleStat::Std)?;
    let op = AdaIn::new(spec, of_style, acc_dtype(content.dtype()));
    let (content, format) = (in_format(content, spec.format)?, spec.format);
    let style = in_format(style, of_style.spec.format)?;
    from_format(&apply(op, &[&content, &style])?, format)
}

/// [`adain`] with a mixture of styles: the statistics are the sums of those of the styles, each
/// times its weight, which gives the weighted sum of the results.
///
/// ```text
/// t = sum over k of weight_k * adain(content, style_k)
/// y = alpha * t + (1 - alpha) * content
/// ```
///
/// The weights are taken as they are: for an interpolation they add up to 1, as those of
/// [naoto0804/pytorch-AdaIN](https://github.com/naoto0804/pytorch-AdaIN) do.
///
/// # Shapes
///
/// The shapes of [`adain`]; each style has a size of its own.
///
/// # Errors
///
/// The errors of [`adain`], and no styles.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{adain_mix, AdaInConfig};
///
/// let content = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let [a, b] = [[2f32, 4.], [8., 12.]].map(|s| Tensor::new(&[[s]], &Device::Cpu));
/// let config = AdaInConfig { correction: 0, eps: 0., ..Default::default() };
/// let y = adain_mix(&content, &[(&a?, 0.5), (&b?, 0.5)], &config)?;
/// // The mean of [2, 4] and [8, 12].
/// assert_eq!(y.to_vec3::<f32>()?, [[[5., 8.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn adain_mix(
    content: &Tensor,
    styles: &[(&Tensor, f64)],
    config: &AdaInConfig,
) -> Result<Tensor> {
    let norm = config.normalization();
    let mut mixed: Option<(Tensor, Tensor)> = None;
    for &(style, share) in styles {
        check_style(content, style)?;
        let (mean, std) = norm.mean_and_std(style)?;
        let (mean, std) = ((mean * share)?, (std * share)?);
        mixed = Some(match mixed {
            None => (mean, std),
            Some((means, stds)) => (means.broadcast_add(&mean)?, stds.broadcast_add(&std)?),
        });
    }
    let Some((mut mean, mut std)) = mixed else {
        bail!("adain: expected one style or more, got none")
    };
    if mean.dim(0)? != content.dim(0)? {
        // One style for all samples is a parameter per channel.
        (mean, std) = (mean.squeeze(0)?, std.squeeze(0)?);
    }
    norm.bias(&mean).weight(&std).forward(content)
}

fn check_style(content: &Tensor, style: &Tensor) -> Result<()> {
    let (of_content, of_style) = (Planes::new(content.dims())?, Planes::new(style.dims())?);
    float_dtype(content)?;
    let samples = of_style.n == of_content.n || of_style.n == 1;
    if of_style.c != of_content.c || !samples {
        bail!(
            "adain: expected a style of {} channels and of {} samples or 1 for content of shape {:?}, got shape {:?}",
            of_content.c,
            of_content.n,
            content.dims(),
            style.dims()
        );
    }
    if style.dtype() != content.dtype() {
        bail!(
            "adain: expected a style of dtype {:?}, got {:?}",
            content.dtype(),
            style.dtype()
        );
    }
    same_device("the style", style, content)
}

/// The statistics of the style, then the norm of the content with them as weight and bias: an op
/// on content and style, each in its format.
struct AdaIn {
    style: Stats,
    content: NormOp,
}

impl AdaIn {
    fn new(content: NormSpec, style: Stats, dtype: DType) -> Self {
        let shape = if style.spec.planes.n == content.planes.n {
            ParamShape::PerSample
        } else {
            // One style for all samples.
            ParamShape::PerChannel
        };
        let param = Some(ParamSpec { shape, dtype });
        Self {
            style,
            content: NormOp {
                spec: content,
                params: Extras {
                    weight: param,
                    bias: param,
                    ..Extras::none()
                },
            },
        }
    }

    /// The shape of the mean and of the deviation as parameters: `[N, C]` or `[C]`.
    fn shape(&self) -> Shape {
        let Planes { n, c, .. } = self.style.spec.planes;
        if n == self.content.spec.planes.n {
            Shape::from((n, c))
        } else {
            Shape::from(c)
        }
    }
}

impl FusedOp for AdaIn {
    const NAME: &'static str = "adain";

    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        let Stats { spec, stat } = &self.style;
        if let Some(y) = S::adain(inputs[0], &self.content.spec, inputs[1], spec, *stat)? {
            return Ok((y, inputs[0].1.shape().clone()));
        }
        let (stats, _) = self.style.run(&inputs[1..])?;
        let shape = self.shape();
        let std = Layout::contiguous_with_offset(&shape, shape.elem_count());
        let mean = Layout::contiguous(shape);
        self.content
            .run(&[inputs[0], (&stats, &std), (&stats, &mean)])
    }

    /// The gradients of the norm, then of the statistics; second derivatives go through both, too.
    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [content, style] = [inputs[0], inputs[1]];
        let (stats, shape) = (self.style.of(style)?, self.shape());
        let (mean, std) = (
            stats.get(0)?.reshape(&shape)?,
            stats.get(1)?.reshape(&shape)?,
        );
        let mut grads = self.content.bwd(&[content, &std, &mean], grad)?.into_iter();
        let [of_content, of_std, of_mean] = [(); 3].map(|_| grads.next().flatten());
        let of_style = match (of_mean, of_std) {
            (Some(of_mean), Some(of_std)) => {
                let of_stats = Tensor::stack(&[of_mean, of_std], 0)?.reshape(stats.shape())?;
                self.style.bwd(&[style], &of_stats)?.pop().flatten()
            }
            _ => None,
        };
        Ok(vec![of_content, of_style])
    }
}
