//! Pictures in files.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops::{self, FilterType as Filter};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::atomic_write;

/// The largest PNG, in pixels, that is packed for size: the best packing of 24 million pixels takes as
/// long as a small network.
const LARGE: u32 = 4 << 20;

/// From 1 to 100: this shows no blocks in flat parts, at a third of the bytes of 100.
const JPEG_QUALITY: u8 = 92;

/// A picture with its transparency.
pub struct Picture {
    pub rgb: RgbImage,
    /// The opacity of each pixel, if the file has it.
    pub alpha: Option<GrayImage>,
}

impl Picture {
    /// Reads a picture and turns it upright by its metadata. Grey becomes RGB.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let reader = ImageReader::open(path)
            .and_then(ImageReader::with_guessed_format)
            .with_context(|| format!("cannot read {shown}"))?;
        let decode = || -> image::ImageResult<DynamicImage> {
            let mut decoder = reader.into_decoder()?;
            let orientation = decoder.orientation()?;
            let mut image = DynamicImage::from_decoder(decoder)?;
            image.apply_orientation(orientation);
            Ok(image)
        };
        let image =
            decode().with_context(|| format!("{shown} is not a picture that can be read"))?;
        if !image.color().has_alpha() {
            let rgb = image.into_rgb8();
            return Ok(Self { rgb, alpha: None });
        }
        let image = image.into_rgba8();
        let (width, height) = image.dimensions();
        let alpha = GrayImage::from_fn(width, height, |x, y| {
            image::Luma([image.get_pixel(x, y)[3]])
        });
        let rgb = DynamicImage::from(image).into_rgb8();
        let alpha = Some(alpha);
        Ok(Self { rgb, alpha })
    }

    /// The picture with its longer side at most `side` pixels.
    pub fn at_most(self, side: u32) -> Self {
        let Some((width, height)) = scaled(self.rgb.dimensions(), side) else {
            return self;
        };
        let alpha = self.alpha.as_ref();
        Self {
            rgb: imageops::resize(&self.rgb, width, height, Filter::Lanczos3),
            alpha: alpha.map(|alpha| imageops::resize(alpha, width, height, Filter::Lanczos3)),
        }
    }

    /// Writes the picture as a whole or not at all, in JPEG without its transparency.
    pub fn write(&self, path: &Path, format: ImageFormat) -> Result<()> {
        let shown = path.display();
        let bytes = self
            .encode(format)
            .with_context(|| format!("cannot encode {shown}"))?;
        atomic_write::write(path, |path| fs::write(path, bytes))
    }

    fn encode(&self, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
        let image = match &self.alpha {
            Some(alpha) if format != ImageFormat::Jpeg => {
                let mut image = DynamicImage::from(self.rgb.clone()).into_rgba8();
                for (pixel, alpha) in image.pixels_mut().zip(alpha.pixels()) {
                    pixel[3] = alpha[0];
                }
                DynamicImage::from(image)
            }
            _ => DynamicImage::from(self.rgb.clone()),
        };
        let mut bytes = Cursor::new(Vec::new());
        match format {
            ImageFormat::Png => {
                // The default is tuned for speed; its files are a tenth to a fifth larger.
                let packing = match self.rgb.width() * self.rgb.height() {
                    ..=LARGE => CompressionType::Best,
                    _ => CompressionType::Default,
                };
                let filter = FilterType::Adaptive;
                image.write_with_encoder(PngEncoder::new_with_quality(&mut bytes, packing, filter))
            }
            ImageFormat::Jpeg => {
                let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
                image.write_with_encoder(encoder)
            }
            _ => image.write_to(&mut bytes, format),
        }?;
        Ok(bytes.into_inner())
    }
}

/// The width and height of a picture whose longer side is reduced to `side`, or `None` if it is no
/// longer than that.
pub fn scaled((width, height): (u32, u32), side: u32) -> Option<(u32, u32)> {
    let longer = width.max(height);
    let scaled = |length: u32| {
        let length = f64::from(length) * f64::from(side) / f64::from(longer);
        (length.round() as u32).max(1)
    };
    (longer > side).then(|| (scaled(width), scaled(height)))
}

/// The format of a file by its extension.
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

/// The given files, with the pictures in a folder in place of the folder.
pub fn list(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for input in inputs {
        if input.is_dir() {
            pictures.extend(in_folder(input)?);
        } else {
            pictures.push(input.clone());
        }
    }
    Ok(pictures)
}

/// The pictures in a folder, in alphabetical order; an error where there is none.
pub fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let shown = folder.display();
    let files = folder
        .read_dir()
        .and_then(|files| files.map(|file| Ok(file?.path())).collect());
    let mut files: Vec<PathBuf> = files.with_context(|| format!("cannot read {shown}"))?;
    files.retain(|file| file.is_file() && format_of(file).is_ok());
    ensure!(!files.is_empty(), "{shown} holds no .png, .jpg or .webp");
    files.sort();
    Ok(files)
}
