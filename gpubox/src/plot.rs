//! The plot: GB/s over the size of a plane.

use crate::compare::{SWEEP, fastest, peers, rate};
use crate::results::{Results, Speed};
use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 480);
const LEGEND: u32 = 190;
/// Colours that the colour-blind tell apart, on white.
const COLOURS: [RGBColor; 5] = [
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

struct Series {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// None without a sweep.
pub fn svg(results: &Results) -> Result<Option<String>> {
    let series = series(results);
    if series.iter().all(|series| series.points.is_empty()) {
        return Ok(None);
    }
    let mut text = String::new();
    draw(results, &series, &mut text).map_err(|error| anyhow!("drawing the plot: {error}"))?;
    Ok(Some(text))
}

fn series(results: &Results) -> Vec<Series> {
    let wanted = |row: &&Speed| {
        row.op == SWEEP
            && (&*row.dtype, &*row.direction, &*row.cache) == ("bf16", "forward", "cold")
    };
    let of = |name, rate: &dyn Fn(&Speed) -> Option<f64>| {
        let point = |row: &Speed| Some((*row.shape.last()? as f64, rate(row)?));
        let mut points: Vec<(f64, f64)> = results
            .speed
            .iter()
            .filter(wanted)
            .filter_map(point)
            .collect();
        points.retain(|&(x, y)| x > 0.0 && y.is_finite());
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { name, points }
    };
    let torch = |row: &Speed, compiled| {
        fastest(peers(results, row).filter(|peer| peer.compiled == compiled))?.gb_per_s
    };
    vec![
        of("ours", &|row| row.gb_per_s),
        of("copy", &|row| rate(row, Some(2.0), row.copy_ms)),
        of("PyTorch, eager", &|row| torch(row, false)),
        of("PyTorch, compiled", &|row| torch(row, true)),
        of("candle, composed", &|row| {
            rate(row, row.tensors, row.composed_ms)
        }),
    ]
}

fn draw(
    results: &Results,
    all: &[Series],
    text: &mut String,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let shown: Vec<(&Series, RGBColor)> = all
        .iter()
        .zip(COLOURS)
        .filter(|(series, _)| !series.points.is_empty())
        .collect();
    let points = || shown.iter().flat_map(|(series, _)| &series.points);
    let (least, most) = points().fold((f64::MAX, 0.0f64), |(least, most), point| {
        (least.min(point.0), most.max(point.0))
    });
    let top = points().fold(0.0f64, |top, point| top.max(point.1)) * 1.05;

    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "Instance norm, bf16, forward, cold: {}",
        results.of_machine("card")
    );
    let root = root.titled(&title, ("sans-serif", 20))?;
    let (area, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((least / 1.3..most * 1.3).log_scale().base(4.0), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(222, 222, 222))
        .x_desc("elements per plane")
        .y_desc("GB/s")
        .y_label_formatter(&|y| format!("{y:.0}"))
        .x_label_formatter(&|x| power(*x))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .draw()?;
    for (line, (series, colour)) in shown.iter().enumerate() {
        chart.draw_series(LineSeries::new(
            series.points.iter().copied(),
            colour.stroke_width(2),
        ))?;
        chart.draw_series(
            series
                .points
                .iter()
                .map(|&point| Circle::new(point, 3, colour.filled())),
        )?;
        let y = 30 + 26 * line as i32;
        legend.draw(&PathElement::new([(0, y), (26, y)], colour.stroke_width(2)))?;
        legend.draw(&Circle::new((13, y), 3, colour.filled()))?;
        legend.draw(&Text::new(series.name, (34, y - 6), ("sans-serif", 16)))?;
    }
    let source = [results.of_machine("date"), results.of_machine("commit")];
    for (line, word) in source.iter().enumerate() {
        legend.draw(&Text::new(
            word.to_string(),
            (0, 200 + 20 * line as i32),
            ("sans-serif", 13),
        ))?;
    }
    root.present()?;
    Ok(())
}

/// Sizes of planes are powers of two, or near enough for the label of a grid line.
fn power(x: f64) -> String {
    match x {
        _ if x >= 1048576.0 => format!("{:.0} Mi", x / 1048576.0),
        _ if x >= 1024.0 => format!("{:.0} Ki", x / 1024.0),
        _ => format!("{x:.0}"),
    }
}
