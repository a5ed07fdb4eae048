//! The report of a run on one card, for benches/results.

use crate::compare::{Compared, compared, means};
use crate::format::{escaped, markdown, number, percent, shape};
use crate::results::Results;
use crate::sections;
use anyhow::{Result, ensure};

/// The name of the card as one of a file, for a run on a card.
pub fn name(results: &Results) -> Result<String> {
    let emulated = results.of_machine("emulated");
    ensure!(
        emulated == "no",
        "no report: its figures are not a GPU's (machine.tsv says emulated: {emulated})"
    );
    let card = results.machine.get("card").map_or("", |card| card);
    let letters: String = card
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                ' '
            }
        })
        .collect();
    let slug = letters.split_whitespace().collect::<Vec<_>>().join("-");
    ensure!(
        !slug.is_empty(),
        "no report: machine.tsv does not name the card"
    );
    Ok(slug)
}

/// `plot` is the name of the plot beside the report.
pub fn text(results: &Results, plot: Option<&str>) -> String {
    let rows = compared(results);
    let mut parts = vec![head(results)];
    if !rows.is_empty() {
        parts.push(RATIOS.into());
        parts.push(markdown(&sections::MEANS, &sections::means(&means(&rows))));
    }
    parts.push(match plot {
        Some(name) => format!("![GB/s over the elements of a plane]({name}.svg)\n"),
        None => "No plot: no sweep over the sizes of planes was measured.\n".into(),
    });
    parts.push(speed("Cold", &rows, |cache| cache == "cold"));
    parts.push(speed("Warm", &rows, |cache| cache != "cold"));
    parts.extend(ends(results));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

const RATIOS: &str = "\
Geometric means over the shapes, without the sweep over the sizes of planes (`planes`). *Of copy* is
the share of the speed at which the device copies x, by the tensors of x's size that a perfect kernel
moves: (tensors / 2 * copy) / ours. PyTorch is the fastest of its ways, compiled or not; `composed` is
the same in candle's ops. Above 1, ours is the faster one.
";

const COMMAND: &str = "    cargo run -p gpubox -- report OUT benches/results";

fn head(results: &Results) -> String {
    let of = |key| escaped(results.of_machine(key));
    let ran: Vec<String> = results
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.phase, phase.status))
        .collect();
    let named = [
        "card",
        "driver",
        "cuda",
        "date",
        "commit",
        "sm_clock_mhz",
        "memory_clock_mhz",
        "torch",
        "emulated",
    ];
    let others = results
        .machine
        .iter()
        .filter(|(key, _)| !named.contains(&&***key));
    let others: Vec<String> = others
        .map(|(key, value)| format!("{key}: {}", escaped(value)))
        .collect();
    format!(
        "# GPU: {}\n\n{}, commit {}, driver {}, CUDA {}; clocks {} MHz, memory {} MHz; PyTorch {}.\n{}.\n\n{COMMAND}\n\nRan: {}.\n",
        of("card"),
        of("date"),
        of("commit"),
        of("driver"),
        of("cuda"),
        of("sm_clock_mhz"),
        of("memory_clock_mhz"),
        of("torch"),
        others.join("; "),
        if ran.is_empty() {
            "-".into()
        } else {
            escaped(&ran.join(", "))
        }
    )
}

const SPEED: [&str; 12] = [
    "op",
    "shape",
    "dtype",
    "direction",
    "timed by",
    ">ours, ms",
    ">GB/s",
    ">of copy",
    "PyTorch's fastest",
    ">ms",
    ">PyTorch / ours",
    ">composed / ours",
];

fn speed(title: &str, all: &[Compared], cache: fn(&str) -> bool) -> String {
    let rows: Vec<_> = all
        .iter()
        .filter(|row| cache(&row.ours.cache))
        .map(row)
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "## {title}\n\nA method in brackets is another one than ours was timed by.\n\n{}",
        markdown(&SPEED, &rows)
    )
}

fn row(row: &Compared) -> Vec<String> {
    let ours = row.ours;
    // Figures of unlike methods differ by more than the work.
    let other = |method: Option<&String>| match method {
        Some(method) if ours.method.as_ref() != Some(method) => format!(" ({method})"),
        _ => String::new(),
    };
    let peer = row.torch.map_or("-".into(), |torch| {
        let compiled = if torch.compiled { ", compiled" } else { "" };
        format!("{}{compiled}{}", torch.peer, other(torch.method.as_ref()))
    });
    let composed = row.composed_by_ours();
    let method = composed
        .map(|_| other(ours.composed_method.as_ref()))
        .unwrap_or_default();
    vec![
        ours.op.clone(),
        shape(&ours.shape),
        ours.dtype.clone(),
        ours.direction.clone(),
        ours.method.clone().unwrap_or("-".into()),
        number(ours.ours_ms),
        number(ours.gb_per_s),
        percent(row.of_copy()),
        peer,
        number(row.torch.and_then(|torch| torch.ms)),
        number(row.torch_by_ours()),
        number(composed) + &method,
    ]
}

/// The sections after the speeds.
fn ends(results: &Results) -> Vec<String> {
    let part = |title: &str, headers: &[&str], rows| match &rows {
        rows if Vec::is_empty(rows) => String::new(),
        rows => format!("## {title}\n\n{}", markdown(headers, rows)),
    };
    let copies = results
        .torch
        .iter()
        .filter(|row| row.op == "copy" && row.ms.is_some())
        .map(|row| {
            vec![
                shape(&row.shape),
                row.dtype.clone(),
                row.cache.clone(),
                number(row.ms),
                number(row.gb_per_s),
            ]
        });
    let total = sections::first_total(results);
    let first = match total {
        Some(total) => format!("First calls, {} ms together", number(Some(total))),
        None => "First calls".into(),
    };
    let mut parts = vec![
        part("Phases", &sections::PHASES, sections::phases(results)),
        calls(results),
        part(&first, &sections::FIRST, sections::first(results)),
        part(
            "Host, microseconds per call",
            &sections::HOST,
            sections::host(results),
        ),
        part(
            "Kernels, by Nsight Compute",
            &sections::KERNELS,
            sections::kernels(results),
        ),
        part(
            "PyTorch's own copy",
            &["shape", "dtype", "cache", ">ms", ">GB/s"],
            copies.collect(),
        ),
    ];
    let mut missing = sections::damaged(results);
    missing.extend(sections::missing(results).map(|name| format!("{name}: missing")));
    missing.extend(sections::errors(results));
    if results.left_out() > 0.0 {
        missing.push(format!(
            "rows that PyTorch's benchmark had no time for: {}",
            results.left_out()
        ));
    }
    if !missing.is_empty() {
        let lines: String = missing
            .iter()
            .map(|line| format!("- {}\n", escaped(line)))
            .collect();
        parts.push(format!("## What is missing\n\n{lines}"));
    }
    parts
}

fn calls(results: &Results) -> String {
    let (Some(calls), Some(first)) = (&results.calls, sections::calls(results)) else {
        return String::new();
    };
    let recorded = calls.recorded.as_deref().unwrap_or("-");
    let here = calls.here.as_deref().unwrap_or("-");
    let text =
        format!("## Against the emulator\n\n{first}. Recorded for {recorded}; here {here}.\n");
    match sections::differing(calls) {
        rows if rows.is_empty() => text,
        rows => format!(
            "{text}
{}",
            markdown(&sections::DIFFERING, &rows)
        ),
    }
}
