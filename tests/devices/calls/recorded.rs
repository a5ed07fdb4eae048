//! The results of the calls in a file, and their differences from the results here.

use super::difference;
use anyhow::{Context, Result, ensure};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute as Attribute;
use candle_core::{CudaDevice, Device, Tensor};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::env::var_os;
use std::path::{Path, PathBuf};

const RESULTS: &str = "results.safetensors";
/// The output of the emulator: the calls, and the kernels that they launched.
const KERNELS: &str = "kernels.txt";
const DEVICE: &str = "== recorded on ";

pub fn record_or_compare(all: &HashMap<String, Tensor>, gpu: &CudaDevice) -> Result<()> {
    let folder = |name| var_os(name).map(PathBuf::from);
    if let Some(folder) = folder("CANDLE_INSTANCE_NORM_RECORD") {
        eprintln!("{DEVICE}{}", device(gpu)?);
        candle_core::safetensors::save(all, folder.join(RESULTS))?;
    }
    let Some(folder) = folder("CANDLE_INSTANCE_NORM_EXPECT") else {
        return Ok(());
    };
    let report = compare(all, &folder, &device(gpu)?)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    if let Some(file) = var_os("CANDLE_INSTANCE_NORM_CALLS_JSON") {
        std::fs::write(file, report.to_string())?;
    }
    Ok(())
}

/// The properties of the device that decide the kernels and the parts of planes.
fn device(gpu: &CudaDevice) -> Result<String> {
    let stream = gpu.cuda_stream();
    let get = |attribute| stream.context().attribute(attribute).w();
    let major = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let count = get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    Ok(format!("sm_{major}{minor}, {count} multiprocessors"))
}

fn compare(all: &HashMap<String, Tensor>, folder: &Path, here: &str) -> Result<serde_json::Value> {
    let expected = candle_core::safetensors::load(folder.join(RESULTS), &Device::Cpu)?;
    let text = std::fs::read_to_string(folder.join(KERNELS)).unwrap_or_default();
    let (kernels, recorded) = kernels(&text);
    ensure!(
        expected.len() == all.len(),
        "{} results, and {}",
        all.len(),
        expected.len()
    );
    let (mut differing, mut equal) = (vec![], 0);
    let sorted: BTreeMap<_, _> = all.iter().collect();
    for (name, got) in sorted {
        let want = expected
            .get(name)
            .with_context(|| format!("no {name} was recorded"))?;
        let Some((different, max_ulp, max_relative)) = difference(got, want)? else {
            equal += 1;
            continue;
        };
        let (call, result) = name.rsplit_once(": ").unwrap_or((name, ""));
        differing.push(json!({
            "call": call, "result": result, "kernels": kernels.get(call),
            "dtype": got.dtype().as_str(), "elements": got.elem_count(),
            "different": different, "max_ulp": max_ulp, "max_relative": max_relative,
        }));
    }
    let calls = kernels.len();
    Ok(json!({
        "calls": calls, "results": all.len(), "equal": equal, "differing": differing,
        "recorded": recorded, "here": here,
    }))
}

/// The kernels of each call, and the device that they were recorded on.
fn kernels(text: &str) -> (HashMap<&str, Vec<&str>>, &str) {
    let (mut kernels, mut recorded, mut call) = (HashMap::<_, Vec<_>>::new(), "", "");
    for line in text.lines() {
        if let Some(device) = line.strip_prefix(DEVICE) {
            recorded = device;
        } else if let Some(next) = line.strip_prefix("== ") {
            call = next;
            kernels.entry(call).or_default();
        } else {
            let of_call = kernels.entry(call).or_default();
            if !of_call.contains(&line) {
                of_call.push(line);
            }
        }
    }
    (kernels, recorded)
}
