//! Conversion of pictures to the tensors of networks, and back.

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use image::imageops::FilterType;
use image::{Rgb, RgbImage};

/// The values that a network uses for bytes. Back to bytes, they are truncated or rounded as the
/// authors' code does.
#[derive(Clone, Copy)]
pub enum Pixels {
    /// From -1 to 1, truncated.
    Signed,
    /// From -1 to 1, rounded.
    SignedRounded,
    /// From 0 to 1, truncated.
    Unit,
    /// From 0 to 1, rounded.
    UnitRounded,
    /// From 0 to 255, truncated.
    Bytes,
    /// Input: a map with this number of channels. A channel is 1 where red is its number, and the
    /// last channel where green is 255, at the edges of things; else it is 0. Output: [`Signed`].
    ///
    /// [`Signed`]: Self::Signed
    Labels(usize),
}

impl Pixels {
    /// The channels of an input.
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

    /// The filter to reduce an input with.
    pub fn filter(self) -> FilterType {
        match self {
            Self::Labels(_) => FilterType::Nearest,
            _ => FilterType::Triangle,
        }
    }

    /// The byte of a value, computed in f32 like the originals.
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

    /// A part of a picture as `(1, C, H, W)`. Beyond the right and the lower edge, by less than the
    /// sides, the picture is reflected.
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

    /// Writes the pixels of y, `(1, 3, H, W)`, from `from` on over the part `to` of `image`.
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
