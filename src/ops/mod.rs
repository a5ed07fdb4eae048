//! The ops: validation, the choice of backend, and candle's custom-op traits.

mod instance_norm;
mod stats;

pub use instance_norm::{instance_norm, instance_norm_backward, InstanceNormGrads};
pub(crate) use stats::plane_stats;

use crate::args::View;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    bail, CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor,
};

/// An op on up to three tensors with one result, whichever of candle's traits that number means.
trait FusedOp: Send + Sync + 'static {
    const NAME: &'static str;

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)>;

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)>;

    /// One gradient, or none, for each of `inputs`.
    fn bwd(&self, _inputs: &[&Tensor], _grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Err(Error::BackwardNotSupported { op: Self::NAME }.bt())
    }
}

fn apply<F: FusedOp>(op: F, inputs: &[&Tensor]) -> Result<Tensor> {
    match inputs {
        [a] => a.apply_op1(Custom(op)),
        [a, b] => a.apply_op2(b, Custom(op)),
        [a, b, c] => a.apply_op3(b, c, Custom(op)),
        _ => bail!("{}: expected 1 to 3 inputs, got {}", F::NAME, inputs.len()),
    }
}

struct Custom<F>(F);

/// Stamps one of candle's traits, which differ in the number of tensors alone.
macro_rules! custom_op {
    ($trait:ident, $grads:ty, $($s:ident $l:ident $t:ident),+) => {
        impl<F: FusedOp> $trait for Custom<F> {
            fn name(&self) -> &'static str {
                F::NAME
            }

            fn cpu_fwd(&self, $($s: &CpuStorage, $l: &Layout),+) -> Result<(CpuStorage, Shape)> {
                self.0.cpu(&[$(($s, $l)),+])
            }

            #[cfg(feature = "cuda")]
            fn cuda_fwd(&self, $($s: &CudaStorage, $l: &Layout),+) -> Result<(CudaStorage, Shape)> {
                self.0.cuda(&[$(($s, $l)),+])
            }

            #[allow(unused_parens)]
            fn bwd(&self, $($t: &Tensor,)+ _res: &Tensor, grad: &Tensor) -> Result<$grads> {
                let mut grads = self.0.bwd(&[$($t),+], grad)?.into_iter();
                $(let $t = grads.next().flatten();)+
                Ok(($($t),+))
            }
        }
    };
}

type Grad = Option<Tensor>;
custom_op!(CustomOp1, Grad, s1 l1 t1);
custom_op!(CustomOp2, (Grad, Grad), s1 l1 t1, s2 l2 t2);
custom_op!(CustomOp3, (Grad, Grad, Grad), s1 l1 t1, s2 l2 t2, s3 l3 t3);
