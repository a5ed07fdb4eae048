//! Adaptive instance norm: content with the statistics of a style.

use super::call::Call;
use super::checked::{from_format, in_format};
use super::composed;
use super::computed::{gradient, Composed};
use super::custom::{apply, FusedOp};
use super::normalization::Normalization;
use super::stats::{plane_stats, stats_gradient, Stats};
use crate::args::{Beside, EpsMode, Inputs, Norm, Rule, Second, View, Wanted};
use crate::cpu;
use crate::shapes::{float_dtype, format_of, same_device, to_format, Planes};
use candle_core::op::BackpropOp;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "metal")]
use candle_core::MetalStorage;
use candle_core::{bail, CpuStorage, Layout, Result, Shape, Tensor};
use std::sync::Arc;

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
    /// The variances divide by the number of elements less this: 1 by default, `torch.var`'s.
    pub correction: u32,
    /// 1e-5 by default.
    pub eps: f64,
    /// Where eps is added, in the deviations of content and style alike; to the variance by
    /// default.
    pub eps_mode: EpsMode,
    /// The share of the result, beside `1 - alpha` of the content; 1 by default.
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
    fn rule(&self) -> Rule {
        Rule {
            eps: self.eps,
            mode: self.eps_mode,
            correction: self.correction,
        }
    }

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
    let op = AdaIn::new(content, style, config)?;
    let format = op.norm.format;
    let content = in_format(content, format)?;
    let style = in_format(style, op.of_style.format)?;
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
/// As [`adain`], each style with a size of its own.
///
/// # Errors
///
/// As [`adain`], and without any style.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{adain_mix, AdaInConfig};
///
/// let content = Tensor::randn(0f32, 1., (1, 4, 8, 8), &Device::Cpu)?;
/// let [a, b] = [Tensor::randn(1f32, 2., (1, 4, 6, 6), &Device::Cpu)?, content.flip(&[2])?];
/// let y = adain_mix(&content, &[(&a, 0.25), (&b, 0.75)], &AdaInConfig::default())?;
/// assert_eq!(y.dims(), content.dims());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn adain_mix(
    content: &Tensor,
    styles: &[(&Tensor, f64)],
    config: &AdaInConfig,
) -> Result<Tensor> {
    let mut mixed: Option<(Tensor, Tensor)> = None;
    for &(style, share) in styles {
        check_style(content, style)?;
        let (mean, std) = plane_stats(style, config.rule(), Second::Std)?;
        let (mean, std) = ((mean * share)?, (std * share)?);
        mixed = Some(match mixed {
            None => (mean, std),
            Some((means, stds)) => (means.broadcast_add(&mean)?, stds.broadcast_add(&std)?),
        });
    }
    let Some((mean, std)) = mixed else {
        bail!("adain: expected one style or more, got none")
    };
    // One style for all samples is a parameter per channel.
    let params = match mean.dim(0)? == content.dim(0)? {
        true => (mean, std),
        false => (mean.squeeze(0)?, std.squeeze(0)?),
    };
    let norm = config.normalization();
    norm.bias(&params.0).weight(&params.1).forward(content)
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

/// Two inputs, content and style, in their formats.
struct AdaIn {
    norm: Norm,
    of_style: Norm,
}

impl AdaIn {
    fn new(content: &Tensor, style: &Tensor, config: &AdaInConfig) -> Result<Self> {
        check_style(content, style)?;
        let norm = config.normalization().norm(content)?;
        let of_style = Stats::norm(Planes::new(style.dims())?, format_of(style)?, config.rule());
        Ok(Self { norm, of_style })
    }

    /// How the mean and the deviation of the style lie in the tensor of its statistics: `[C]`
    /// where one style serves all samples, else `[N, C]`.
    fn layouts(&self) -> [Layout; 2] {
        let Planes { n, c, .. } = self.of_style.planes;
        let shape = match n == self.norm.planes.n {
            true => Shape::from((n, c)),
            false => Shape::from(c),
        };
        [0, n * c].map(|offset| Layout::contiguous_with_offset(shape.clone(), offset))
    }

    /// From content and style in their formats.
    fn composed(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let stats = composed::stats(&self.of_style, Second::Std, &inputs[1])?;
        let shape = self.layouts()[0].shape().clone();
        let [mean, std] = [stats.get(0)?, stats.get(1)?];
        let (mean, std) = (mean.reshape(&shape)?, std.reshape(&shape)?);
        let inputs = Inputs {
            x: &inputs[0],
            beside: Beside {
                weight: Some(&std),
                bias: Some(&mean),
                ..Beside::none()
            },
        };
        composed::norm(&self.norm, &inputs)
    }
}

/// The pass over the content, with the statistics of the style as parameters.
macro_rules! pass {
    ($self:ident, $backend:path, $inputs:ident) => {{
        use $backend as backend;
        let stats = backend::stats($inputs[1], &$self.of_style, Second::Std)?;
        let [mean, std] = $self.layouts();
        let inputs = Inputs {
            x: $inputs[0],
            beside: Beside {
                weight: Some((&stats, &std)),
                bias: Some((&stats, &mean)),
                ..Beside::none()
            },
        };
        let y = backend::forward(&inputs, &$self.norm)?;
        Ok((y, $inputs[0].1.shape().clone()))
    }};
}

impl FusedOp for AdaIn {
    const NAME: &'static str = "adain";

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        pass!(self, cpu, inputs)
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        pass!(self, crate::cuda, inputs)
    }

    #[cfg(feature = "metal")]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        pass!(self, crate::metal, inputs)
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [content, style] = [inputs[0], inputs[1]];
        let stats = Stats::of(&style.detach(), &self.of_style, Second::Std)?;
        let shape = self.layouts()[0].shape().clone();
        let [mean, std] = [
            stats.get(0)?.reshape(&shape)?,
            stats.get(1)?.reshape(&shape)?,
        ];
        let call = Call::adaptive(self.norm, &content.detach(), &std, &mean)?;
        let wanted = Wanted {
            x: content.track_op(),
            weight: call.params.weight.filter(|_| style.track_op()),
            bias: call.params.bias.filter(|_| style.track_op()),
            ..Wanted::default()
        };
        let grad = &to_format(grad, self.norm.format)?;
        let grads = call.backward_storages(grad, &wanted)?;
        let this = Self {
            norm: self.norm,
            of_style: self.of_style,
        };
        let composed: Composed = Arc::new(move |inputs: &[Tensor]| this.composed(inputs));
        let on_graph = |storage, t: &Tensor, of| {
            gradient(storage, t.shape().clone(), inputs, grad, &composed, of)
        };
        let of_content = grads.x.map(|dx| on_graph(dx, content, 0)).transpose()?;
        let of_style = match (grads.bias, grads.weight) {
            (Some(of_mean), Some(of_std)) => {
                let of = |s| Tensor::from_storage(s, shape.clone(), BackpropOp::none(), false);
                let planes = self.of_style.planes;
                let both = Tensor::stack(&[of(of_mean), of(of_std)], 0)?;
                let both = both.reshape((2, planes.n, planes.c))?;
                let storage = stats_gradient(style, &both, &self.of_style, Second::Std)?;
                Some(on_graph(storage, style, 1)?)
            }
            _ => None,
        };
        Ok(vec![of_content, of_style])
    }
}
