//! Running a network over a picture, whole or in tiles.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_style_models::NormStats;
use image::RgbImage;
use image::imageops::resize;

use crate::arch::{Grid, Network};

/// Runs networks over pictures.
pub struct Runner {
    pub device: Device,
    pub dtype: DType,
    /// The side of a tile without the pixels that it reads around itself.
    pub tile: Option<u32>,
}

impl Runner {
    /// The network's picture of `image`. `step` is called with the numbers of tiles that are done
    /// and of all tiles.
    pub fn run(
        &self,
        network: &dyn Network,
        image: &RgbImage,
        step: &dyn Fn(usize, usize),
    ) -> Result<RgbImage> {
        let grid = network.grid();
        let (width, height) = image.dimensions();
        let least = grid.min_side;
        ensure!(
            width.min(height) >= least,
            "a picture of {width}x{height} is too small, this network needs {least}x{least}"
        );
        let columns = spans(width, self.tile.unwrap_or(width), &grid);
        let rows = spans(height, self.tile.unwrap_or(height), &grid);
        let tiles = columns.len() * rows.len();
        let stats = match tiles {
            1 => NormStats::own(),
            _ => self.record(network, image, &grid, step, tiles)?.replay(),
        };

        let mut result = RgbImage::new(width, height);
        let mut done = 0;
        for row in &rows {
            for column in &columns {
                let (xs, ys) = (column.read.clone(), row.read.clone());
                let y = self.forward(network, image, xs, ys, &mut stats.clone())?;
                let from = (
                    column.keep.start - column.read.start,
                    row.keep.start - row.read.start,
                );
                let to = (column.keep.clone(), row.keep.clone());
                network.pixels().draw(&y, from, &mut result, to)?;
                done += 1;
                step(done, tiles);
            }
        }
        Ok(result)
    }

    /// Records the statistics of the norms on a copy with as many pixels as a tile reads.
    fn record(
        &self,
        network: &dyn Network,
        image: &RgbImage,
        grid: &Grid,
        step: &dyn Fn(usize, usize),
        tiles: usize,
    ) -> Result<NormStats> {
        step(0, tiles);
        let (width, height) = image.dimensions();
        let side = f64::from(self.tile.unwrap_or(width) + 2 * grid.reach);
        let scale = side / (f64::from(width) * f64::from(height)).sqrt();
        let scaled =
            |length: u32| ((f64::from(length) * scale) as u32).clamp(grid.min_side, length);
        let (width, height) = (scaled(width), scaled(height));
        let reduced = resize(image, width, height, network.pixels().filter());
        let mut stats = NormStats::record();
        let (xs, ys) = (0..padded(width, grid), 0..padded(height, grid));
        self.forward(network, &reduced, xs, ys, &mut stats)?;
        Ok(stats)
    }

    fn forward(
        &self,
        network: &dyn Network,
        image: &RgbImage,
        xs: Range<u32>,
        ys: Range<u32>,
        stats: &mut NormStats,
    ) -> Result<Tensor> {
        let x = network.pixels().to_tensor(image, xs, ys)?;
        let x = x.to_device(&self.device)?.to_dtype(self.dtype)?;
        network.forward(&x, stats).context("cannot run the network")
    }
}

/// The columns or the rows of a tile.
#[derive(Debug, PartialEq)]
struct Span {
    /// The pixels that the network sees.
    read: Range<u32>,
    /// The pixels that are taken from its output.
    keep: Range<u32>,
}

/// The length rounded up to a multiple of the grid's.
fn padded(length: u32, grid: &Grid) -> u32 {
    length.next_multiple_of(grid.multiple)
}

/// Cuts `length` pixels into parts of about the same size, at most `tile` rounded up to a multiple of
/// the grid's. Each is read with all pixels that it depends on.
fn spans(length: u32, tile: u32, grid: &Grid) -> Vec<Span> {
    let end = padded(length, grid);
    let count = length.div_ceil(tile);
    let part = padded(length.div_ceil(count), grid);
    let reach = padded(grid.reach, grid);
    let starts = (0..length).step_by(part as usize);
    let span = |start: u32| Span {
        read: start.saturating_sub(reach)..(start + part + reach).min(end),
        keep: start..(start + part).min(length),
    };
    starts.map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::VarBuilder;
    use candle_style_models::ResnetGenerator;
    use std::collections::HashMap;

    /// The picture is smooth in places: in noise, seams would not show.
    #[test]
    fn tiles_are_the_whole_picture_with_the_same_statistics() -> Result<()> {
        let golden = testing::golden("resnet_generator.safetensors");
        let golden = candle_core::safetensors::load(golden, &Device::Cpu)?;
        let strip =
            |(name, tensor): (String, Tensor)| Some((name.strip_prefix("full.")?.into(), tensor));
        let weights: HashMap<String, Tensor> = golden.into_iter().filter_map(strip).collect();
        let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let network = ResnetGenerator::new(vb)?;
        let runner = Runner {
            device: Device::Cpu,
            dtype: DType::F32,
            tile: Some(32),
        };
        let image = RgbImage::from_fn(150, 120, |x, y| {
            image::Rgb([(x * x / 90 + y) as u8, (2 * y) as u8, (x ^ y) as u8])
        });
        let tiled = runner.run(&network, &image, &|_, _| ())?;

        let grid = network.grid();
        let mut stats = runner
            .record(&network, &image, &grid, &|_, _| (), 2)?
            .replay();
        let y = runner.forward(&network, &image, 0..152, 0..120, &mut stats)?;
        let mut whole = RgbImage::new(150, 120);
        let to = (0..150, 0..120);
        network.pixels().draw(&y, (0, 0), &mut whole, to)?;
        let off = tiled.iter().zip(whole.iter()).map(|(a, b)| a.abs_diff(*b));
        assert!(off.clone().max() <= Some(1));
        assert!(off.filter(|&off| off > 0).count() < tiled.len() / 1000);
        Ok(())
    }

    #[test]
    fn spans_cover_the_length() {
        let grid = Grid {
            multiple: 4,
            reach: 10,
            min_side: 5,
        };
        let whole = Span {
            read: 0..24,
            keep: 0..23,
        };
        assert_eq!(spans(23, 23, &grid), [whole]);
        for length in 1..200 {
            for tile in [4, 17, 64] {
                let mut next = 0;
                for span in spans(length, tile, &grid) {
                    assert_eq!(span.keep.start, next);
                    assert!(span.keep.len() <= tile as usize + 3 && !span.keep.is_empty());
                    assert!(span.read.start % 4 == 0 && span.read.end % 4 == 0);
                    let before = span.keep.start - span.read.start;
                    assert!(before >= 10 || span.read.start == 0);
                    assert!(span.read.end >= span.keep.end + 10 || span.read.end >= length);
                    next = span.keep.end;
                }
                assert_eq!(next, length);
            }
        }
    }
}
