//! Each figure of the report's tables, computed here again from results.json.

use crate::report::report;
use serde_json::Value;

/// The rows of the table under a heading, or of the first of the report.
fn table(report: &str, heading: &str) -> Vec<Vec<String>> {
    let text = &report[report
        .find(heading)
        .unwrap_or_else(|| panic!("no {heading}"))..];
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line.trim_matches('|').replace("\\|", "\u{1}");
        line.split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"))
            .collect()
    };
    lines.skip(2).map(cells).collect()
}

/// A cell holds the figure to the digits that it shows; none is "-".
#[track_caller]
fn same(cell: &str, value: Option<f64>) {
    let Some(value) = value else {
        return assert_eq!(cell, "-");
    };
    let shown: f64 = cell
        .trim_end_matches('%')
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .expect(cell);
    let tolerance = if cell.ends_with('%') {
        0.5001
    } else {
        value.abs() * 0.00501
    };
    assert!((shown - value).abs() <= tolerance, "{cell} for {value}");
}

fn shape(row: &Value) -> String {
    row["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join("x")
}

fn fastest<'a>(json: &'a Value, ours: &Value) -> Option<&'a Value> {
    let op = if ours["op"] == "planes" {
        "instance_norm".into()
    } else {
        ours["op"].clone()
    };
    let direction = if ours["direction"] == "autograd" {
        "forward+backward".into()
    } else {
        ours["direction"].clone()
    };
    let peers = json["torch"].as_array().unwrap().iter().filter(|row| {
        row["op"] == op
            && row["direction"] == direction
            && ["shape", "dtype", "cache"]
                .iter()
                .all(|key| row[key] == ours[key])
    });
    let mut peers: Vec<&Value> = peers.filter(|row| row["ms"].is_f64()).collect();
    peers.sort_by(|a, b| a["ms"].as_f64().partial_cmp(&b["ms"].as_f64()).unwrap());
    peers.first().copied()
}

/// The ratios of a row: of copy in percent, PyTorch / ours, composed / ours.
fn ratios(json: &Value, row: &Value) -> [Option<f64>; 3] {
    let ours = row["ours_ms"].as_f64().unwrap();
    let copy = row["copy_ms"]
        .as_f64()
        .map(|copy| 100.0 * row["tensors"].as_f64().unwrap() / 2.0 * copy / ours);
    let torch = fastest(json, row).map(|peer| peer["ms"].as_f64().unwrap() / ours);
    [
        copy,
        torch,
        row["composed_ms"].as_f64().map(|composed| composed / ours),
    ]
}

#[test]
fn every_figure_of_the_tables_follows_from_the_results() {
    let (report, json) = report("every_figure", "", "");
    let (report, _) = report.unwrap();
    let measured = || {
        json["speed"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["ours_ms"].is_f64())
    };
    for (heading, cache) in [("## Cold", "cold"), ("## Warm", "warm")] {
        let rows: Vec<&Value> = measured().filter(|row| row["cache"] == cache).collect();
        let cells = table(&report, heading);
        assert_eq!(cells.len(), rows.len());
        for (cells, row) in cells.iter().zip(rows) {
            let [copy, torch, composed] = ratios(&json, row);
            assert_eq!(cells[0], row["op"].as_str().unwrap());
            assert_eq!(cells[1], shape(row));
            assert_eq!(cells[2], row["dtype"].as_str().unwrap());
            assert_eq!(cells[3], row["direction"].as_str().unwrap());
            same(&cells[5], row["ours_ms"].as_f64());
            same(&cells[6], row["gb_per_s"].as_f64());
            same(&cells[7], copy);
            assert_eq!(
                cells[8],
                if torch.is_some() {
                    "F.instance_norm, compiled"
                } else {
                    "-"
                }
            );
            same(
                &cells[9],
                fastest(&json, row).and_then(|peer| peer["ms"].as_f64()),
            );
            same(&cells[10], torch);
            same(&cells[11], composed);
            assert_eq!(
                cells[11].ends_with(" (events)"),
                composed.is_some(),
                "timed otherwise than ours"
            );
        }
    }
    assert!(report.contains("| - |"), "some figure is missing");

    let means = table(&report, "# GPU");
    assert_eq!(means.len(), 18);
    let mut lost = 0;
    for cells in means {
        let key = |row: &&Value| {
            row["op"] != "planes"
                && ["cache", "dtype", "direction"]
                    .iter()
                    .zip(&cells)
                    .all(|(key, cell)| row[key] == **cell)
        };
        let ratios: Vec<[Option<f64>; 3]> = measured()
            .filter(key)
            .map(|row| ratios(&json, row))
            .collect();
        assert_eq!(cells[3], ratios.len().to_string());
        for (kind, column) in [4, 5, 7].into_iter().enumerate() {
            let values: Vec<f64> = ratios.iter().filter_map(|ratios| ratios[kind]).collect();
            let mean = values
                .iter()
                .product::<f64>()
                .powf(1.0 / values.len() as f64);
            same(&cells[column], (!values.is_empty()).then_some(mean));
        }
        let torch: Vec<f64> = ratios.iter().filter_map(|ratios| ratios[1]).collect();
        let slower = torch.iter().filter(|&&ratio| ratio < 1.0).count();
        assert_eq!(cells[6], format!("{slower} of {}", torch.len()));
        lost += slower;
    }
    assert!(lost > 0, "no row loses");
}

#[test]
fn the_other_tables_are_those_of_the_results() {
    let (report, json) = report("the_other_tables", "", "");
    let (report, _) = report.unwrap();
    let check = |heading: &str, rows: &Value, order: &[usize], keys: &[(usize, &str)]| {
        let cells = table(&report, heading);
        assert_eq!(cells.len(), order.len(), "{heading}");
        for (cells, &at) in cells.iter().zip(order) {
            for &(column, key) in keys {
                match &rows[at][key] {
                    Value::String(text) => {
                        assert_eq!(&cells[column], if text.is_empty() { "" } else { text })
                    }
                    value => same(&cells[column], value.as_f64()),
                }
            }
        }
    };
    check(
        "## Phases",
        &json["phases"],
        &[0, 1, 2, 3, 4],
        &[(0, "phase"), (1, "status"), (2, "seconds"), (3, "note")],
    );
    let calls = [
        (0, "call"),
        (1, "result"),
        (3, "elements"),
        (4, "different"),
        (5, "max_ulp"),
        (6, "max_relative"),
    ];
    check(
        "## Against",
        &json["calls"]["differing"],
        &[0, 1, 2],
        &calls,
    );
    check(
        "## First calls, 580 ms",
        &json["first"],
        &[1, 0],
        &[(0, "module"), (1, "first_ms"), (2, "second_ms")],
    );
    check("## Host", &json["host"], &[0, 1], &[(0, "call"), (1, "us")]);
    let kernels = [
        (3, "microseconds"),
        (4, "dram_percent"),
        (5, "issue_percent"),
        (6, "warps_percent"),
        (7, "registers"),
        (8, "read_mb"),
        (9, "write_mb"),
    ];
    check("## Kernels", &json["ncu"], &[0, 1, 2], &kernels);
    check(
        "## PyTorch's own copy",
        &json["torch"],
        &[1],
        &[(3, "ms"), (4, "gb_per_s")],
    );
    assert!(
        report.contains("| in_fwd_warp\\<float, 4> |"),
        "a kernel by its name without its parameters"
    );
    for words in [
        "# GPU: Invented GPU X-1 (80GB)\n",
        "2001-02-03, commit abcdef0, driver 999.1, CUDA 13.0",
        "1980 MHz",
        "sanitizer: 2099.1",
        "- adain 1x2x3x4",
        "had no time for: 12",
        "sm_90, 132 multiprocessors",
    ] {
        assert!(report.contains(words), "{words}");
    }
    assert!(report.contains("(invented-gpu-x-1-80gb.svg)"));
}
