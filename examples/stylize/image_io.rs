//! Pictures on disk and as the tensors that CycleGAN takes and gives.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use candle_core::{Device, Tensor};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

/// Reads a picture as RGB, turned upright where its metadata says so.
pub fn read(path: &Path) -> Result<RgbImage> {
    let shown = path.display();
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .with_context(|| format!("cannot read {shown}"))?;
    let decode = || -> image::ImageResult<RgbImage> {
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(image.into_rgb8())
    };
    decode().with_context(|| format!("{shown} is not a picture that can be read"))
}

/// The format that the extension of `path` stands for.
pub fn format_of(path: &Path) -> Result<ImageFormat> {
    let format = ImageFormat::from_path(path)
        .with_context(|| format!("cannot choose a format for {}", path.display()))?;
    ensure!(
        format.writing_enabled(),
        "cannot write {}: use .png, .jpg or .webp",
        path.display()
    );
    Ok(format)
}

/// Writes the picture whole or not at all: into a new file beside `path`, which then takes its
/// name.
pub fn write(image: &RgbImage, path: &Path, format: ImageFormat) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    let shown = path.display();
    let encoded = match format {
        // The default is tuned for speed and leaves a tenth to a fifth more to store.
        ImageFormat::Png => image.write_with_encoder(PngEncoder::new_with_quality(
            &mut bytes,
            CompressionType::Best,
            FilterType::Adaptive,
        )),
        _ => image.write_to(&mut bytes, format),
    };
    encoded.with_context(|| format!("cannot encode {shown}"))?;

    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written =
        fs::write(&temporary, bytes.into_inner()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {shown}"))
}

/// The picture as `(1, 3, H, W)` in `[-1, 1]`, reflected over the right and lower edge until the
/// sides are multiples of `multiple`.
pub fn to_tensor(image: &RgbImage, multiple: u32) -> Result<Tensor> {
    let (width, height) = image.dimensions();
    let (padded_width, padded_height) = (
        width.next_multiple_of(multiple),
        height.next_multiple_of(multiple),
    );
    ensure!(
        padded_width < 2 * width && padded_height < 2 * height,
        "a picture of {width}x{height} is too small"
    );
    let reflect = |at: u32, side: u32| if at < side { at } else { 2 * (side - 1) - at };
    let mut values = Vec::with_capacity(3 * padded_width as usize * padded_height as usize);
    for channel in 0..3 {
        for y in 0..padded_height {
            for x in 0..padded_width {
                let pixel = image.get_pixel(reflect(x, width), reflect(y, height));
                values.push((f32::from(pixel[channel]) / 255. - 0.5) / 0.5);
            }
        }
    }
    let shape = (1, 3, padded_height as usize, padded_width as usize);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// The upper left `width`x`height` of `(1, 3, H, W)` in `[-1, 1]`, rounded as upstream's
/// `tensor2im` does: in f32, then cut off below the point.
pub fn from_tensor(y: &Tensor, width: u32, height: u32) -> Result<RgbImage> {
    let channels = y.dim(1)?;
    ensure!(
        channels == 3,
        "the network must give RGB, got {channels} channels"
    );
    let planes: Vec<Vec<Vec<f32>>> = y.squeeze(0)?.to_vec3()?;
    let finite = planes.iter().flatten().flatten().all(|y| y.is_finite());
    ensure!(
        finite,
        "the network's output is not finite; try --dtype f32"
    );
    Ok(RgbImage::from_fn(width, height, |x, y| {
        let byte = |plane: &Vec<Vec<f32>>| {
            // `as u8` truncates and clamps to 0..=255.
            ((plane[y as usize][x as usize] + 1.) / 2. * 255.) as u8
        };
        image::Rgb([byte(&planes[0]), byte(&planes[1]), byte(&planes[2])])
    }))
}
