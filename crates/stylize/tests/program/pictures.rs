//! `stylize` on pictures: sizes, transparency, orientation, tiles and formats.

use std::fs;
use std::process::Stdio;

use crate::workshop::{Workshop, check_success};
use anyhow::Result;
use image::{DynamicImage, Luma, LumaA, Rgb, RgbImage, Rgba};
use testing::pictures::{check_bytes, psnr, published};

const NET: &str = "net.safetensors";

#[test]
fn formats_and_what_pictures_carry() -> Result<()> {
    let shop = Workshop::new("formats")?;
    let path = |name: &str| shop.0.join(name);
    let stylize = |input: &str, output: &str, rest: &[&str]| -> Result<DynamicImage> {
        check_success(&shop.stylize(NET, input, output, rest)?)?;
        Ok(image::open(path(output))?)
    };
    let grey = image::GrayImage::from_fn(24, 16, |x, y| Luma([(9 * x + 3 * y) as u8]));
    grey.save(path("grey.jpg"))?;
    let image = stylize("grey.jpg", "grey.webp", &[])?;
    assert_eq!((image.width(), image.height()), (24, 16));

    // Transparency comes out as it went in, where the format has it.
    let glass = image::GrayAlphaImage::from_fn(24, 16, |x, y| LumaA([90, (10 * x + y) as u8]));
    glass.save(path("glass.png"))?;
    for output in ["glass-out.png", "glass-out.webp"] {
        let image = stylize("glass.png", output, &[])?;
        assert!(image.color().has_alpha());
        for (x, y, Rgba([.., alpha])) in image.into_rgba8().enumerate_pixels() {
            assert_eq!(*alpha, (10 * x + y) as u8, "{output}");
        }
    }
    assert!(
        !stylize("glass.png", "glass-out.jpg", &[])?
            .color()
            .has_alpha()
    );

    let small = stylize("in.png", "small.png", &["--max-size", "10"])?;
    assert_eq!((small.width(), small.height()), (10, 8));
    Ok(())
}

/// A JPEG that says that it lies on its side comes out upright.
#[test]
fn orientation_is_applied() -> Result<()> {
    let shop = Workshop::new("orientation")?;
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90);
    shop.picture("in.png")?.write_with_encoder(encoder)?;
    // An APP1 segment with one TIFF entry: tag 0x0112, orientation, is 6, a quarter to the right.
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    fs::write(shop.0.join("side.jpg"), jpeg)?;
    check_success(&shop.stylize(NET, "side.jpg", "up.png", &[])?)?;
    assert_eq!(shop.picture("up.png")?.dimensions(), (18, 23));
    Ok(())
}

#[test]
fn alpha_and_colours() -> Result<()> {
    let shop = Workshop::new("alpha")?;
    let stylize = |output: &str, rest: &[&str]| -> Result<RgbImage> {
        check_success(&shop.stylize(NET, "in.png", output, rest)?)?;
        shop.picture(output)
    };
    let input = shop.picture("in.png")?;
    let whole = stylize("whole.png", &[])?;
    assert_eq!(stylize("none.png", &["--alpha", "0"])?, input);
    let half = stylize("half.png", &["--alpha", "0.5"])?;
    for ((half, whole), input) in half.iter().zip(whole.iter()).zip(input.iter()) {
        let mean = (f32::from(*whole) + f32::from(*input)) / 2.;
        assert!((f32::from(*half) - mean).abs() <= 0.5);
    }
    let preserved = stylize("preserved.png", &["--preserve-color"])?;
    let differences = |Rgb([r, g, b]): &Rgb<u8>| [r, g, b].map(|byte| i32::from(*byte));
    let mut compared = 0;
    for (preserved, input) in preserved.pixels().zip(input.pixels()) {
        let [r, g, b] = differences(preserved);
        if [r, g, b].iter().all(|byte| (1..255).contains(byte)) {
            let [ir, ig, ib] = differences(input);
            assert!((r - g - (ir - ig)).abs() <= 1 && (b - g - (ib - ig)).abs() <= 1);
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
    assert_ne!(preserved, whole);
    Ok(())
}

/// Across the borders of tiles, neighbours differ by no more than elsewhere. The tiles differ from the
/// whole picture, whose statistics are not those of its copy.
#[test]
fn tiles_show_no_seams() -> Result<()> {
    const TILE: u32 = 32;
    let shop = Workshop::new("tiles")?;
    let wave =
        |x: u32, y: u32, f: f32| (127. + 120. * (f * (x as f32 + 0.7 * y as f32)).sin()) as u8;
    let picture = RgbImage::from_fn(160, 120, |x, y| {
        Rgb([wave(x, y, 0.05), wave(y, x, 0.07), wave(x, x, 0.02)])
    });
    picture.save(shop.0.join("large.png"))?;
    let tile = ["--tile", "32"];
    check_success(&shop.stylize(NET, "large.png", "tiled.png", &tile)?)?;
    check_success(&shop.stylize(NET, "large.png", "whole.png", &[])?)?;
    let tiled = shop.picture("tiled.png")?;
    // The largest and the mean step elsewhere, and the same over the borders.
    let mut steps = [(0u8, 0., 0.), (0, 0., 0.)];
    let mut step = |border: bool, a: (u32, u32), b: (u32, u32)| {
        let pixels = tiled.get_pixel(a.0, a.1).0.into_iter();
        let pixels = pixels.zip(tiled.get_pixel(b.0, b.1).0);
        for step in pixels.map(|(a, b)| a.abs_diff(b)) {
            let (largest, sum, count) = &mut steps[usize::from(border)];
            *largest = step.max(*largest);
            *sum += f64::from(step);
            *count += 1.;
        }
    };
    for y in 0..119 {
        for x in 0..159 {
            step((x + 1) % TILE == 0, (x, y), (x + 1, y));
            // 120 rows are 4 parts of 32, 32, 32 and 24.
            step((y + 1) % TILE == 0, (x, y), (x, y + 1));
        }
    }
    let [(elsewhere, sum, count), (across, border_sum, border_count)] = steps;
    let (mean, border_mean) = (sum / count, border_sum / border_count);
    println!("steps: at most {across} across borders, {elsewhere} elsewhere");
    println!("in the mean: {border_mean:.2} across borders, {mean:.2} elsewhere");
    assert!(across > 0 && across <= elsewhere && border_mean < 1.1 * mean);
    let psnr = psnr(&tiled, &shop.picture("whole.png")?);
    println!("{psnr:.1} dB of the picture made whole");
    assert!(psnr < 60., "the statistics were not frozen");
    Ok(())
}

/// A closed stdout, as behind `| head`, is no error.
#[test]
fn nobody_need_read_what_is_printed() -> Result<()> {
    let shop = Workshop::new("closed")?;
    let args = ["--weights", NET, "--input", "in.png", "--output", "out.png"];
    let mut command = shop.command(&args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    check_success(&child.wait_with_output()?)?;
    assert_eq!(shop.picture("out.png")?.dimensions(), (23, 18));
    Ok(())
}

#[test]
fn half_precision_is_near() -> Result<()> {
    let shop = Workshop::new("half")?;
    check_success(&shop.stylize(NET, "in.png", "f32.png", &[])?)?;
    // A rounding of bf16 is 8 times one of f16: 18 dB.
    for (dtype, least) in [("f16", 35.), ("bf16", 20.)] {
        check_success(&shop.stylize(NET, "in.png", "half.png", &["--dtype", dtype])?)?;
        let psnr = psnr(&shop.picture("half.png")?, &shop.picture("f32.png")?);
        println!("{dtype}: {psnr:.1} dB");
        assert!(psnr >= least, "{dtype}: {psnr:.1} dB");
    }
    Ok(())
}

/// A published network, from the file its authors published.
#[test]
fn published_cyclegan() -> Result<()> {
    let Some(folder) = published("cyclegan-horse2zebra") else {
        return Ok(());
    };
    let shop = Workshop::new("published")?;
    let weights = folder.join("latest_net_G.pth").display().to_string();
    let input = folder.join("input.png").display().to_string();
    let expected = shop.picture(folder.join("expected.png"))?;
    check_success(&shop.stylize(&weights, &input, "f32.png", &[])?)?;
    let f32 = shop.picture("f32.png")?;
    check_bytes(&f32, &expected, 1)?;

    check_success(&shop.stylize(&weights, &input, "f16.png", &["--dtype", "f16"])?)?;
    let psnr = psnr(&shop.picture("f16.png")?, &f32);
    println!("f16: {psnr:.1} dB");
    assert!(psnr >= 35.);
    Ok(())
}
