//! The passes of a [`Normalization`] over an x: forward, in place, backward, and statistics alone.

use super::norm_op::NormOp;
use super::normalization::Normalization;
use super::stats::{PlaneStats, plane_stats};
use crate::shapes::{Planes, float_dtype, format_of, from_format, in_format, valid_eps};
use crate::spec::{Gradients, NormSpec, ScaleStat};
use candle_core::{Result, Tensor, bail};

/// The gradients of a [`Normalization`]; those of absent tensors are `None`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NormGrads {
    /// The gradient of x, of its shape and dtype.
    pub x: Tensor,
    /// The gradient of the weight, of its shape and dtype.
    pub weight: Option<Tensor>,
    /// The gradient of the bias, of its shape and dtype.
    pub bias: Option<Tensor>,
    /// The gradient of the residual, of its shape and dtype.
    pub residual: Option<Tensor>,
    /// The gradients of given statistics, of their shapes and dtypes.
    pub stats: Option<PlaneStats>,
}

impl Normalization {
    /// The normalized x, differentiable.
    ///
    /// # Errors
    ///
    /// The errors of [`Normalization`].
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let y = Normalization::instance(0.).forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[-1., 1.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.is_of_vectors(x) {
            return self.of_planes()?.forward(&x.unsqueeze(2)?)?.squeeze(2);
        }
        let (op, inputs) = self.op(x)?;
        let format = op.spec.format;
        from_format(&op.forward(&inputs)?, format)
    }

    /// Overwrites x with the result: inference without an allocation.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward); an x or another tensor that is tracked, since its gradient
    /// would be lost; an x that is not contiguous (planar or channels-last) or shares memory with
    /// another input.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// Normalization::instance(0.).forward_in_place(&x)?;
    /// assert_eq!(x.to_vec3::<f32>()?, [[[-1., 1.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn forward_in_place(&self, x: &Tensor) -> Result<()> {
        if self.is_of_vectors(x) {
            return self.of_planes()?.forward_in_place(&x.unsqueeze(2)?);
        }
        let (op, inputs) = self.op(x)?;
        let (laid, extras) = (&inputs[0], &inputs[1..]);
        if inputs.iter().any(|t| t.track_op()) {
            bail!(
                "norm: expected tensors without gradients to work in place, got a tracked one; detach() it"
            );
        }
        // A view whose planes are not adjacent was copied for the op: its result would be lost.
        if !share_memory(laid, x) || !laid.is_contiguous() {
            bail!(
                "norm: expected a contiguous x to work in place, got {:?}",
                x.layout()
            );
        }
        if extras.iter().any(|t| share_memory(laid, t)) {
            bail!(
                "norm: expected an x of its own to work in place, got one that shares memory with another input"
            )
        }
        op.forward_in_place(&inputs)
    }

    /// The gradients of all tensors for the gradient `dy` of the result, without the passes that
    /// candle's autograd adds around them in [`Tensor::backward`].
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward), and a `dy` that differs from x in shape, dtype or device.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3., 8.]]], &Device::Cpu)?;
    /// let dy = Tensor::new(&[[[2f32, 2., 2.]]], &Device::Cpu)?;
    /// let norm = Normalization::instance(1e-5).residual(&x);
    /// let grads = norm.backward(&x, &dy)?;
    /// // Normalized, a constant gradient is 0; the residual passes it on.
    /// assert_eq!(grads.x.to_vec3::<f32>()?, [[[0., 0., 0.]]]);
    /// assert_eq!(grads.residual.unwrap().to_vec3::<f32>()?, [[[2., 2., 2.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn backward(&self, x: &Tensor, dy: &Tensor) -> Result<NormGrads> {
        if self.is_of_vectors(x) {
            let planes = self.of_planes()?;
            let grads = planes.backward(&x.unsqueeze(2)?, &dy.unsqueeze(dy.rank())?)?;
            return Ok(NormGrads {
                x: grads.x.squeeze(2)?,
                residual: grads.residual.map(|t| t.squeeze(2)).transpose()?,
                ..grads
            });
        }
        let (op, inputs) = self.op(x)?;
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let (format, wanted) = (op.spec.format, op.mask(|_| true));
        let Gradients {
            x: Some(dx),
            weight,
            bias,
            v,
            mean,
            rstd,
        } = op.backward(&inputs, &in_format(dy, format)?, &wanted)?
        else {
            bail!("norm: the gradient of x is missing")
        };
        let param = |grad: Option<Tensor>| {
            grad.map(|t| {
                if t.shape() == dx.shape() {
                    from_format(&t, format)
                } else {
                    Ok(t)
                }
            })
            .transpose()
        };
        Ok(NormGrads {
            weight: param(weight)?,
            bias: param(bias)?,
            residual: param(v)?,
            stats: mean.zip(rstd).map(|(mean, rstd)| PlaneStats { mean, rstd }),
            x: from_format(&dx, format)?,
        })
    }

    /// The op for `x`, and its inputs.
    fn op(&self, x: &Tensor) -> Result<(NormOp, Vec<Tensor>)> {
        NormOp::new(self.spec(x)?, &self.extras, x)
    }

    /// The description of the pass over `x`, checked but for the extras.
    pub(super) fn spec(&self, x: &Tensor) -> Result<NormSpec> {
        if self.groups.is_some() && x.rank() < 3 {
            bail!(
                "norm: expected x of rank 2 or more, (N, C, *), got shape {:?}",
                x.dims()
            );
        }
        let NormSpec { rule, alpha, .. } = self.spec;
        let planes = Planes::new(x.dims())?;
        float_dtype(x)?;
        valid_eps(rule.eps)?;
        self.spec.activation.check()?;
        if rule.correction > 1 {
            bail!(
                "norm: expected a correction of 0 or 1, got {}",
                rule.correction
            );
        }
        let channels_per_group = match self.groups {
            None => 1,
            Some(groups) if groups > 0 && planes.c.is_multiple_of(groups) => planes.c / groups,
            Some(groups) => bail!(
                "norm: expected a number of groups that divides the {} channels, got {groups}",
                planes.c
            ),
        };
        if !alpha.is_finite() {
            bail!("norm: expected a finite alpha, got {alpha}");
        }
        let mut spec = NormSpec {
            planes,
            format: format_of(x)?,
            channels_per_group,
            ..self.spec
        };
        if self.extras.weight.is_none() {
            // Without a weight the factor is 1.
            spec.weight_offset = 0.;
        }
        Ok(spec)
    }

    /// True for an x of shape `(N, C)` in groups, which are those of planes of one element.
    fn is_of_vectors(&self, x: &Tensor) -> bool {
        self.groups.is_some() && x.rank() == 2
    }

    /// This normalization of `(N, C)` for `(N, C, 1)`.
    fn of_planes(&self) -> Result<Self> {
        let mut this = self.clone();
        if let Some(residual) = &mut this.extras.residual
            && residual.rank() == 2
        {
            *residual = residual.unsqueeze(2)?;
        }
        Ok(this)
    }

    /// The statistics of every `(n, c)` plane of x with this eps and correction, to normalize another
    /// tensor like this one by [`stats`](Self::stats). `(N, C)` each, in f32, or f64 for f64;
    /// differentiable.
    ///
    /// # Errors
    ///
    /// The errors of [`instance_stats`](crate::instance_stats), and groups that share their statistics.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let picture = Tensor::randn(3f32, 2., (1, 2, 8, 8), &Device::Cpu)?;
    /// let norm = Normalization::instance(1e-5);
    /// let of_picture = norm.measure(&picture)?;
    /// let whole = norm.forward(&picture)?.narrow(3, 0, 4)?;
    /// let tile = norm.stats(&of_picture).forward(&picture.narrow(3, 0, 4)?)?;
    /// assert!((tile - whole)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn measure(&self, x: &Tensor) -> Result<PlaneStats> {
        let (mean, rstd) = self.plane_stats(x, ScaleStat::Rstd)?;
        Ok(PlaneStats { mean, rstd })
    }

    /// The mean and the deviation `1 / rstd` of every plane, likewise: the style of a picture for
    /// AdaIN (Huang and Belongie, [1703.06868](https://arxiv.org/abs/1703.06868)), which other pictures
    /// get as their bias and weight.
    ///
    /// # Errors
    ///
    /// The errors of [`measure`](Self::measure).
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let style = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let (mean, std) = Normalization::instance(0.).mean_and_std(&style)?;
    /// assert_eq!((mean.to_vec2::<f32>()?, std.to_vec2::<f32>()?), (vec![vec![2.]], vec![vec![1.]]));
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn mean_and_std(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.plane_stats(x, ScaleStat::Std)
    }

    fn plane_stats(&self, x: &Tensor, stat: ScaleStat) -> Result<(Tensor, Tensor)> {
        if let Some(groups) = self.groups {
            bail!("norm: expected instances to measure, got {groups} groups");
        }
        plane_stats(x, self.rule(), stat)
    }
}

fn share_memory(a: &Tensor, b: &Tensor) -> bool {
    let (a, b) = (a.storage_and_layout().0, b.storage_and_layout().0);
    std::ptr::eq(&*a, &*b)
}
