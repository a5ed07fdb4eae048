//! The conventions of the family against torch; tests/golden/family.py writes each of them out.

use crate::common::{self, Goldens, Tolerance, assert_close, backward, max_abs};
use crate::family_case::{Case, Got};
use anyhow::Result;
use candle_core::Device;
use serde_json::Value;

/// The result, the gradients of all inputs and the running statistics.
fn check(case: &Case, goldens: &Goldens) -> Result<()> {
    let at = |key: &str| format!("{} on {:?}: {key}", case.name, case.device.location());
    let Got { y, running } = case.run()?;
    let dy = goldens.must(case.name, "dy");
    assert_eq!(y.dtype(), dy.dtype(), "{}", at("y"));
    let want = goldens.must(case.name, "y");
    assert_close(
        &at("y"),
        &y,
        want,
        Tolerance::of(y.dtype()).scaled(max_abs(want).max(1.)),
    );
    for (key, kept) in running {
        // In evaluation they stay as they are.
        let state = ["state", "state.param_free_norm"].map(|at| format!("{at}.{key}"));
        let [a, b] = state.map(|key| goldens.get(case.name, &key));
        let want = goldens.get(case.name, &format!("after.{key}"));
        let want = want.or(a).or(b).unwrap_or_else(|| panic!("{}", at(key)));
        let tol = Tolerance::of(kept.dtype()).scaled(max_abs(want).max(1.));
        assert_close(&at(key), &kept, want, tol);
    }
    let grads = backward(&y, dy)?;
    for (key, var) in &case.vars {
        let got = grads.get(var);
        let Some(want) = goldens.get(case.name, &format!("d.{key}")) else {
            assert!(got.is_none() && key.contains("running_"), "{}", at(key));
            continue;
        };
        let got = got.unwrap_or_else(|| panic!("{} has no gradient", at(key)));
        assert_eq!(got.dtype(), var.dtype(), "{}", at(key));
        let scale = max_abs(want).max(1.);
        let mut tol = Tolerance::of(got.dtype()).scaled(scale);
        if case.name.starts_with("hyeonseobnam") && key == "x" {
            // The sum of what comes through the pass and through the statistics, each rounded.
            tol = tol.plus(tol.rtol * scale);
        }
        assert_close(&at(&format!("d.{key}")), got, want, tol);
    }
    Ok(())
}

/// Every case whose name starts with one of these.
fn check_all(device: &Device, count: usize, prefixes: &[&str]) -> Result<()> {
    let goldens = Goldens::load("family.safetensors", device)?;
    let named = |case: &&Value| {
        let name = case["name"].as_str().expect("a name");
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let cases: Vec<&Value> = goldens.cases.iter().filter(named).collect();
    assert_eq!(cases.len(), count, "cases of {prefixes:?}");
    let there = |case: &&Value| common::has(device, common::dtype(case, "dtype"));
    for case in cases.into_iter().filter(there) {
        check(&Case::new(&goldens, case, device)?, &goldens)?;
    }
    Ok(())
}

/// A test of the cases of these implementations, for each device.
macro_rules! implementations {
    ($($body:ident: $count:literal of $($prefix:literal),+;)+) => {
        $(
            fn $body(device: &Device) -> Result<()> {
                check_all(device, $count, &[$($prefix),+])
            }

            test_device!($body);
        )+

        /// No case is left out above.
        #[test]
        fn every_case_has_a_test() -> Result<()> {
            let goldens = Goldens::load("family.safetensors", &Device::Cpu)?;
            assert_eq!(goldens.cases.len(), 0 $(+ $count)+);
            Ok(())
        }
    };
}

implementations! {
    naoto0804: 11 of "naoto0804";
    microast: 1 of "microast";
    stargan: 1 of "stargan_biased";
    keras_contrib: 3 of "keras_contrib";
    diffusers: 3 of "diffusers";
    statistics: 9 of "instance_stats", "with_stats";
    torch_group_norm: 11 of "torch_";
    activations: 24 of "relu", "leaky_relu", "silu";
    residual: 4 of "residual";
    spade_like: 9 of "per_element", "one_plus_weight";
    stylegan: 4 of "stylegan";
    stargan_v2: 4 of "stargan_v2";
    munit: 5 of "munit";
    styletts2: 4 of "styletts2";
    kokoro: 6 of "kokoro";
    magenta: 8 of "magenta";
    embedding: 8 of "embedding";
    kewellcjj: 8 of "kewellcjj";
    nvlabs_spade: 6 of "spade";
    monai_spade: 1 of "monai_spade";
    hyeonseobnam: 9 of "hyeonseobnam";
}
