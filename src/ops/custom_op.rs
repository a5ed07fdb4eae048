//! An op on any number of tensors and any backend, behind candle's custom ops on up to three.

use super::carrier::apply_carried;
use crate::spec::{Extras, GradMask, Gradients, NormSpec, ScaleStat, View};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
    backend::{BackendDevice, BackendStorage},
    bail,
};

/// candle's storage on a device, and the passes that this crate has there.
pub trait Backend: BackendStorage<Device: BackendDevice<Storage = Self>> {
    fn of(storage: &Storage) -> Result<&Self>;
    fn unwrap(storage: Storage) -> Option<Self>;
    fn wrap(self) -> Storage;

    fn forward(x: View<Self>, extras: &Extras<View<Self>>, spec: &NormSpec) -> Result<Self>;

    /// [`forward`](Self::forward) into `x` itself, which is contiguous.
    fn forward_in_place(
        x: &mut Self,
        layout: &Layout,
        extras: &Extras<View<Self>>,
        spec: &NormSpec,
    ) -> Result<()>;

    fn backward(
        x: View<Self>,
        extras: &Extras<View<Self>>,
        dy: View<Self>,
        spec: &NormSpec,
        wanted: &GradMask,
    ) -> Result<Gradients<Self>>;

    /// The mean of every plane, then the other statistic of every plane.
    fn stats(x: View<Self>, spec: &NormSpec, stat: ScaleStat) -> Result<Self>;

    /// The content with the mean and the other statistic of the style as bias and weight, where a backend
    /// has it in one launch; else `None`.
    fn adain(
        _content: View<Self>,
        _spec: &NormSpec,
        _style: View<Self>,
        _of_style: &NormSpec,
        _stat: ScaleStat,
    ) -> Result<Option<Self>> {
        Ok(None)
    }
}

macro_rules! backend {
    ($storage:ident, $variant:ident, $module:ident $(, $adain:ident)?) => {
        impl Backend for $storage {
            fn of(storage: &Storage) -> Result<&Self> {
                match storage {
                    Storage::$variant(storage) => Ok(storage),
                    _ => bail!("norm: expected all tensors on one device"),
                }
            }

            fn unwrap(storage: Storage) -> Option<Self> {
                match storage {
                    Storage::$variant(storage) => Some(storage),
                    _ => None,
                }
            }

            fn wrap(self) -> Storage {
                Storage::$variant(self)
            }

            fn forward(
                x: View<Self>,
                extras: &Extras<View<Self>>,
                spec: &NormSpec,
            ) -> Result<Self> {
                crate::$module::forward(x, extras, spec)
            }

            fn forward_in_place(
                x: &mut Self,
                layout: &Layout,
                extras: &Extras<View<Self>>,
                spec: &NormSpec,
            ) -> Result<()> {
                crate::$module::forward_in_place(x, layout, extras, spec)
            }

            fn backward(
                x: View<Self>,
                extras: &Extras<View<Self>>,
                dy: View<Self>,
                spec: &NormSpec,
                wanted: &GradMask,
            ) -> Result<Gradients<Self>> {
                crate::$module::backward(x, extras, dy, spec, wanted)
            }

            fn stats(x: View<Self>, spec: &NormSpec, stat: ScaleStat) -> Result<Self> {
                crate::$module::stats(x, spec, stat)
            }

            $(fn $adain(
                content: View<Self>,
                spec: &NormSpec,
                style: View<Self>,
                of_style: &NormSpec,
                stat: ScaleStat,
            ) -> Result<Option<Self>> {
                crate::$module::$adain(content, spec, style, of_style, stat)
            })?
        }
    };
}

backend!(CpuStorage, Cpu, cpu);
#[cfg(feature = "cuda")]
backend!(CudaStorage, Cuda, cuda, adain);
#[cfg(feature = "metal")]
backend!(MetalStorage, Metal, metal, adain);

/// An op on some tensors with one result.
pub trait FusedOp: Send + Sync + 'static {
    const NAME: &'static str;

    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)>;

    /// One gradient, or none, for each of `inputs`.
    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// The result of `op`, on the graph behind every tracked input.
pub fn apply<F: FusedOp>(op: F, inputs: &[&Tensor]) -> Result<Tensor> {
    if inputs.len() > 3 {
        return apply_carried(op, inputs);
    }
    let held = vec![None; inputs.len()];
    Custom { op, held }.apply(inputs)
}

/// An op as candle's custom op.
pub struct Custom<F> {
    pub op: F,
    /// The op's inputs that candle does not hand over; `None` stands for the next one that it does.
    pub held: Vec<Option<Tensor>>,
}

impl<F: FusedOp> Custom<F> {
    pub fn apply(self, inputs: &[&Tensor]) -> Result<Tensor> {
        match inputs {
            [a] => a.apply_op1(self),
            [a, b] => a.apply_op2(b, self),
            [a, b, c] => a.apply_op3(b, c, self),
            _ => bail!("{}: expected fewer than 8 tracked inputs", F::NAME),
        }
    }

    /// Calls `run` with the op's inputs: those that candle hands over, and those that are held.
    pub fn with_views<S: Backend, R>(
        &self,
        given: &[View<S>],
        run: impl FnOnce(&[View<S>]) -> Result<R>,
    ) -> Result<R> {
        let guards: Vec<_> = self
            .held
            .iter()
            .map(|held| held.as_ref().map(|t| t.storage_and_layout()))
            .collect();
        let mut given = given.iter().copied();
        let mut views = Vec::with_capacity(guards.len());
        for guard in &guards {
            match guard {
                Some((storage, layout)) => views.push((S::of(storage)?, *layout)),
                None => views.extend(given.next()),
            }
        }
        run(&views)
    }

    fn bwd(&self, given: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut given = given.iter().copied();
        let inputs: Vec<&Tensor> = self
            .held
            .iter()
            .filter_map(|held| held.as_ref().or_else(|| given.next()))
            .collect();
        let grads = self.op.bwd(&inputs, grad)?.into_iter().zip(&self.held);
        let of_given = grads.filter_map(|(grad, held)| held.is_none().then_some(grad));
        Ok(of_given.collect())
    }
}

/// candle's kind of error for a tensor on Metal in a build of this crate that has no kernels for it.
#[cfg(not(feature = "metal"))]
pub fn without_metal(op: &'static str, dtype: candle_core::DType) -> candle_core::Error {
    let message = format!(
        "no metal implementation for {op} of dtype {dtype:?}: candle-instance-norm was built without \
         its feature `metal`"
    );
    candle_core::Error::Metal(message.into()).bt()
}

/// Stamps one of candle's traits, which differ in the number of tensors alone.
macro_rules! custom_op {
    ($trait:ident, $grads:ty, $($s:ident $l:ident $t:ident),+) => {
        impl<F: FusedOp> $trait for Custom<F> {
            fn name(&self) -> &'static str {
                F::NAME
            }

            fn cpu_fwd(&self, $($s: &CpuStorage, $l: &Layout),+) -> Result<(CpuStorage, Shape)> {
                self.with_views(&[$(($s, $l)),+], |views| self.op.run(views))
            }

            #[cfg(feature = "cuda")]
            fn cuda_fwd(&self, $($s: &CudaStorage, $l: &Layout),+) -> Result<(CudaStorage, Shape)> {
                self.with_views(&[$(($s, $l)),+], |views| self.op.run(views))
            }

            #[cfg(feature = "metal")]
            fn metal_fwd(&self, $($s: &MetalStorage, $l: &Layout),+) -> Result<(MetalStorage, Shape)> {
                self.with_views(&[$(($s, $l)),+], |views| self.op.run(views))
            }

            /// candle may have Metal where this crate is built without.
            #[cfg(not(feature = "metal"))]
            fn metal_fwd(&self, $($s: &MetalStorage, _: &Layout),+) -> Result<(MetalStorage, Shape)> {
                Err(without_metal(F::NAME, [$($s),+][0].dtype()))
            }

            #[allow(unused_parens)]
            fn bwd(&self, $($t: &Tensor,)+ _res: &Tensor, grad: &Tensor) -> Result<$grads> {
                let mut grads = Custom::bwd(self, &[$($t),+], grad)?.into_iter();
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

#[cfg(all(test, not(feature = "metal")))]
mod tests {
    use super::*;

    #[test]
    fn without_metal_the_error_names_op_and_dtype() {
        let message = without_metal("norm-inputs", candle_core::DType::BF16).to_string();
        // A backtrace may follow.
        let wanted = "Metal error no metal implementation for norm-inputs of dtype BF16: \
                      candle-instance-norm was built without its feature `metal`";
        assert!(message.starts_with(wanted), "{message}");
    }
}
