//! Numbers, tables and lines as the summary and the report show them.

/// Three digits, or all those before the point; a missing figure is "-".
pub fn number(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return "-".into();
    };
    let digits = value.abs().log10().floor();
    match digits {
        _ if value == 0.0 => "0".into(),
        _ if digits < -4.0 => format!("{value:.1e}"),
        _ => format!("{value:.0$}", (2.0 - digits).max(0.0) as usize),
    }
}

pub fn count(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

pub fn percent(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        Some(value) => format!("{value:.0}%"),
        None => "-".into(),
    }
}

pub fn shape(shape: &[usize]) -> String {
    shape
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join("x")
}

pub type Rows = Vec<Vec<String>>;

/// A Markdown table; a header that starts with '>' is of a column of numbers.
pub fn markdown(headers: &[&str], rows: &Rows) -> String {
    let names: Vec<String> = headers
        .iter()
        .map(|header| header.trim_start_matches('>').into())
        .collect();
    let rules: String = headers
        .iter()
        .map(|header| {
            if header.starts_with('>') {
                "---:|"
            } else {
                "---|"
            }
        })
        .collect();
    let lines: String = rows.iter().map(|row| line(row)).collect();
    format!("{}|{rules}\n{lines}", line(&names))
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Text that Markdown shows as it is: no end of a cell, no tag from a kernel's template arguments.
pub fn escaped(text: &str) -> String {
    plain(text).replace('|', "\\|").replace('<', "\\<")
}

/// A table for a terminal, each column as wide as its widest cell.
pub fn columns(headers: &[&str], rows: &Rows) -> Vec<String> {
    let head = headers
        .iter()
        .map(|header| header.trim_start_matches('>').to_string())
        .collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        all.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let padded = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(headers)
            .enumerate()
            .map(|(column, (cell, header))| {
                let width = width(column).unwrap_or(0);
                if header.starts_with('>') {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        format!("  {}", cells.collect::<Vec<_>>().join(" "))
            .trim_end()
            .to_string()
    };
    all.iter().copied().map(padded).collect()
}

/// Without what would break a line or colour a terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

pub fn clip(text: &str, width: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars()
        .take(width.saturating_sub(3))
        .chain("...".chars())
        .collect()
}
