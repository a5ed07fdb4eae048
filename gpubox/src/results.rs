//! The results of a run as typed rows. A figure that a row lacks is `None`; fields of unknown names are
//! kept, so that results.json holds everything.

use crate::ncu::Kernel;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub type Other = BTreeMap<String, Value>;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// The state of every file: "read", "missing", "empty", or its fault.
    pub files: BTreeMap<String, String>,
    pub machine: BTreeMap<String, String>,
    pub phases: Vec<Phase>,
    pub first: Vec<First>,
    pub calls: Option<Calls>,
    pub speed: Vec<Speed>,
    pub torch: Vec<Torch>,
    pub host: Vec<Host>,
    pub ncu: Vec<Kernel>,
}

impl Results {
    /// A value of machine.tsv, or "-".
    pub fn of_machine(&self, key: &str) -> &str {
        self.machine.get(key).map_or("-", |value| value)
    }

    pub fn emulated(&self) -> bool {
        self.machine
            .get("emulated")
            .is_some_and(|value| value == "yes")
    }

    /// The rows that PyTorch's benchmark had no time for.
    pub fn left_out(&self) -> f64 {
        // From 0, since the sum of nothing is -0.
        let left_out = self.torch.iter().filter_map(|row| row.left_out);
        left_out.fold(0., |sum, rows| sum + rows)
    }
}

#[derive(Serialize, Deserialize)]
pub struct Phase {
    pub phase: String,
    pub status: String,
    pub seconds: Option<f64>,
    pub note: String,
}

impl Phase {
    /// True if somebody has to look at the phase: it failed, ran out of time, or the device refused a
    /// tool.
    pub fn not_passed(&self) -> bool {
        !matches!(&*self.status, "passed" | "skipped")
    }
}

/// The first call of a module, with the driver's compilation, and the second.
#[derive(Serialize, Deserialize)]
pub struct First {
    pub module: String,
    pub first_ms: Option<f64>,
    pub second_ms: Option<f64>,
    #[serde(flatten)]
    pub other: Other,
}

/// The GPU's results bit for bit against those that the emulator computed.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    pub differing: Vec<Differing>,
    pub calls: Option<f64>,
    pub results: Option<f64>,
    pub equal: Option<f64>,
    pub recorded: Option<String>,
    pub here: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Serialize, Deserialize)]
pub struct Differing {
    pub call: String,
    #[serde(default)]
    pub kernels: Vec<String>,
    pub dtype: Option<String>,
    pub result: Option<String>,
    pub elements: Option<f64>,
    pub different: Option<f64>,
    pub max_ulp: Option<f64>,
    pub max_relative: Option<f64>,
    #[serde(flatten)]
    pub other: Other,
}

/// A call of ours, with the device's copy of x and candle's composed operations beside it.
#[derive(Serialize, Deserialize)]
pub struct Speed {
    pub op: String,
    #[serde(default)]
    pub shape: Vec<usize>,
    #[serde(default)]
    pub dtype: String,
    #[serde(default)]
    pub direction: String,
    #[serde(default)]
    pub cache: String,
    pub method: Option<String>,
    /// The tensors of x's size that a perfect kernel moves.
    pub tensors: Option<f64>,
    pub ours_ms: Option<f64>,
    pub copy_ms: Option<f64>,
    pub composed_ms: Option<f64>,
    pub composed_method: Option<String>,
    pub gb_per_s: Option<f64>,
    pub error: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Serialize, Deserialize)]
pub struct Torch {
    #[serde(default)]
    pub op: String,
    #[serde(default)]
    pub peer: String,
    #[serde(default)]
    pub compiled: bool,
    #[serde(default)]
    pub shape: Vec<usize>,
    #[serde(default)]
    pub dtype: String,
    #[serde(default)]
    pub direction: String,
    #[serde(default)]
    pub cache: String,
    pub method: Option<String>,
    pub tensors: Option<f64>,
    pub ms: Option<f64>,
    pub gb_per_s: Option<f64>,
    pub error: Option<String>,
    pub left_out: Option<f64>,
    #[serde(flatten)]
    pub other: Other,
}

/// The cost of a call on the host.
#[derive(Serialize, Deserialize)]
pub struct Host {
    pub call: String,
    pub us: Option<f64>,
    #[serde(flatten)]
    pub other: Other,
}
