//! Results of PyTorch, in the files that the scripts beside them wrote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// The path of a golden: a file in the folder `golden` of the tests that read it, or in the folder
/// that `CANDLE_INSTANCE_NORM_GOLDENS` names, where the tests have been taken to another machine.
pub fn golden(file: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("CANDLE_INSTANCE_NORM_GOLDENS") {
        return Path::new(&folder).join(file);
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut paths = ["tests", "crates/candle-style-models/tests"]
        .map(|tests| Path::new(root).join(tests).join("golden").join(file))
        .into_iter();
    let found = paths.find(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no golden {file}"))
}

/// A golden with cases.
pub struct Goldens {
    pub cases: Vec<Value>,
    tensors: HashMap<String, Tensor>,
}

impl Goldens {
    pub fn load(file: &str, device: &Device) -> Result<Self> {
        let path = golden(file);
        let data = std::fs::read(&path).with_context(|| path.display().to_string())?;
        // candle does not hand out the metadata. They are in the header: its length, then JSON.
        let len = u64::from_le_bytes(data[..8].try_into()?) as usize;
        let header: Value = serde_json::from_slice(&data[8..8 + len])?;
        let cases = header["__metadata__"]["cases"].as_str().context("cases")?;
        Ok(Self {
            cases: serde_json::from_str(cases)?,
            tensors: candle_core::safetensors::load_buffer(&data, device)?,
        })
    }

    pub fn get(&self, case: &str, key: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{case}.{key}"))
    }

    #[track_caller]
    pub fn must(&self, case: &str, key: &str) -> &Tensor {
        self.get(case, key)
            .unwrap_or_else(|| panic!("no {case}.{key} in the goldens"))
    }

    /// The tensors below `<case>.<prefix>.`, by what is left of their names.
    pub fn below(&self, case: &str, prefix: &str) -> HashMap<String, Tensor> {
        self.below_case(&format!("{case}.{prefix}"))
    }

    /// The tensors below `<case>.`, likewise.
    pub fn below_case(&self, case: &str) -> HashMap<String, Tensor> {
        let prefix = format!("{case}.");
        let below = |(k, v): (&String, &Tensor)| Some((k.strip_prefix(&prefix)?.into(), v.clone()));
        self.tensors.iter().filter_map(below).collect()
    }
}

/// The golden of StarGAN v2 as a checkpoint: its style encoder is for pictures of 16x16, and gets
/// `more` blocks of the generator's in front of its last convolution.
pub fn stargan_v2_checkpoint(
    golden: &HashMap<String, Tensor>,
    more: usize,
) -> HashMap<String, Tensor> {
    let networks = ["generator.", "mapping_network.", "style_encoder."];
    let ours = |name: &String| networks.iter().any(|network| name.starts_with(network));
    let last = format!("style_encoder.shared.{}.", 4 + more);
    let tensors = golden.iter().filter(|(name, _)| ours(name));
    let mut tensors: HashMap<_, _> = tensors
        .map(|(name, tensor)| {
            let name = name.replace("style_encoder.shared.4.", &last);
            (name, tensor.clone())
        })
        .collect();
    for block in 3..3 + more {
        for name in ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"] {
            let tensor = golden[&format!("generator.encode.2.{name}")].clone();
            tensors.insert(format!("style_encoder.shared.{block}.{name}"), tensor);
        }
    }
    tensors
}

/// The dtype that a case of the goldens names.
pub fn dtype(case: &Value, key: &str) -> DType {
    match case[key].as_str() {
        Some("f16") => DType::F16,
        Some("bf16") => DType::BF16,
        Some("f32") => DType::F32,
        Some("f64") => DType::F64,
        other => panic!("{key}: {other:?}"),
    }
}
