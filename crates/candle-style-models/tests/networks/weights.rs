//! `Weights` against files of PyTorch, and its errors for files that do not fit.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::golden;
use crate::common::pictures::published;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use candle_style_models::ResnetGenerator;
use candle_style_models::weights::Weights;

const CPU: &Device = &Device::Cpu;

/// An empty folder for a test.
fn folder(test: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn bits(tensor: &Tensor) -> Result<Vec<u64>> {
    let wide = tensor.to_dtype(DType::F64)?.flatten_all()?;
    let bits = wide.to_vec1::<f64>()?.into_iter().map(f64::to_bits);
    Ok(bits.collect())
}

/// Every tensor of `weights` is, to the bit, the one in `expected`; and none is missing.
#[track_caller]
fn check_equal(weights: &Weights, expected: &HashMap<String, Tensor>) -> Result<()> {
    let mut names: Vec<_> = expected.keys().map(String::as_str).collect();
    names.sort();
    assert_eq!(weights.names().collect::<Vec<_>>(), names);
    let vb = weights.var_builder(DType::F64, CPU);
    for name in names {
        let want = &expected[name];
        assert_eq!(weights.shape(name), Some(want.shape()), "{name}");
        let got = vb.get(want.shape(), name)?;
        assert_eq!(bits(&got)?, bits(want)?, "{name}");
    }
    Ok(())
}

#[test]
fn every_container_holds_the_same() -> Result<()> {
    let path = golden("checkpoints/expected.safetensors");
    let expected = candle_core::safetensors::load(&path, CPU)?;
    check_equal(&Weights::open(&path)?, &expected)?;
    check_equal(&Weights::open(golden("checkpoints/zip.pth"))?, &expected)?;
    check_equal(&Weights::open(golden("checkpoints/legacy.pth"))?, &expected)?;
    let mut old = expected;
    old.retain(|_, tensor| tensor.dtype() != DType::BF16);
    check_equal(&Weights::open(golden("checkpoints/tar.pth"))?, &old)
}

#[test]
fn published_files_hold_the_same() -> Result<()> {
    let Some(folder) = published("cyclegan-horse2zebra") else {
        return Ok(());
    };
    let expected = folder.join("latest_net_G.safetensors");
    let expected = candle_core::safetensors::load(expected, CPU)?;
    check_equal(&Weights::open(folder.join("latest_net_G.pth"))?, &expected)?;
    // The two differ in their ending alone: one is enough.
    check_equal(&Weights::open(&folder)?, &expected)
}

#[test]
fn files_of_a_folder_go_by_their_names() -> Result<()> {
    let folder = folder("weights-folder")?;
    let save = |file: &str, value: f32| -> Result<()> {
        let tensor = Tensor::new(&[value], CPU)?;
        let tensors = HashMap::from([("a", tensor)]);
        Ok(candle_core::safetensors::save(&tensors, folder.join(file))?)
    };
    save("first.safetensors", 1.)?;
    fs::write(folder.join("notes.txt"), "not weights")?;
    assert_eq!(Weights::open(&folder)?.names().collect::<Vec<_>>(), ["a"]);

    // Known by its content, not by its ending.
    save("second.bin", 2.)?;
    let weights = Weights::open(&folder)?;
    let names = weights.names().collect::<Vec<_>>();
    assert_eq!(names, ["first.a", "second.a"]);
    let second = weights.var_builder(DType::F32, CPU).get(1, "second.a")?;
    assert_eq!(second.to_vec1::<f32>()?, [2.]);

    let empty = folder.join("empty");
    fs::create_dir(&empty)?;
    let error = Weights::open(&empty).err().context("opened")?.to_string();
    assert!(error.contains("no file that ends in"), "{error}");
    Ok(())
}

/// The state dict of a golden generator.
fn generator(form: &str) -> Result<BTreeMap<String, Tensor>> {
    let mut golden = candle_core::safetensors::load(golden("resnet_generator.safetensors"), CPU)?;
    golden.remove(&format!("{form}.output"));
    let prefix = format!("{form}.");
    let strip =
        |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&prefix)?.into(), tensor));
    Ok(golden.into_iter().filter_map(strip).collect())
}

fn build(tensors: BTreeMap<String, Tensor>) -> candle_core::Result<ResnetGenerator> {
    let weights = Weights::from_tensors(tensors, "net.pth");
    weights.build(DType::F32, CPU, ResnetGenerator::new)
}

#[test]
fn a_network_is_built_from_what_fits() -> Result<()> {
    for form in ["full", "separable"] {
        let mut tensors = generator(form)?;
        // Old files hold these for norms that never used them.
        for stray in ["running_mean", "running_var", "num_batches_tracked"] {
            let name = format!("module.model.2.{stray}");
            tensors.insert(name, Tensor::ones(4, DType::F32, CPU)?);
        }
        let module = |(name, tensor): (String, Tensor)| {
            if name.starts_with("module.") {
                (name, tensor)
            } else {
                (format!("module.{name}"), tensor)
            }
        };
        let network = build(tensors.into_iter().map(module).collect())?;
        let golden = candle_core::safetensors::load(golden("resnet_generator.safetensors"), CPU)?;
        let off = (network.forward(&golden["input"])? - &golden[&format!("{form}.output")])?;
        assert!(off.abs()?.max_all()?.to_scalar::<f32>()? < 1e-4);
    }
    Ok(())
}

#[test]
fn one_error_names_everything_that_does_not_fit() -> Result<()> {
    for form in ["full", "separable"] {
        let mut tensors = generator(form)?;
        for missing in ["model.1.weight", "model.7.bias", "model.19.weight"] {
            tensors.remove(missing).context("no such tensor")?;
        }
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU);
        for (name, shape) in [
            ("model.4.weight", &[8, 4, 5, 5][..]),
            ("model.12.bias", &[3]),
            ("model.15.weight", &[0, 4, 3, 3]),
            ("model.1.wait", &[1]),
            ("new\nline", &[1]),
        ] {
            tensors.insert(name.into(), zeros(shape)?);
        }
        let error = build(tensors).err().context("built")?.to_string();
        let error = error.lines().next().unwrap_or_default();
        assert_eq!(
            error,
            "net.pth: missing model.1.weight, model.19.weight, model.7.bias; misshapen: \
             model.12.bias must have shape [8], got [3], \
             model.15.weight must have shape [8, _, 3, 3], got [0, 4, 3, 3], \
             model.4.weight must have shape [_, _, 3, 3], got [8, 4, 5, 5]; \
             unexpected model.1.wait, new\\nline",
            "{form}"
        );
    }
    Ok(())
}

#[test]
fn a_plain_var_builder_names_the_tensor() -> Result<()> {
    let weight = Tensor::ones(3, DType::F32, CPU)?;
    let weights = Weights::from_tensors([("a.weight".to_string(), weight)], "net.pth");
    let vb = weights.var_builder(DType::F16, CPU);
    assert_eq!(vb.pp("a").get(3, "weight")?.dtype(), DType::F16);
    for (error, expected) in [
        (
            vb.get(4, "a.weight"),
            "net.pth: a.weight must have shape [4], got [3]",
        ),
        (vb.get(3, "b"), "net.pth: missing b"),
    ] {
        let error = error.err().context("found")?.to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    Ok(())
}

/// Without the feature `hub` there is no such name; with it, a wrong one is refused before
/// anything is asked for.
#[test]
fn names_of_the_hub_are_checked() {
    for name in [
        "hf://owner",
        "hf://owner/..",
        "hf://owner/name//etc/passwd",
        "hf://owner/name/../../x",
        "hf://owner/name/a b",
        "hf://owner/name@../../x",
        "hf://owner/name@",
    ] {
        let error = Weights::open(name).err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.starts_with(name), "{name}: {error}");
    }
}
