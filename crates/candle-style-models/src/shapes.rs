//! Weights whose widths the file alone knows.

use candle_core::{Error, Result, Tensor, bail};
use candle_nn::VarBuilder;

/// A dimension that may have any size above zero.
pub(super) const ANY: usize = 0;

/// Loads the tensor `weight` in the shape expected, in which a dimension may be [`ANY`].
///
/// # Errors
///
/// The tensor is missing or has another shape. [`Weights::build`](crate::weights::Weights::build),
/// which collects all such errors, gives a blank instead, of no elements where a dimension is
/// [`ANY`].
pub(super) fn weight(vb: &VarBuilder, expected: [usize; 4]) -> Result<Tensor> {
    named_weight(vb, "weight", expected)
}

/// [`weight`] of another name.
pub(super) fn named_weight(vb: &VarBuilder, name: &str, expected: [usize; 4]) -> Result<Tensor> {
    let fits = |(&dim, want): (&usize, usize)| if want == ANY { dim > 0 } else { dim == want };
    // Not `get_unchecked`, which ignores the dtype given by `VarBuilder::to_dtype`.
    let found = match vb.get_unchecked_dtype(name, vb.dtype()) {
        Ok(weight) if weight.rank() == 4 && weight.dims().iter().zip(expected).all(fits) => {
            return Ok(weight);
        }
        Ok(weight) => weight.dims().to_vec(),
        Err(Error::CannotFindTensor { .. }) => return vb.get(&expected[..], name),
        // A `VarMap` would make a tensor of no elements.
        Err(error) => return Err(error),
    };
    vb.get(&expected[..], name).or_else(|_| {
        let dim = |dim| match dim {
            ANY => "_".to_string(),
            dim => dim.to_string(),
        };
        bail!(
            "{} must have shape [{}], got {found:?}",
            vb.pp(name).prefix(),
            expected.map(dim).join(", ")
        )
    })
}
