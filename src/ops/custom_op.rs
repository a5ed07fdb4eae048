//! One trait for the crate's ops, on any number of tensors, behind candle's custom ops on up to
//! three.

use crate::spec::View;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    bail, CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, MetalStorage, Result, Shape,
    Storage, Tensor,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// An op on some tensors with one result.
pub trait FusedOp: Send + Sync + 'static {
    const NAME: &'static str;

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)>;

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)>;

    #[cfg(feature = "metal")]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)>;

    /// candle may have Metal where this crate is built without.
    #[cfg(not(feature = "metal"))]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        Err(without_metal(Self::NAME, inputs[0].0.dtype()))
    }

    /// One gradient, or none, for each of `inputs`.
    fn bwd(&self, _inputs: &[&Tensor], _grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Err(Error::BackwardNotSupported { op: Self::NAME }.bt())
    }
}

/// The result of `op`, on the graph behind every tracked input.
///
/// candle's ops take three tensors. Where there are more, the op keeps those that are not tracked,
/// and the tracked ones beyond the first are on the graph behind nodes that [`carry`] them.
pub fn apply<F: FusedOp>(op: F, inputs: &[&Tensor]) -> Result<Tensor> {
    if inputs.len() <= 3 {
        let held = inputs.iter().map(|_| None).collect();
        return Custom::new(op, held, vec![]).apply(inputs);
    }
    let mut tracked: Vec<usize> = (0..inputs.len())
        .filter(|&i| inputs[i].track_op())
        .collect();
    if tracked.is_empty() {
        tracked.push(0);
    }
    let direct = if tracked.len() <= 3 { tracked.len() } else { 1 };
    let (direct, carried) = tracked.split_at(direct);
    let held = (0..inputs.len())
        .map(|i| (!direct.contains(&i)).then(|| inputs[i].clone()))
        .collect();
    let mut graph: Vec<Tensor> = direct.iter().map(|&i| inputs[i].clone()).collect();
    let mut carriers = vec![];
    for some in carried.chunks(3) {
        let slot = Slot::default();
        let tensors: Vec<&Tensor> = some.iter().map(|&i| inputs[i]).collect();
        graph.push(carry(&slot, &tensors)?);
        carriers.push((some.to_vec(), slot));
    }
    Custom::new(op, held, carriers).apply(&graph.iter().collect::<Vec<_>>())
}

struct Custom<F> {
    op: F,
    /// The op's inputs that candle does not hand over; `None` stands for the next one that it does.
    held: Vec<Option<Tensor>>,
    /// The inputs behind each of the carriers, which candle hands over last.
    carriers: Vec<(Vec<usize>, Slot)>,
}

impl<F: FusedOp> Custom<F> {
    fn new(op: F, held: Vec<Option<Tensor>>, carriers: Vec<(Vec<usize>, Slot)>) -> Self {
        Self { op, held, carriers }
    }

    fn apply(self, inputs: &[&Tensor]) -> Result<Tensor> {
        match inputs {
            [a] => a.apply_op1(self),
            [a, b] => a.apply_op2(b, self),
            [a, b, c] => a.apply_op3(b, c, self),
            _ => bail!("{}: expected fewer than 8 tracked inputs", F::NAME),
        }
    }

    fn bwd(&self, given: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut next = given.iter();
        let mut inputs = vec![];
        for held in &self.held {
            inputs.extend(held.as_ref().or_else(|| next.next().copied()));
        }
        let mut grads = self.op.bwd(&inputs, grad)?;
        let mut of_given = vec![];
        for (i, held) in self.held.iter().enumerate() {
            if held.is_none() {
                of_given.push(grads.get_mut(i).and_then(Option::take));
            }
        }
        for ((carried, slot), carrier) in self.carriers.iter().zip(next) {
            let carried = carried
                .iter()
                .map(|&i| grads.get_mut(i).and_then(Option::take));
            slot.put(carried.collect())?;
            of_given.push(Some(carrier.zeros_like()?));
        }
        Ok(of_given)
    }
}

/// candle's kind of error for a tensor on Metal in a build of this crate that has no kernels for it.
#[cfg(not(feature = "metal"))]
pub fn without_metal(op: &'static str, dtype: candle_core::DType) -> Error {
    let message = format!(
        "no metal implementation for {op} of dtype {dtype:?}: candle-instance-norm was built without \
         its feature `metal`"
    );
    Error::Metal(message.into()).bt()
}

/// Every input of an op as a view: those that candle handed over, and those that the op holds.
macro_rules! with_views {
    ($self:ident, $variant:ident, $given:expr, |$views:ident| $run:expr) => {{
        let guards: Vec<_> = $self
            .held
            .iter()
            .map(|held| held.as_ref().map(|t| t.storage_and_layout()))
            .collect();
        let mut given = $given.into_iter();
        let mut $views = Vec::with_capacity(guards.len());
        for guard in &guards {
            match guard {
                Some((storage, layout)) => match &**storage {
                    Storage::$variant(storage) => $views.push((storage, *layout)),
                    _ => bail!("{}: expected all tensors on one device", F::NAME),
                },
                None => $views.extend(given.next()),
            }
        }
        $run
    }};
}

/// Stamps one of candle's traits, which differ in the number of tensors alone.
macro_rules! custom_op {
    ($trait:ident, $grads:ty, $($s:ident $l:ident $t:ident),+) => {
        impl<F: FusedOp> $trait for Custom<F> {
            fn name(&self) -> &'static str {
                F::NAME
            }

            fn cpu_fwd(&self, $($s: &CpuStorage, $l: &Layout),+) -> Result<(CpuStorage, Shape)> {
                with_views!(self, Cpu, [$(($s, $l)),+], |views| self.op.cpu(&views))
            }

            #[cfg(feature = "cuda")]
            fn cuda_fwd(&self, $($s: &CudaStorage, $l: &Layout),+) -> Result<(CudaStorage, Shape)> {
                with_views!(self, Cuda, [$(($s, $l)),+], |views| self.op.cuda(&views))
            }

            fn metal_fwd(&self, $($s: &MetalStorage, $l: &Layout),+) -> Result<(MetalStorage, Shape)> {
                with_views!(self, Metal, [$(($s, $l)),+], |views| self.op.metal(&views))
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

/// Where an op leaves gradients for the carrier of its inputs, which the same `backward`, on the
/// same thread, comes to later.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<HashMap<ThreadId, Vec<Grad>>>>);

impl Slot {
    fn put(&self, grads: Vec<Grad>) -> Result<()> {
        let mut slot = self.0.lock().map_err(|_| poisoned())?;
        slot.insert(thread::current().id(), grads);
        Ok(())
    }

    fn take(&self) -> Result<Vec<Grad>> {
        let mut slot = self.0.lock().map_err(|_| poisoned())?;
        match slot.remove(&thread::current().id()) {
            Some(grads) => Ok(grads),
            None => bail!("norm: no gradients were left for the inputs of an op"),
        }
    }
}

fn poisoned() -> Error {
    Error::Msg("norm: a thread panicked while it handed on gradients".into())
}

/// A node on the graph that stands for up to three tensors: a single 0 that nobody reads.
fn carry(slot: &Slot, tensors: &[&Tensor]) -> Result<Tensor> {
    let held = tensors.iter().map(|_| None).collect();
    Custom::new(Carrier(slot.clone()), held, vec![]).apply(tensors)
}

struct Carrier(Slot);

impl FusedOp for Carrier {
    const NAME: &'static str = "norm-inputs";

    fn cpu(&self, _: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.]), Shape::from(1)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::{BackendDevice, BackendStorage};
        let shape = Shape::from(1);
        let zero = inputs[0]
            .0
            .device()
            .zeros_impl(&shape, candle_core::DType::F32)?;
        Ok((zero, shape))
    }

    #[cfg(feature = "metal")]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        use candle_core::backend::{BackendDevice, BackendStorage};
        let shape = Shape::from(1);
        let zero = inputs[0]
            .0
            .device()
            .zeros_impl(&shape, candle_core::DType::F32)?;
        Ok((zero, shape))
    }

    fn bwd(&self, _: &[&Tensor], _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        self.0.take()
    }
}

#[cfg(all(test, not(feature = "metal")))]
mod tests {
    use super::*;

    #[test]
    fn without_metal_the_error_names_op_and_dtype() {
        let message = without_metal(Carrier::NAME, candle_core::DType::BF16).to_string();
        // A backtrace may follow.
        let wanted = "Metal error no metal implementation for norm-inputs of dtype BF16: \
                      candle-instance-norm was built without its feature `metal`";
        assert!(message.starts_with(wanted), "{message}");
    }
}
