//! The configuration of an [`InstanceNorm`], and layers with the variables of a `VarBuilder`.

use super::{InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d};
use crate::nn::running::Running;
use crate::spec::EpsMode;
use candle_core::Result;
use candle_nn::{Init, VarBuilder};

/// The configuration of an [`InstanceNorm`] layer; the defaults are those of
/// [`torch.nn.InstanceNorm2d`](https://pytorch.org/docs/stable/generated/torch.nn.InstanceNorm2d.html).
///
/// ```
/// use candle_instance_norm::nn::InstanceNormConfig;
///
/// let config = InstanceNormConfig { affine: true, ..Default::default() };
/// assert_eq!(config.eps, 1e-5);
/// // As in candle, a number stands for eps.
/// assert_eq!(InstanceNormConfig::from(1e-3).momentum, 0.1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InstanceNormConfig {
    /// 1e-5 by default.
    pub eps: f64,
    /// The place of eps; [`EpsMode::AddToVar`] by default.
    pub eps_mode: EpsMode,
    /// The share of the new value in the running statistics, 0.1 by default:
    /// `running = (1 - momentum) * running + momentum * new`.
    pub momentum: f64,
    /// True for a `weight` and a `bias`; false by default.
    pub affine: bool,
    /// True for running statistics, which are used in evaluation; false by default. It is never
    /// guessed from the names in a checkpoint: many hold stray running statistics.
    pub track_running_stats: bool,
    /// True to let an input with one spatial element through, as the bias, for networks that reach
    /// 1x1; false by default, an error as in PyTorch.
    pub allow_single_element: bool,
}

impl Default for InstanceNormConfig {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            eps_mode: EpsMode::AddToVar,
            momentum: 0.1,
            affine: false,
            track_running_stats: false,
            allow_single_element: false,
        }
    }
}

impl From<f64> for InstanceNormConfig {
    fn from(eps: f64) -> Self {
        Self {
            eps,
            ..Default::default()
        }
    }
}

/// An [`InstanceNorm1d`] with the variables `weight` and `bias` where affine, and `running_mean`
/// and `running_var` where tracking; each is taken from `vb`, or made there.
///
/// # Errors
///
/// An eps that is negative or not finite, a momentum outside 0 to 1, and the errors of `vb`.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::nn::instance_norm1d;
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let norm = instance_norm1d(2, 0., vb)?;
/// let y = norm.forward(&Tensor::new(&[[1f32, 3.], [7., 7.]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1., 1.], [0., 0.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm1d(
    num_channels: usize,
    config: impl Into<InstanceNormConfig>,
    vb: VarBuilder,
) -> Result<InstanceNorm1d> {
    instance_norm(num_channels, config, vb)
}

/// An [`InstanceNorm2d`]; see [`instance_norm1d`].
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let norm = candle_instance_norm::nn::instance_norm2d(1, 0., vb)?;
/// let y = norm.forward(&Tensor::new(&[[[[1f32, 3.]]]], &Device::Cpu)?)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm2d(
    num_channels: usize,
    config: impl Into<InstanceNormConfig>,
    vb: VarBuilder,
) -> Result<InstanceNorm2d> {
    instance_norm(num_channels, config, vb)
}

/// An [`InstanceNorm3d`]; see [`instance_norm1d`].
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let norm = candle_instance_norm::nn::instance_norm3d(1, 0., vb)?;
/// let y = norm.forward(&Tensor::new(&[[[[1f32, 3.]]]], &Device::Cpu)?)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm3d(
    num_channels: usize,
    config: impl Into<InstanceNormConfig>,
    vb: VarBuilder,
) -> Result<InstanceNorm3d> {
    instance_norm(num_channels, config, vb)
}

fn instance_norm<const D: usize>(
    num_channels: usize,
    config: impl Into<InstanceNormConfig>,
    vb: VarBuilder,
) -> Result<InstanceNorm<D>> {
    let config = config.into();
    let get = |name, init| vb.get_with_hints(num_channels, name, Init::Const(init));
    let weight_and_bias = if config.affine {
        Some((get("weight", 1.)?, get("bias", 0.)?))
    } else {
        None
    };
    let running = if config.track_running_stats {
        Some(Running::of_vb(num_channels, config.momentum, &vb)?)
    } else {
        None
    };
    InstanceNorm::with_parts(num_channels, config, weight_and_bias, running)
}
