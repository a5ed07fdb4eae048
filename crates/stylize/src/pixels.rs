//! Parts of pictures as the tensors that networks take, and back.

use std::ops::Range;

use anyhow::{ensure, Result};
use candle_core::{DType, Device, Tensor};
use image::imageops::FilterType;
use image::{Rgb, RgbImage};

/// The values that a network has for bytes.
#[derive(Clone, Copy)]
pub enum Pixels {
    /// From -1 to 1, as CycleGAN has them.
    Signed,
    /// The same, and bytes are rounded to the nearest, as torchvision's `save_image` does.
    SignedRounded,
    /// From 0 to 1.
    Unit,
    /// The same, with bytes rounded to the nearest.
    UnitRounded,
    /// From 0 to 255.
    Bytes,
    /// So many channels, each 1 where red has its number and 0 elsewhere, but the last where green
    /// is 255: maps of labels with the edges of things. The result is as of `Signed`.
    Labels(usize),
}

impl Pixels {
    fn channels(self) -> usize {
        match self {
            Self::Labels(count) => count,
            _ => 3,
        }
    }

    /// The value of a channel.
    fn of_pixel(self, pixel: Rgb<u8>, channel: usize) -> f32 {
        let byte = || f32::from(pixel[channel]);
        match self {
            Self::Signed | Self::SignedRounded => (byte() / 255. - 0.5) / 0.5,
            Self::Unit | Self::UnitRounded => byte() / 255.,
            Self::Bytes => byte(),
            Self::Labels(count) => {
                let is_edge = channel + 1 == count && pixel[1] == 255;
                f32::from(usize::from(pixel[0]) == channel || is_edge)
            }
        }
    }

    /// How a picture is to be reduced.
    pub fn filter(self) -> FilterType {
        match self {
            Self::Labels(_) => FilterType::Nearest,
            _ => FilterType::Triangle,
        }
    }

    /// As the originals round: in f32, then, for most, cut off below the point.
    fn to_byte(self, value: f32) -> u8 {
        // `as u8` truncates and clamps to 0..=255.
        match self {
            Self::Signed | Self::Labels(_) => ((value + 1.) / 2. * 255.) as u8,
            Self::SignedRounded => ((value + 1.) / 2. * 255. + 0.5) as u8,
            Self::Unit => (value * 255.) as u8,
            Self::UnitRounded => (value * 255. + 0.5) as u8,
            Self::Bytes => value as u8,
        }
    }

    /// A part of a picture as `(1, C, H, W)`; beyond the right and lower edge, which are reached
    /// by less than the sides, it is reflected.
    pub fn to_tensor(self, image: &RgbImage, xs: Range<u32>, ys: Range<u32>) -> Result<Tensor> {
        let (width, height) = image.dimensions();
        ensure!(
            xs.end < 2 * width && ys.end < 2 * height,
            "a picture of {width}x{height} is too small"
        );
        let reflect = |at: u32, side: u32| if at < side { at } else { 2 * (side - 1) - at };
        let channels = self.channels();
        let mut values = Vec::with_capacity(channels * xs.len() * ys.len());
        for channel in 0..channels {
            for y in ys.clone() {
                for x in xs.clone() {
                    let pixel = *image.get_pixel(reflect(x, width), reflect(y, height));
                    values.push(self.of_pixel(pixel, channel));
                }
            }
        }
        let shape = (1, channels, ys.len(), xs.len());
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// Writes the part of `(1, 3, H, W)` that starts at `from` over the part of `image` that
    /// starts at `to`, as far as either goes.
    pub fn draw(
        self,
        y: &Tensor,
        from: (u32, u32),
        image: &mut RgbImage,
        to: (Range<u32>, Range<u32>),
    ) -> Result<()> {
        let (_, channels, _, width) = y.dims4()?;
        ensure!(
            channels == 3,
            "the network must give RGB, got {channels} channels"
        );
        let y = y.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = y.flatten_all()?.to_vec1::<f32>()?;
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "the network's output is not finite; try --dtype f32"
        );
        let plane = values.len() / 3;
        for (row, at_y) in to.1.enumerate() {
            for (column, at_x) in to.0.clone().enumerate() {
                let index = (from.1 as usize + row) * width + from.0 as usize + column;
                let byte = |channel| self.to_byte(values[channel * plane + index]);
                image.put_pixel(at_x, at_y, Rgb([byte(0), byte(1), byte(2)]));
            }
        }
        Ok(())
    }
}
