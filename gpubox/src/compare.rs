//! Our rows beside PyTorch's, the ratios between them and their means.

use crate::results::{Results, Speed, Torch};

/// Plane sizes swept at one number of elements: the plot's, and in no mean.
pub const SWEEP: &str = "planes";

pub struct Compared<'a> {
    pub ours: &'a Speed,
    /// The fastest of PyTorch's, compiled or not.
    pub torch: Option<&'a Torch>,
}

/// Every row that was measured, in the order of the file.
pub fn compared(results: &Results) -> Vec<Compared<'_>> {
    let measured = results.speed.iter().filter(|row| row.ours_ms.is_some());
    measured
        .map(|ours| Compared {
            ours,
            torch: fastest(peers(results, ours)),
        })
        .collect()
}

/// PyTorch's measurements of the same work.
pub fn peers<'a>(results: &'a Results, ours: &'a Speed) -> impl Iterator<Item = &'a Torch> {
    let op = if ours.op == SWEEP {
        "instance_norm"
    } else {
        &ours.op
    };
    let direction = if ours.direction == "autograd" {
        "forward+backward"
    } else {
        &ours.direction
    };
    results.torch.iter().filter(move |row| {
        row.op == op
            && row.shape == ours.shape
            && row.dtype == ours.dtype
            && row.direction == direction
            && row.cache == ours.cache
    })
}

pub fn fastest<'a>(rows: impl Iterator<Item = &'a Torch>) -> Option<&'a Torch> {
    let timed = rows.filter_map(|row| Some((row.ms.filter(|&ms| ms > 0.0)?, row)));
    timed.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, row)| row)
}

impl Compared<'_> {
    /// The speed in percent of the device's copy.
    pub fn of_copy(&self) -> Option<f64> {
        let ratio = ratio(self.ours.copy_ms, self.ours.ours_ms)?;
        Some(100.0 * self.ours.tensors? / 2.0 * ratio)
    }

    /// Above 1 where ours is faster, as in the other ratios.
    pub fn torch_by_ours(&self) -> Option<f64> {
        ratio(self.torch?.ms, self.ours.ours_ms)
    }

    pub fn composed_by_ours(&self) -> Option<f64> {
        ratio(self.ours.composed_ms, self.ours.ours_ms)
    }
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b?).filter(|ratio| ratio.is_finite() && *ratio > 0.0)
}

/// GB/s of `tensors` tensors of x's size in `ms`.
pub fn rate(row: &Speed, tensors: Option<f64>, ms: Option<f64>) -> Option<f64> {
    let width = match row.dtype.as_str() {
        "f64" => 8.0,
        "f32" => 4.0,
        "f16" | "bf16" => 2.0,
        _ => return None,
    };
    let bytes = width * row.shape.iter().map(|&size| size as f64).product::<f64>();
    ratio(Some(tensors? * bytes / 1e6), ms)
}

/// The geometric means over the rows of a direction, a data type and a state of the cache.
pub struct Mean<'a> {
    pub cache: &'a str,
    pub dtype: &'a str,
    pub direction: &'a str,
    pub rows: usize,
    pub of_copy: Option<f64>,
    pub torch_by_ours: Option<f64>,
    /// The rows that PyTorch has too, and those of them where it is the faster one.
    pub with_torch: usize,
    pub lost: usize,
    pub composed_by_ours: Option<f64>,
}

/// Cold before warm, then as the rows come.
pub fn means<'a>(rows: &[Compared<'a>]) -> Vec<Mean<'a>> {
    let rows = || rows.iter().filter(|row| row.ours.op != SWEEP);
    let mut keys = Vec::new();
    for row in rows() {
        let key = (&*row.ours.cache, &*row.ours.dtype, &*row.ours.direction);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|key| key.0 != "cold");
    let mean = |key: (&'a str, &'a str, &'a str)| {
        let own: Vec<&Compared> = rows()
            .filter(|row| key == (&*row.ours.cache, &*row.ours.dtype, &*row.ours.direction))
            .collect();
        let torch: Vec<f64> = own.iter().filter_map(|row| row.torch_by_ours()).collect();
        Mean {
            cache: key.0,
            dtype: key.1,
            direction: key.2,
            rows: own.len(),
            of_copy: geometric(own.iter().filter_map(|row| row.of_copy())),
            torch_by_ours: geometric(torch.iter().copied()),
            with_torch: torch.len(),
            lost: torch.iter().filter(|&&ratio| ratio < 1.0).count(),
            composed_by_ours: geometric(own.iter().filter_map(|row| row.composed_by_ours())),
        }
    };
    keys.into_iter().map(mean).collect()
}

fn geometric(values: impl Iterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<f64> = values.map(f64::ln).collect();
    (!logarithms.is_empty())
        .then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
}
