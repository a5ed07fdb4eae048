//! Conditional instance norm: a weight and a bias for each style.

use crate::ops::{by_ids, by_weights};
use crate::shapes::valid_eps;
use crate::{Activation, Normalization};
use candle_core::{Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

/// The names of the tables of a [`ConditionalInstanceNorm`] in a checkpoint, from which they are never
/// guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StyleTables {
    /// `gamma` and `beta`, `(K, C)` each: Magenta's `image_stylization`.
    GammaBeta,
    /// `embed.weight`, `(K, 2 * C)`, each row the weight and then the bias: an `nn.Embedding` whose
    /// result is chunked.
    Embedding,
    /// `inns.0.weight`, `inns.0.bias`, `inns.1.weight` and so on, `(C)` each: a `ModuleList` of
    /// affine instance norms.
    ModuleList,
}

/// Conditional instance norm (Dumoulin et al., [1610.07629](https://arxiv.org/abs/1610.07629)): one
/// network for K styles, each of which has a weight and a bias per channel, gamma and beta in the paper.
///
/// ```text
/// y[n] = activation((x[n] - mean) / sqrt(var + eps) * gamma[ids[n]] + beta[ids[n]])
/// ```
///
/// [`forward`](Self::forward) takes the number of a style for each sample,
/// [`forward_mix`](Self::forward_mix) the weights of a mixture of styles.
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64.
/// - ids: `(N)` in u32 or i64; weights: `(N, K)`.
/// - result: the shape and dtype of x.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::nn::{self, StyleTables};
/// use candle_nn::{VarBuilder, VarMap};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let norm = nn::conditional_instance_norm(32, 8, 1e-5, StyleTables::GammaBeta, vb)?;
/// let x = Tensor::randn(0f32, 1., (2, 8, 4, 4), &Device::Cpu)?;
/// let y = norm.forward(&x, &Tensor::new(&[31u32, 0], &Device::Cpu)?)?;
/// assert_eq!(y.dims(), x.dims());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConditionalInstanceNorm {
    tables: Tables,
    eps: f64,
    activation: Activation,
}

#[derive(Debug, Clone)]
enum Tables {
    /// gamma and beta.
    Two(Tensor, Tensor),
    /// Weights and biases in one.
    One(Tensor),
    /// The weight and the bias of each style.
    Rows(Vec<(Tensor, Tensor)>),
}

/// A [`ConditionalInstanceNorm`] for `num_styles` styles of `num_channels` channels, with the
/// variables of `vb` that `tables` names. New weights are 1, new biases 0.
///
/// # Errors
///
/// No styles, an eps that is negative or not finite, and the errors of `vb`.
pub fn conditional_instance_norm(
    num_styles: usize,
    num_channels: usize,
    eps: f64,
    tables: StyleTables,
    vb: VarBuilder,
) -> Result<ConditionalInstanceNorm> {
    let both = (num_styles, num_channels);
    let (ones, zeros) = (Init::Const(1.), Init::Const(0.));
    let tables = match tables {
        StyleTables::GammaBeta => Tables::Two(
            vb.get_with_hints(both, "gamma", ones)?,
            vb.get_with_hints(both, "beta", zeros)?,
        ),
        StyleTables::Embedding => Tables::One(embedding(num_styles, num_channels, &vb)?),
        StyleTables::ModuleList => Tables::Rows(
            (0..num_styles)
                .map(|k| {
                    let vb = vb.pp("inns").pp(k);
                    let weight = vb.get_with_hints(num_channels, "weight", ones)?;
                    Ok((weight, vb.get_with_hints(num_channels, "bias", zeros)?))
                })
                .collect::<Result<_>>()?,
        ),
    };
    ConditionalInstanceNorm::with_tables(num_styles, tables, eps)
}

impl ConditionalInstanceNorm {
    /// With these tables, `(K, C)` each.
    ///
    /// # Errors
    ///
    /// No styles, and an eps that is negative or not finite.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use candle_instance_norm::nn::ConditionalInstanceNorm;
    /// let gamma = Tensor::ones((32, 8), DType::F32, &Device::Cpu)?;
    /// let norm = ConditionalInstanceNorm::new(gamma.clone(), gamma.zeros_like()?, 1e-5)?;
    /// assert_eq!(norm.tables()?.1.dims(), [32, 8]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(gamma: Tensor, beta: Tensor, eps: f64) -> Result<Self> {
        Self::with_tables(gamma.dim(0)?, Tables::Two(gamma, beta), eps)
    }

    fn with_tables(num_styles: usize, tables: Tables, eps: f64) -> Result<Self> {
        valid_eps(eps)?;
        if num_styles == 0 {
            bail!("norm: expected one style or more, got none");
        }
        Ok(Self {
            tables,
            eps,
            activation: Activation::None,
        })
    }

    /// Adds an activation in the same pass.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The tables gamma and beta, `(K, C)` each.
    pub fn tables(&self) -> Result<(Tensor, Tensor)> {
        match &self.tables {
            Tables::Two(gamma, beta) => Ok((gamma.clone(), beta.clone())),
            Tables::One(table) => {
                let c = table.dim(1)? / 2;
                Ok((table.narrow(1, 0, c)?, table.narrow(1, c, c)?))
            }
            Tables::Rows(rows) => {
                let (weights, biases): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
                Ok((Tensor::stack(&weights, 0)?, Tensor::stack(&biases, 0)?))
            }
        }
    }

    /// Each sample of `x` in the style of its id, `(N)` in u32 or i64.
    ///
    /// # Errors
    ///
    /// The errors of [`conditional_instance_norm`](crate::conditional_instance_norm).
    pub fn forward(&self, x: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let (gamma, beta) = self.tables()?;
        self.finish(x, by_ids(x, &gamma, &beta, ids, self.eps)?)
    }

    /// Each sample of `x` in a mixture of the styles, with weights `(N, K)`.
    ///
    /// # Errors
    ///
    /// The errors of [`conditional_instance_norm_mix`](crate::conditional_instance_norm_mix).
    pub fn forward_mix(&self, x: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let (gamma, beta) = self.tables()?;
        self.finish(x, by_weights(x, &gamma, &beta, weights, self.eps)?)
    }

    fn finish(&self, x: &Tensor, norm: Normalization) -> Result<Tensor> {
        norm.activation(self.activation).forward(x)
    }
}

/// `embed.weight`; a new one has weights of 1 and biases of 0, which no single [`Init`] gives.
fn embedding(num_styles: usize, num_channels: usize, vb: &VarBuilder) -> Result<Tensor> {
    let vb = vb.pp("embed");
    let new = !vb.contains_tensor("weight");
    let table = vb.get_with_hints((num_styles, 2 * num_channels), "weight", Init::Const(1.))?;
    if new && table.is_variable() {
        let ones = table.detach().narrow(1, 0, num_channels)?;
        let whole = Tensor::cat(&[&ones, &ones.zeros_like()?], 1)?;
        Var::from_tensor(&table)?.set(&whole)?;
    }
    Ok(table)
}
