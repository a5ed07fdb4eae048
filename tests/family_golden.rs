//! The conventions of the family against torch; tests/golden/family.py writes each of them out.

#[macro_use]
mod common;
#[path = "common/family.rs"]
mod family;

use anyhow::Result;
use candle_core::Device;
use common::{assert_close, backward, max_abs, Goldens, Tolerance};
use family::{Case, Got};
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
    ($($body:ident, $cpu:ident, $cuda:ident: $count:literal of $($prefix:literal),+;)+) => {
        $(
            fn $body(device: &Device) -> Result<()> {
                check_all(device, $count, &[$($prefix),+])
            }

            test_device!($body, $cpu, $cuda);
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
    naoto0804, naoto0804_cpu, naoto0804_cuda: 11 of "naoto0804";
    microast, microast_cpu, microast_cuda: 1 of "microast";
    stargan, stargan_cpu, stargan_cuda: 1 of "stargan_biased";
    keras_contrib, keras_contrib_cpu, keras_contrib_cuda: 3 of "keras_contrib";
    diffusers, diffusers_cpu, diffusers_cuda: 3 of "diffusers";
    statistics, statistics_cpu, statistics_cuda: 9 of "instance_stats", "with_stats";
    torch_group_norm, torch_group_norm_cpu, torch_group_norm_cuda: 11 of "torch_";
    activations, activations_cpu, activations_cuda: 24 of "relu", "leaky_relu", "silu";
    residual, residual_cpu, residual_cuda: 4 of "residual";
    spade_like, spade_like_cpu, spade_like_cuda: 9 of "per_element", "one_plus_weight";
    stylegan, stylegan_cpu, stylegan_cuda: 4 of "stylegan";
    stargan_v2, stargan_v2_cpu, stargan_v2_cuda: 4 of "stargan_v2";
    munit, munit_cpu, munit_cuda: 5 of "munit";
    styletts2, styletts2_cpu, styletts2_cuda: 4 of "styletts2";
    kokoro, kokoro_cpu, kokoro_cuda: 6 of "kokoro";
    magenta, magenta_cpu, magenta_cuda: 8 of "magenta";
    embedding, embedding_cpu, embedding_cuda: 8 of "embedding";
    kewellcjj, kewellcjj_cpu, kewellcjj_cuda: 8 of "kewellcjj";
    nvlabs_spade, nvlabs_spade_cpu, nvlabs_spade_cuda: 6 of "spade";
    monai_spade, monai_spade_cpu, monai_spade_cuda: 1 of "monai_spade";
    hyeonseobnam, hyeonseobnam_cpu, hyeonseobnam_cuda: 9 of "hyeonseobnam";
}
