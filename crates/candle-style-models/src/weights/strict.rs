//! Building a network from a checkpoint, with one error for everything that does not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::{Weights, first_line};

/// The last parts of the names that a file may have and a network not use.
const RUNNING: [&str; 3] = ["running_mean", "running_var", "num_batches_tracked"];

pub(super) fn build<T>(
    weights: &Weights,
    dtype: DType,
    device: &Device,
    network: impl FnOnce(VarBuilder<'static>) -> Result<T>,
) -> Result<T> {
    let audit = Arc::new(Mutex::new(Audit::default()));
    let backend = Audited {
        weights: weights.clone(),
        audit: audit.clone(),
    };
    let vb = VarBuilder::from_backend(Box::new(backend), dtype, device.clone());
    let built = network(vb);
    let audit = std::mem::take(&mut *lock(&audit));
    match (audit.complaint(weights, built.is_ok()), built) {
        (None, built) => built.map_err(|error| {
            let error = first_line(&error);
            Error::Msg(format!("{}: {error}", weights.origin))
        }),
        (Some(complaint), _) => bail!("{}: {complaint}", weights.origin),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tensors that a network asked for.
#[derive(Default)]
struct Audit {
    used: BTreeSet<String>,
    /// The shapes that were asked for, with 0 for any size.
    missing: BTreeMap<String, Shape>,
    misshaped: BTreeMap<String, Shape>,
}

impl Audit {
    /// The message about everything that does not fit, if anything. Names are shown escaped: they are
    /// the file's, and may hold anything.
    fn complaint(&self, weights: &Weights, complete: bool) -> Option<String> {
        let mut parts = Vec::new();
        let mut part = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        let missing = self.missing.keys();
        part("missing", missing.map(|name| escaped(name)).collect());
        let misshaped = self.misshaped.iter().map(|(name, wanted)| {
            let got = weights.shape(name).map_or(&[][..], |shape| shape.dims());
            let wanted = pattern(wanted);
            format!("{} must have shape {wanted}, got {got:?}", escaped(name))
        });
        part("misshapen:", misshaped.collect());
        // A network that stopped half-way has not asked for everything.
        if complete {
            let unused = weights.names().filter(|name| !self.asked_for(name));
            part("unexpected", unused.map(escaped).collect());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn asked_for(&self, name: &str) -> bool {
        let last = name.rsplit('.').next().unwrap_or(name);
        self.used.contains(name) || self.misshaped.contains_key(name) || RUNNING.contains(&last)
    }
}

fn escaped(name: &str) -> String {
    name.escape_debug().to_string()
}

fn pattern(shape: &Shape) -> String {
    let dim = |&dim: &usize| match dim {
        0 => "_".to_string(),
        dim => dim.to_string(),
    };
    let dims = shape.dims().iter().map(dim).collect::<Vec<_>>();
    format!("[{}]", dims.join(", "))
}

/// Hands out the weights, and a blank for each that does not fit, so that the network is built to
/// the end and every fault is found. In a requested shape, 0 stands for a width that the file alone
/// knows; no layer has a width of 0.
struct Audited {
    weights: Weights,
    audit: Arc<Mutex<Audit>>,
}

impl SimpleBackend for Audited {
    fn get(
        &self,
        wanted: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut audit = lock(&self.audit);
        let fits = |got: &Shape| {
            let mut dims = got.dims().iter().zip(wanted.dims());
            got.rank() == wanted.rank() && dims.all(|(got, want)| got == want || *want == 0)
        };
        match self.weights.entries.get(name) {
            Some(entry) if fits(&entry.shape) && entry.shape.elem_count() > 0 => {
                audit.used.insert(name.to_string());
                return entry.load(dtype, device);
            }
            Some(_) => audit.misshaped.insert(name.to_string(), wanted.clone()),
            None => audit.missing.insert(name.to_string(), wanted.clone()),
        };
        // One number broadcast: no memory, whatever the shape.
        Tensor::zeros((), dtype, device)?.broadcast_as(wanted)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(entry) = self.weights.entries.get(name) else {
            let path = name.to_string();
            return Err(Error::CannotFindTensor { path });
        };
        lock(&self.audit).used.insert(name.to_string());
        entry.load(dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.weights.entries.contains_key(name)
    }
}

/// Hands out the weights, and fails at the first that does not fit.
pub(super) struct Plain(pub Weights);

impl SimpleBackend for Plain {
    fn get(
        &self,
        wanted: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        match self.0.shape(name) {
            Some(got) if *got != wanted => bail!(
                "{}: {} must have shape {wanted:?}, got {got:?}",
                self.0.origin,
                escaped(name)
            ),
            _ => self.get_unchecked(name, dtype, device),
        }
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        match self.0.entries.get(name) {
            Some(entry) => entry.load(dtype, device),
            None => bail!("{}: missing {}", self.0.origin, escaped(name)),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.entries.contains_key(name)
    }
}
