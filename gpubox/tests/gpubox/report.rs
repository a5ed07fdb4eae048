//! The report of an invented run: its files, its plot and what has none.

use crate::invented::{self, gpubox, run, summary};
use serde_json::Value;
use std::path::Path;

/// The report and the plot, from a run whose machine.tsv is edited.
pub fn report(test: &str, from: &str, to: &str) -> (Result<(String, String), String>, Value) {
    let folder = run(test);
    std::fs::write(
        folder.join("work/machine.tsv"),
        invented::MACHINE.replace(from, to),
    )
    .unwrap();
    let (_, json) = summary(&folder);
    let dest = folder.join("dest");
    let done = gpubox("report", &folder.join("out"), &dest);
    if !done.status.success() {
        assert!(!dest.exists(), "files are left");
        return (Err(String::from_utf8_lossy(&done.stderr).into()), json);
    }
    let path = String::from_utf8(done.stdout).unwrap();
    let path = Path::new(path.trim());
    assert_eq!(path.file_name().unwrap(), "invented-gpu-x-1-80gb.md");
    assert_eq!(
        std::fs::read_dir(&dest).unwrap().count(),
        2,
        "a temporary file is left"
    );
    let plot = std::fs::read_to_string(path.with_extension("svg")).unwrap();
    (Ok((std::fs::read_to_string(path).unwrap(), plot)), json)
}

#[test]
fn the_plot_shows_every_series() {
    let (report, _) = report("the_plot", "", "");
    let (_, plot) = report.unwrap();
    for words in [
        "ours",
        "copy",
        "PyTorch, eager",
        "PyTorch, compiled",
        "candle, composed",
        "elements per plane",
        "GB/s",
        "2001-02-03",
        "Invented GPU X-1 (80GB)",
        "1 Mi",
    ] {
        assert!(plot.contains(words), "{words}");
    }
    let mut lines: Vec<&str> = plot
        .lines()
        .filter(|line| line.contains("<polyline") && line.contains("stroke-width=\"2\""))
        .collect();
    let all = lines.len();
    lines.sort_by_key(|line| line.split("points=").nth(1));
    lines.dedup_by_key(|line| line.split("points=").nth(1));
    assert!(all >= 5 && lines.len() == all, "two series are the same");
    // A circle for each size of each series, two of which lack some, and one in the legend.
    let circles = plot.matches("<circle").count();
    let lacking = |rows: Vec<Value>, key: &str| {
        rows.iter()
            .filter(|row| row["op"] == "planes" && row[key].is_null())
            .count()
    };
    let composed = lacking(invented::speed(), "composed_ms");
    let peers = invented::torch(&invented::speed());
    let torch = peers
        .iter()
        .filter(|row| {
            row["shape"]
                .as_array()
                .is_some_and(|shape| shape.len() == 3)
        })
        .count();
    assert!(composed > 0 && torch < 14, "the invented sweep is whole");
    assert_eq!(circles, 7 + 7 + torch + (7 - composed) + 5);
}

#[test]
fn a_run_on_the_emulator_is_refused() {
    for (name, to) in [
        ("emulated", "emulated\tyes"),
        ("perhaps_emulated", "other\tno"),
    ] {
        let (report, _) = report(name, "emulated\tno", to);
        assert!(report.unwrap_err().contains("figures are not a GPU's"));
    }
    let (report, _) = report("no_card", "card\tInvented GPU X-1 (80GB)", "card\t()");
    assert!(report.unwrap_err().contains("does not name the card"));
}

#[test]
fn a_run_with_nothing_but_a_card() {
    let folder = run("nothing_but_a_card");
    let work = folder.join("work");
    std::fs::remove_dir_all(&work).unwrap();
    std::fs::create_dir(&work).unwrap();
    std::fs::write(
        work.join("machine.tsv"),
        "card\tNVIDIA H100 80GB HBM3\nemulated\tno\n",
    )
    .unwrap();
    summary(&folder);
    let dest = folder.join("dest");
    assert!(
        gpubox("report", &folder.join("out"), &dest)
            .status
            .success()
    );
    assert!(!dest.join("nvidia-h100-80gb-hbm3.svg").exists());
    let text = std::fs::read_to_string(dest.join("nvidia-h100-80gb-hbm3.md")).unwrap();
    assert!(
        text.contains("No plot") && text.contains("- speed.json: missing"),
        "{text}"
    );
}
