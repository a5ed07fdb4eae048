//! The summary for a person at the terminal of the GPU machine: one screen, the most important first.

use crate::chosen;
use crate::compare::{Compared, compared, means};
use crate::format::{Rows, clip, columns, count, number, plain};
use crate::results::Results;
use crate::sections;
use std::collections::BTreeMap;

const LINES: usize = 100;
const WIDTH: usize = 110;

pub fn text(results: &Results) -> String {
    let rows = compared(results);
    let mut before = vec![
        header(results),
        failures(results),
        phases(results),
        calls(results),
    ];
    before.push(mean_table(&rows));
    let after = [host(results), kernels(results), first(results)];
    // Every part but this one has a limit of its own; a blank line is between two.
    let used: usize = before
        .iter()
        .chain(&after)
        .filter(|part| !part.is_empty())
        .map(|part| part.len() + 1)
        .sum();
    before.push(chosen::lines(results, &rows, LINES.saturating_sub(used)));
    let parts = before
        .into_iter()
        .chain(after)
        .filter(|part| !part.is_empty());
    let lines: Vec<String> = parts.collect::<Vec<_>>().join(&String::new());
    lines
        .iter()
        .map(|line| clip(line, WIDTH).trim_end().to_string() + "\n")
        .take(LINES)
        .collect()
}

/// The first `most` lines; the last of them may be the number of `what` that are left out.
fn limited(mut lines: Vec<String>, most: usize, what: &str) -> Vec<String> {
    if lines.len() > most {
        let more = lines.len() - most + 1;
        lines.truncate(most - 1);
        lines.push(format!("  {more} more {what} in results.json"));
    }
    lines
}

/// Words in as few lines as they fit.
fn wrapped(title: &str, words: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines = vec![title.to_string()];
    for word in words {
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = word,
            Some(line) if line.len() + word.len() + 2 < WIDTH => *line += &format!(" {word}"),
            _ => lines.push(format!("  {word}")),
        }
    }
    lines
}

fn header(results: &Results) -> Vec<String> {
    let of = |key| results.of_machine(key);
    let emulated = if results.emulated() {
        "EMULATED: NO FIGURE BELOW IS A GPU'S. "
    } else {
        ""
    };
    let known = [
        "card",
        "capability",
        "driver",
        "cuda",
        "date",
        "commit",
        "emulated",
    ];
    let others = results
        .machine
        .iter()
        .filter(|(key, _)| !known.contains(&&***key));
    let mut lines = vec![
        format!(
            "{emulated}{}, compute capability {}",
            of("card"),
            of("capability")
        ),
        format!(
            "driver {}, CUDA {}, {}, commit {}",
            of("driver"),
            of("cuda"),
            of("date"),
            of("commit")
        ),
    ];
    lines.extend(limited(
        wrapped(
            "",
            others.map(|(key, value)| format!("{key}: {};", plain(value))),
        ),
        4,
        "lines",
    ));
    lines
}

fn failures(results: &Results) -> Vec<String> {
    let failed = results.phases.iter().filter(|phase| phase.not_passed());
    let mut lines: Vec<String> = failed
        .map(|phase| {
            format!(
                "!!! {} {}: {}",
                phase.phase,
                phase.status.to_uppercase(),
                phase.note
            )
        })
        .collect();
    lines.extend(
        sections::damaged(results)
            .iter()
            .map(|what| format!("!!! {what}")),
    );
    let errors = sections::errors(results)
        .into_iter()
        .map(|error| format!("!!! {error}"))
        .collect();
    lines.extend(limited(errors, 6, "errors"));
    let mut lines = limited(lines, 18, "failures");
    if !lines.is_empty() {
        lines.insert(0, "!!!!!!!!!! NOT PASSED !!!!!!!!!!".into());
    }
    lines
}

fn phases(results: &Results) -> Vec<String> {
    let table = columns(&sections::PHASES, &sections::phases(results));
    let mut lines = limited(table, 16, "phases");
    let missing: Vec<&str> = sections::missing(results).collect();
    if !missing.is_empty() {
        lines.push(format!("  not there: {}", missing.join(", ")));
    }
    lines
}

fn calls(results: &Results) -> Vec<String> {
    let (Some(calls), Some(first)) = (&results.calls, sections::calls(results)) else {
        return Vec::new();
    };
    let mut kernels: BTreeMap<String, (usize, f64, f64)> = BTreeMap::new();
    for call in &calls.differing {
        let (number, ulp, relative) = kernels.entry(call.kernels.join(" ")).or_default();
        *number += 1;
        *ulp = ulp.max(call.max_ulp.unwrap_or(0.0));
        *relative = relative.max(call.max_relative.unwrap_or(0.0));
    }
    let line = |(kernel, (number_of, ulp, relative)): (&String, &(usize, f64, f64))| {
        let (ulp, relative) = (count(Some(*ulp)), number(Some(*relative)));
        format!("  {number_of} differ by at most {ulp} ulp, {relative} relative: {kernel}")
    };
    let mut lines = limited(kernels.iter().map(line).collect(), 7, "kernels");
    let of = |machine: &Option<String>| machine.clone().unwrap_or("-".into());
    let (recorded, here) = (of(&calls.recorded), of(&calls.here));
    let machines = format!("  recorded for {recorded}; here {here}");
    lines.splice(0..0, [first, machines]);
    lines
}

fn mean_table(rows: &[Compared]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["geometric means (above 1: ours is faster)".to_string()];
    let table = columns(&sections::MEANS, &sections::means(&means(rows)));
    lines.extend(limited(table, 11, "means"));
    lines
}

fn host(results: &Results) -> Vec<String> {
    if results.host.is_empty() {
        return Vec::new();
    }
    let calls = results
        .host
        .iter()
        .map(|host| format!("{} {};", plain(&host.call), number(host.us)));
    limited(wrapped("host, us per call:", calls), 3, "lines")
}

fn kernels(results: &Results) -> Vec<String> {
    let rows: Rows = sections::kernels(results)
        .into_iter()
        .map(|mut row| {
            row[0] = clip(&row[0], 30);
            row
        })
        .collect();
    if rows.is_empty() {
        Vec::new()
    } else {
        limited(columns(&sections::KERNELS, &rows), 10, "kernels")
    }
}

fn first(results: &Results) -> Vec<String> {
    let rows = sections::first(results);
    let Some(worst) = rows.first() else {
        return Vec::new();
    };
    let total = number(sections::first_total(results));
    vec![format!(
        "first calls: {} modules, {total} ms together; worst {} ms (second call {}): {}",
        rows.len(),
        worst[1],
        worst[2],
        worst[0]
    )]
}
