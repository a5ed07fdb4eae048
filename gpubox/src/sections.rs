//! The parts that the summary and the report share: tables as headers and rows, for either to draw.

use crate::compare::Mean;
use crate::format::{Rows, count, number, percent, shape};
use crate::ncu::Kernel;
use crate::results::{Calls, Differing, First, Host, Phase, Results};

pub const MEANS: [&str; 8] = [
    "cache",
    "dtype",
    "direction",
    ">rows",
    ">of copy",
    ">PyTorch / ours",
    ">slower than PyTorch",
    ">composed / ours",
];

pub fn means(means: &[Mean]) -> Rows {
    let row = |mean: &Mean| {
        vec![
            mean.cache.into(),
            mean.dtype.into(),
            mean.direction.into(),
            mean.rows.to_string(),
            percent(mean.of_copy),
            number(mean.torch_by_ours),
            if mean.with_torch == 0 {
                "-".into()
            } else {
                format!("{} of {}", mean.lost, mean.with_torch)
            },
            number(mean.composed_by_ours),
        ]
    };
    means.iter().map(row).collect()
}

pub const PHASES: [&str; 4] = ["phase", "status", ">seconds", "note"];

pub fn phases(results: &Results) -> Rows {
    let row = |phase: &Phase| {
        vec![
            phase.phase.clone(),
            phase.status.clone(),
            number(phase.seconds),
            phase.note.clone(),
        ]
    };
    results.phases.iter().map(row).collect()
}

pub const KERNELS: [&str; 10] = [
    "kernel", "grid", "block", ">us", ">DRAM", ">issue", ">warps", ">regs", ">MB in", ">MB out",
];

/// The longest first.
pub fn kernels(results: &Results) -> Rows {
    let mut kernels: Vec<&Kernel> = results.ncu.iter().collect();
    kernels.sort_by(|a, b| {
        b.microseconds
            .unwrap_or(0.0)
            .total_cmp(&a.microseconds.unwrap_or(0.0))
    });
    let row = |kernel: &&Kernel| {
        vec![
            short(&kernel.name).into(),
            kernel.grid.replace(' ', ""),
            kernel.block.replace(' ', ""),
            number(kernel.microseconds),
            percent(kernel.dram_percent),
            percent(kernel.issue_percent),
            percent(kernel.warps_percent),
            count(kernel.registers),
            number(kernel.read_mb),
            number(kernel.write_mb),
        ]
    };
    kernels.iter().map(row).collect()
}

/// The name without the type before and the parameters behind.
fn short(name: &str) -> &str {
    let name = name.split('(').next().unwrap_or(name);
    name.strip_prefix("void ").unwrap_or(name).trim()
}

pub const FIRST: [&str; 3] = ["module", ">first call, ms", ">second, ms"];

/// The slowest first.
pub fn first(results: &Results) -> Rows {
    let mut calls: Vec<&First> = results.first.iter().collect();
    calls.sort_by(|a, b| {
        b.first_ms
            .unwrap_or(0.0)
            .total_cmp(&a.first_ms.unwrap_or(0.0))
    });
    calls
        .iter()
        .map(|call| {
            vec![
                call.module.clone(),
                number(call.first_ms),
                number(call.second_ms),
            ]
        })
        .collect()
}

/// The time of all first calls together.
pub fn first_total(results: &Results) -> Option<f64> {
    let times: Vec<f64> = results
        .first
        .iter()
        .filter_map(|call| call.first_ms)
        .collect();
    (!times.is_empty()).then(|| times.iter().sum())
}

pub const HOST: [&str; 2] = ["call", ">us"];

pub fn host(results: &Results) -> Rows {
    results
        .host
        .iter()
        .map(|Host { call, us, .. }| vec![call.clone(), number(*us)])
        .collect()
}

/// "N calls with M results, K equal bit for bit", as far as it is known.
pub fn calls(results: &Results) -> Option<String> {
    let calls = results.calls.as_ref()?;
    Some(format!(
        "{} calls with {} results: {} equal to the emulator's bit for bit, {} listed as differing",
        count(calls.calls),
        count(calls.results),
        count(calls.equal),
        calls.differing.len()
    ))
}

pub const DIFFERING: [&str; 7] = [
    "call",
    "result",
    "kernels",
    ">elements",
    ">different",
    ">largest ulp",
    ">largest relative",
];

pub fn differing(calls: &Calls) -> Rows {
    let row = |call: &Differing| {
        vec![
            call.call.clone(),
            call.result.clone().unwrap_or("-".into()),
            call.kernels.join(" "),
            count(call.elements),
            count(call.different),
            count(call.max_ulp),
            number(call.max_relative),
        ]
    };
    calls.differing.iter().map(row).collect()
}

pub fn missing(results: &Results) -> impl Iterator<Item = &str> {
    let missing = results.files.iter().filter(|(_, what)| *what == "missing");
    missing.map(|(name, _)| &**name)
}

/// The faults of the files that are there.
pub fn damaged(results: &Results) -> Vec<String> {
    let damaged = results
        .files
        .iter()
        .filter(|(_, what)| !matches!(&***what, "read" | "missing"));
    damaged
        .map(|(name, what)| format!("{name}: {what}"))
        .collect()
}

/// The measurements that ended in an error, ours and PyTorch's.
pub fn errors(results: &Results) -> Vec<String> {
    let ours = results.speed.iter().filter_map(|row| {
        let words = [
            &row.op,
            &shape(&row.shape),
            &row.dtype,
            &row.direction,
            &row.cache,
        ];
        Some(named(&words, row.error.as_ref()?))
    });
    let torch = results.torch.iter().filter_map(|row| {
        let shape = shape(&row.shape);
        let words = [
            "PyTorch's",
            &row.peer,
            "as",
            &row.op,
            &shape,
            &row.dtype,
            &row.direction,
            &row.cache,
        ];
        Some(named(&words, row.error.as_ref()?))
    });
    ours.chain(torch).collect()
}

fn named(words: &[impl AsRef<str>], error: &str) -> String {
    let words: Vec<&str> = words
        .iter()
        .map(AsRef::as_ref)
        .filter(|word| !word.is_empty())
        .collect();
    format!("{}: {error}", words.join(" "))
}
