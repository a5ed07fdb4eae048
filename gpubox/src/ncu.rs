//! The kernels that Nsight Compute measured, from what `ncu --csv --page raw` printed.

use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kernel {
    pub name: String,
    pub block: String,
    pub grid: String,
    pub microseconds: Option<f64>,
    pub dram_percent: Option<f64>,
    pub issue_percent: Option<f64>,
    pub warps_percent: Option<f64>,
    pub registers: Option<f64>,
    pub read_mb: Option<f64>,
    pub write_mb: Option<f64>,
}

/// Line by line: the program that ncu ran prints between its lines, and no name spans two.
pub fn parse(text: &str) -> Vec<Kernel> {
    let (mut header, mut units, mut kernels) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with("==")) {
        let fields = fields(line);
        let id = fields.first().map_or("", |id| id.trim());
        if id == "ID" {
            // Several runs of ncu may follow each other in a file.
            (header, units) = (fields, Vec::new());
        } else if id.is_empty() && fields.len() > 1 && units.is_empty() {
            units = fields;
        } else if id.parse::<u64>().is_ok() && fields.len() > 1 && !header.is_empty() {
            kernels.push(
                Record {
                    header: &header,
                    units: &units,
                    fields: &fields,
                }
                .kernel(),
            );
        }
    }
    kernels
}

fn fields(line: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(line.as_bytes());
    let record = reader
        .records()
        .next()
        .and_then(Result::ok)
        .unwrap_or_default();
    record.iter().map(str::to_string).collect()
}

struct Record<'a> {
    header: &'a [String],
    units: &'a [String],
    fields: &'a [String],
}

impl Record<'_> {
    fn kernel(&self) -> Kernel {
        let text = |name| self.field(name).map_or("-", |(value, _)| value).to_string();
        Kernel {
            name: text("Kernel Name"),
            block: text("Block Size"),
            grid: text("Grid Size"),
            microseconds: self.number("gpu__time_duration.sum", microseconds),
            dram_percent: self.number("dram__throughput.avg.pct_of_peak_sustained_elapsed", same),
            issue_percent: self.number("smsp__issue_active.avg.pct_of_peak_sustained_active", same),
            warps_percent: self.number("sm__warps_active.avg.pct_of_peak_sustained_active", same),
            registers: self.number("launch__registers_per_thread", same),
            read_mb: self.number("dram__bytes_read.sum", megabytes),
            write_mb: self.number("dram__bytes_write.sum", megabytes),
        }
    }

    fn field(&self, name: &str) -> Option<(&str, &str)> {
        let column = self
            .header
            .iter()
            .position(|column| column.trim() == name)?;
        let value = self.fields.get(column)?.trim();
        let unit = self.units.get(column).map_or("", |unit| unit.trim());
        Some((value, unit)).filter(|_| !value.is_empty())
    }

    /// A number in a unit that is not known is no figure.
    fn number(&self, name: &str, scale: fn(&str) -> Option<f64>) -> Option<f64> {
        let (value, unit) = self.field(name)?;
        let value: f64 = value.replace(',', "").parse().ok()?;
        Some(value * scale(unit)?).filter(|value| value.is_finite())
    }
}

fn same(_: &str) -> Option<f64> {
    Some(1.0)
}

fn microseconds(unit: &str) -> Option<f64> {
    match unit {
        "nsecond" | "ns" => Some(1e-3),
        "usecond" | "us" => Some(1.0),
        "msecond" | "ms" => Some(1e3),
        "second" | "s" => Some(1e6),
        _ => None,
    }
}

fn megabytes(unit: &str) -> Option<f64> {
    match unit.to_ascii_lowercase().as_str() {
        "byte" | "b" => Some(1e-6),
        "kbyte" | "kb" => Some(1e-3),
        "mbyte" | "mb" => Some(1.0),
        "gbyte" | "gb" => Some(1e3),
        _ => None,
    }
}
