//! Maps of labels: grey pictures, whose values say which thing is to be drawn where.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageBuffer, ImageReader, Luma, Rgb, RgbImage};

use crate::picture::scaled;

/// The green of a pixel at the edge of a thing; elsewhere it is 0.
const EDGE: u8 = 255;

type Grey = ImageBuffer<Luma<u16>, Vec<u16>>;

/// The dataset of a map, which decides the meaning of its values.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Dataset {
    /// COCO-Stuff: labels from 0 to 181, 255 for unknown, and the edges between things.
    Coco,
    /// ADE20K: labels from 1 to 150, 0 for unknown.
    Ade20k,
    /// Cityscapes: labels from 0 to 34, and the edges between things.
    Cityscapes,
    /// Labels from 0.
    Plain,
}

/// The labels of a network.
#[derive(Clone, Copy)]
pub struct Labels {
    channels: usize,
    dataset: Dataset,
}

impl Labels {
    /// The labels of a network with this number of channels, which decides the dataset if none is
    /// given.
    pub fn new(channels: usize, dataset: Option<Dataset>) -> Result<Self> {
        ensure!(
            (2..=256).contains(&channels),
            "a network of {channels} labels is not supported: 2 to 256 are"
        );
        let told = match channels {
            184 => Dataset::Coco,
            151 => Dataset::Ade20k,
            36 => Dataset::Cityscapes,
            _ => Dataset::Plain,
        };
        let dataset = dataset.unwrap_or(told);
        Ok(Self { channels, dataset })
    }

    fn has_edges(self) -> bool {
        matches!(self.dataset, Dataset::Coco | Dataset::Cityscapes)
    }

    /// The channel of a grey value, or `None` if it means no label.
    fn channel(self, value: u16) -> Option<u8> {
        let labels = self.channels - usize::from(self.has_edges());
        let channel = match (self.dataset, value) {
            (Dataset::Coco, 255) | (Dataset::Ade20k, 0) => labels - 1,
            (Dataset::Ade20k, label) => usize::from(label) - 1,
            (_, label) => usize::from(label),
        };
        (channel < labels).then_some(channel as u8)
    }

    /// Reads a map, with its longer side reduced to `side`. The result has the channel of each pixel
    /// in red, and in green whether it lies on an edge: next to a pixel of another value in the
    /// picture `instances`, which has a value for each thing, or, without one, of another label.
    pub fn read(
        self,
        path: &Path,
        instances: Option<&Path>,
        side: Option<u32>,
    ) -> Result<RgbImage> {
        let map = read_grey(path)?;
        let things = match instances {
            Some(path) => {
                let things = read_grey(path)?;
                ensure!(
                    things.dimensions() == map.dimensions(),
                    "{} must be as large as the map, {:?}, and is {:?}",
                    path.display(),
                    map.dimensions(),
                    things.dimensions()
                );
                Some(things)
            }
            None => None,
        };
        let reduced = |grey: Grey| match side.and_then(|side| scaled(grey.dimensions(), side)) {
            Some((width, height)) => resize(&grey, width, height, FilterType::Nearest),
            None => grey,
        };
        let map = reduced(map);
        let things = things.map(reduced);
        let things = things.as_ref().unwrap_or(&map);
        let mut result = RgbImage::new(map.width(), map.height());
        for (x, y, pixel) in result.enumerate_pixels_mut() {
            let Luma([value]) = *map.get_pixel(x, y);
            let Some(channel) = self.channel(value) else {
                bail!(
                    "{} has the label {value} at ({x}, {y}), which the network does not know: it has {} channels, of {:?}",
                    path.display(),
                    self.channels,
                    self.dataset,
                )
            };
            let is_edge = self.has_edges() && is_edge(things, x, y);
            *pixel = Rgb([channel, if is_edge { EDGE } else { 0 }, 0]);
        }
        Ok(result)
    }
}

/// True if one of the four neighbours belongs to another thing.
fn is_edge(things: &Grey, x: u32, y: u32) -> bool {
    let here = things.get_pixel(x, y);
    let beside = [
        (x.wrapping_sub(1), y),
        (x + 1, y),
        (x, y.wrapping_sub(1)),
        (x, y + 1),
    ];
    let mut beside = beside
        .iter()
        .filter_map(|&(x, y)| things.get_pixel_checked(x, y));
    beside.any(|other| other != here)
}

fn read_grey(path: &Path) -> Result<Grey> {
    let shown = path.display();
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .with_context(|| format!("cannot read {shown}"))?;
    let image = reader
        .decode()
        .with_context(|| format!("{shown} is not a picture that can be read"))?;
    match image {
        // Not `into_luma16`, which stretches 255 to 65535.
        DynamicImage::ImageLuma8(image) => {
            let value = |x, y| Luma([u16::from(image.get_pixel(x, y)[0])]);
            Ok(Grey::from_fn(image.width(), image.height(), value))
        }
        DynamicImage::ImageLuma16(image) => Ok(image),
        other => bail!(
            "{shown} must be a map of labels, in shades of grey, and has {:?}",
            other.color()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_the_dataset_says() {
        let channels = |channels, dataset, values: &[u16]| -> Vec<Option<u8>> {
            let labels = Labels::new(channels, dataset).unwrap();
            values.iter().map(|&value| labels.channel(value)).collect()
        };
        let coco = channels(184, None, &[0, 181, 182, 183, 255]);
        assert_eq!(coco, [Some(0), Some(181), Some(182), None, Some(182)]);
        let ade = channels(151, None, &[0, 1, 150, 151, 152]);
        assert_eq!(ade, [Some(150), Some(0), Some(149), Some(150), None]);
        let cityscapes = channels(36, None, &[0, 34, 35]);
        assert_eq!(cityscapes, [Some(0), Some(34), None]);
        assert_eq!(channels(5, None, &[4, 5]), [Some(4), None]);
        let told = channels(5, Some(Dataset::Cityscapes), &[3, 4]);
        assert_eq!(told, [Some(3), None]);
        assert!(Labels::new(257, None).is_err());
    }

    #[test]
    fn edges_lie_on_both_sides_of_a_border() {
        let things = Grey::from_fn(5, 4, |x, y| Luma([u16::from(x > 2 && y > 1) * 300]));
        let edges = |y| (0..5).map(|x| is_edge(&things, x, y)).collect::<Vec<_>>();
        assert_eq!(edges(0), [false; 5]);
        assert_eq!(edges(1), [false, false, false, true, true]);
        assert_eq!(edges(2), [false, false, true, true, true]);
        assert_eq!(edges(3), [false, false, true, true, false]);
    }
}
