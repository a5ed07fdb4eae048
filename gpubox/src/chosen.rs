//! The rows that the summary has room for.

use crate::compare::{Compared, SWEEP};
use crate::format::{Rows, clip, columns, number, percent, shape};
use crate::results::Results;
use std::collections::BTreeMap;

/// The rows with public figures to hold against, by their shapes.
const PUBLIC: [&[usize]; 5] = [
    &[32, 256, 56, 56],
    &[1, 64, 14, 14],
    &[1, 128, 28, 28],
    &[1, 512, 16, 90, 160],
    &[1, 128, 20, 256, 256],
];

/// Forward and backward of the same work.
type Work<'a> = [Option<&'a Compared<'a>>; 2];

/// The table of the rows that count most, in `room` lines.
pub fn lines(results: &Results, rows: &[Compared], room: usize) -> Vec<String> {
    // Besides the rows: a title, a header, and the number of rows left out.
    let fits = room.saturating_sub(3);
    if results.speed.is_empty() || fits == 0 {
        return Vec::new();
    }
    let works = ranked(works(rows));
    let shown = &works[..fits.min(works.len())];
    let side = [">ms", ">GB/s", ">copy", ">PyT", ">comp"];
    let headers = [&["op", "shape", "type", "|"][..], &side, &["|"], &side].concat();
    let title =
        "cold, forward | backward; copy: share of its speed; PyTorch's and composed's time by ours";
    let mut lines = vec![title.into()];
    lines.extend(columns(&headers, &shown.iter().map(line).collect::<Rows>()));
    let more = results.speed.len() - shown.iter().flatten().flatten().count();
    let left_out = results.left_out();
    lines.push(format!(
        "  {more} more rows in results.json; PyTorch left out {left_out}"
    ));
    lines
}

fn works<'a>(rows: &'a [Compared<'a>]) -> Vec<Work<'a>> {
    let mut works: Vec<Work> = Vec::new();
    for row in rows.iter().filter(|row| row.ours.cache == "cold") {
        let side = match row.ours.direction.as_str() {
            "forward" => 0,
            "backward" => 1,
            _ => continue,
        };
        let same =
            |work: &&mut Work| work[side].is_none() && work[1 - side].map(key) == Some(key(row));
        match works.iter_mut().find(same) {
            Some(work) => work[side] = Some(row),
            None if side == 0 => works.push([Some(row), None]),
            None => works.push([None, Some(row)]),
        }
    }
    works
}

fn key<'a>(row: &Compared<'a>) -> (&'a str, &'a [usize], &'a str) {
    (&row.ours.op, &row.ours.shape, &row.ours.dtype)
}

/// The public rows before all, then every op and type once before any twice; the sweep last.
fn ranked(mut works: Vec<Work>) -> Vec<Work> {
    let mut turns: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    works.sort_by_cached_key(|work| {
        let ours = work.iter().flatten().next().map(|row| row.ours)?;
        let public = PUBLIC.iter().position(|shape| *shape == ours.shape);
        let turn = turns.entry((&ours.op, &ours.dtype)).or_default();
        *turn += 1;
        Some((ours.op == SWEEP, public.unwrap_or(PUBLIC.len()), *turn))
    });
    works
}

fn line(work: &Work) -> Vec<String> {
    let Some(any) = work[0].or(work[1]) else {
        return Vec::new();
    };
    let mut cells = vec![
        clip(&any.ours.op, 20),
        clip(&shape(&any.ours.shape), 17),
        clip(&any.ours.dtype, 4),
    ];
    for side in work {
        cells.push("|".into());
        cells.push(number(side.and_then(|row| row.ours.ours_ms)));
        cells.push(number(side.and_then(|row| row.ours.gb_per_s)));
        cells.push(percent(side.and_then(|row| row.of_copy())));
        cells.push(number(side.and_then(|row| row.torch_by_ours())));
        cells.push(number(side.and_then(|row| row.composed_by_ours())));
    }
    cells
}
