//! The state of a run, from which it resumes as if it had not been interrupted.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::options::Settings;
use super::trainer::Trainer;
use crate::atomic_write;

/// Writes the network, the moments of Adam and the losses. The number of losses is the step, which
/// decides the random numbers.
pub fn save(path: &Path, trainer: &Trainer, settings: &Settings, seconds: f64) -> Result<()> {
    let mut tensors = HashMap::new();
    for parameter in &trainer.parameters {
        let name = &parameter.name;
        tensors.insert(format!("var.{name}"), parameter.var.as_tensor().clone());
        tensors.insert(format!("first.{name}"), parameter.first.clone());
        tensors.insert(format!("second.{name}"), parameter.second.clone());
    }
    let device = &Device::Cpu;
    let losses = trainer.losses.as_flattened();
    let losses = Tensor::from_slice(losses, (trainer.done(), 2), device)?;
    tensors.insert("losses".into(), losses);
    tensors.insert("seconds".into(), Tensor::new(seconds, device)?);
    let settings = settings.describe();
    tensors.insert("settings".into(), Tensor::new(settings.as_bytes(), device)?);
    atomic_write::write(path, |path| candle_core::safetensors::save(&tensors, path))
}

/// Restores a run, and returns the seconds that it had taken.
pub fn load(path: &Path, trainer: &mut Trainer, settings: &Settings) -> Result<f64> {
    let mut read = || -> Result<f64> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let tensor = |name: String| {
            let tensor = tensors.get(&name);
            tensor.with_context(|| format!("it holds no {name}"))
        };
        let saved = String::from_utf8(tensor("settings".into())?.to_vec1::<u8>()?)?;
        let asked = settings.describe();
        ensure!(
            saved == asked,
            "it was started with {saved}, not with {asked}"
        );
        for parameter in &mut trainer.parameters {
            let name = &parameter.name;
            parameter.var.set(tensor(format!("var.{name}"))?)?;
            parameter.first = tensor(format!("first.{name}"))?.clone();
            parameter.second = tensor(format!("second.{name}"))?.clone();
        }
        let losses = tensor("losses".into())?.to_vec2::<f32>()?;
        trainer.losses = losses.iter().map(|pair| [pair[0], pair[1]]).collect();
        Ok(tensor("seconds".into())?.to_scalar()?)
    };
    read().with_context(|| format!("cannot resume from {}", path.display()))
}
