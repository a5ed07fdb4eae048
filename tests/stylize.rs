//! The `stylize` example from the outside: what it writes, and its one-line errors.

mod common;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use common::pictures::{check_bytes, psnr, published};
use common::workshop::{check_error, check_success, Workshop};
use image::{DynamicImage, Luma, LumaA, Rgb, RgbImage, Rgba};

const NET: &str = "net.safetensors";

fn rgb(path: impl AsRef<Path>) -> Result<RgbImage> {
    Ok(image::open(path)?.into_rgb8())
}

#[test]
fn demo_needs_no_arguments() -> Result<()> {
    let shop = Workshop::new("demo")?;
    let line = check_success(&shop.run(&[])?)?;
    assert!(line.contains("stylize-demo.png"));
    let sheet = image::open(shop.0.join("stylize-demo.png"))?;
    assert_eq!((sheet.width(), sheet.height()), (3 * 256 + 2 * 8, 256));
    Ok(())
}

#[test]
fn help_has_examples() -> Result<()> {
    let help = check_success(&Workshop::new("help")?.run(&["--help"])?)?;
    assert!(
        help.contains("Examples:") && help.contains("hf://owner/name"),
        "{help}"
    );
    Ok(())
}

#[test]
fn output_has_the_size_of_the_input() -> Result<()> {
    let shop = Workshop::new("size")?;
    let lines = check_success(&shop.stylize(NET, "in.png", "out.png", &[])?)?;
    assert!(lines.contains("out.png: 23x18 in "), "{lines}");
    assert!(lines.contains(" s (cpu, f32)"), "{lines}");
    assert!(lines.contains(" s for the weights, "), "{lines}");
    assert_eq!(rgb(shop.0.join("out.png"))?.dimensions(), (23, 18));
    assert_eq!(shop.files()?, ["in.png", NET, "out.png"]);
    Ok(())
}

/// The same network, in every file that it may come in.
#[test]
fn weights_are_known_by_their_names() -> Result<()> {
    let shop = Workshop::new("names")?;
    check_success(&shop.stylize(NET, "in.png", "plain.png", &[])?)?;
    let weights = candle_core::safetensors::load(shop.0.join(NET), &Device::Cpu)?;
    let nested = weights
        .into_iter()
        .map(|(name, tensor)| (format!("netG.{name}"), tensor));
    let mut nested: std::collections::HashMap<_, _> = nested.collect();
    let other = Tensor::zeros((8, 3, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
    nested.insert("netD.model.0.weight".to_string(), other);
    candle_core::safetensors::save(&nested, shop.0.join("nested.pth"))?;
    for arch in [&[][..], &["--arch", "cyclegan"]] {
        check_success(&shop.stylize("nested.pth", "in.png", "nested.png", arch)?)?;
        assert_eq!(
            rgb(shop.0.join("plain.png"))?,
            rgb(shop.0.join("nested.png"))?
        );
    }
    Ok(())
}

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
    assert!(!stylize("glass.png", "glass-out.jpg", &[])?
        .color()
        .has_alpha());

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
    rgb(shop.0.join("in.png"))?.write_with_encoder(encoder)?;
    // An APP1 segment with one TIFF entry: tag 0x0112, orientation, is 6, a quarter to the right.
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    fs::write(shop.0.join("side.jpg"), jpeg)?;
    check_success(&shop.stylize(NET, "side.jpg", "up.png", &[])?)?;
    assert_eq!(rgb(shop.0.join("up.png"))?.dimensions(), (18, 23));
    Ok(())
}

#[test]
fn alpha_and_colours() -> Result<()> {
    let shop = Workshop::new("alpha")?;
    let stylize = |output: &str, rest: &[&str]| -> Result<RgbImage> {
        check_success(&shop.stylize(NET, "in.png", output, rest)?)?;
        rgb(shop.0.join(output))
    };
    let input = rgb(shop.0.join("in.png"))?;
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

#[test]
fn folders_and_several_pictures() -> Result<()> {
    let shop = Workshop::new("folders")?;
    fs::create_dir(shop.0.join("album"))?;
    for name in ["album/b.png", "album/a.jpg"] {
        rgb(shop.0.join("in.png"))?.save(shop.0.join(name))?;
    }
    fs::write(shop.0.join("album/notes.txt"), "no picture")?;
    let lines = check_success(&shop.stylize(NET, "album", "out/deep", &[])?)?;
    let order = (lines.find("a.jpg"), lines.find("b.png"));
    assert!(order.0.is_some() && order.0 < order.1, "{lines}");
    assert_eq!(rgb(shop.0.join("out/deep/a.jpg"))?.dimensions(), (23, 18));
    assert_eq!(rgb(shop.0.join("out/deep/b.png"))?.dimensions(), (23, 18));

    // One that cannot be read does not keep the others from it.
    fs::write(shop.0.join("album/bad.png"), "not a picture")?;
    let output = shop.stylize(NET, "album", "again", &[])?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("bad.png is not a picture"), "{errors}");
    assert!(errors.contains("1 of 3 pictures were not made"), "{errors}");
    let names = fs::read_dir(shop.0.join("again"))?.count();
    assert_eq!(names, 2);

    let twice = [
        "--weights",
        NET,
        "--input",
        "in.png",
        "./in.png",
        "--output",
        "x",
    ];
    check_error(&shop.run(&twice)?, &["two pictures", "in.png"])?;
    check_error(
        &shop.stylize(NET, "in.png", ".", &[])?,
        &["in.png", "over itself"],
    )?;
    fs::create_dir(shop.0.join("empty"))?;
    check_error(
        &shop.stylize(NET, "empty", "x", &[])?,
        &["empty holds no .png"],
    )
}

/// Across the borders of tiles, neighbours differ by no more than elsewhere; and the tiles are not
/// the picture, whose statistics are not those of its copy.
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
    let tiled = rgb(shop.0.join("tiled.png"))?;
    let (mut across, mut elsewhere) = (0, 0);
    let mut step = |border: bool, a: (u32, u32), b: (u32, u32)| {
        let pixels = tiled
            .get_pixel(a.0, a.1)
            .0
            .into_iter()
            .zip(tiled.get_pixel(b.0, b.1).0);
        let step = pixels.map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0);
        let largest = if border { &mut across } else { &mut elsewhere };
        *largest = step.max(*largest);
    };
    for y in 0..119 {
        for x in 0..159 {
            step((x + 1) % TILE == 0, (x, y), (x + 1, y));
            // 120 rows are 4 parts of 32, 32, 32 and 24.
            step((y + 1) % TILE == 0, (x, y), (x, y + 1));
        }
    }
    println!("largest step: {across} across borders, {elsewhere} elsewhere");
    assert!(across > 0 && across <= elsewhere);
    let psnr = psnr(&tiled, &rgb(shop.0.join("whole.png"))?);
    println!("{psnr:.1} dB of the picture made whole");
    assert!(psnr < 60., "the statistics were not frozen");
    Ok(())
}

#[test]
fn half_precision_is_near() -> Result<()> {
    let shop = Workshop::new("half")?;
    check_success(&shop.stylize(NET, "in.png", "f32.png", &[])?)?;
    check_success(&shop.stylize(NET, "in.png", "f16.png", &["--dtype", "f16"])?)?;
    let psnr = psnr(&rgb(shop.0.join("f16.png"))?, &rgb(shop.0.join("f32.png"))?);
    println!("f16: {psnr:.1} dB");
    assert!(psnr >= 35.);
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
    let expected = rgb(folder.join("expected.png"))?;
    check_success(&shop.stylize(&weights, &input, "f32.png", &[])?)?;
    let f32 = rgb(shop.0.join("f32.png"))?;
    check_bytes(&f32, &expected, 1)?;

    check_success(&shop.stylize(&weights, &input, "f16.png", &["--dtype", "f16"])?)?;
    let psnr = psnr(&rgb(shop.0.join("f16.png"))?, &f32);
    println!("f16: {psnr:.1} dB");
    assert!(psnr >= 35.);
    Ok(())
}

#[test]
fn errors_are_one_line_and_leave_nothing_behind() -> Result<()> {
    let shop = Workshop::new("errors")?;
    fs::write(shop.0.join("text.png"), "not a picture")?;
    let other = Tensor::zeros((8, 3, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
    let other = [("conv.weight".to_string(), other)].into_iter().collect();
    candle_core::safetensors::save(&other, shop.0.join("other.safetensors"))?;
    let before = shop.files()?;

    let other = "other.safetensors";
    for (weights, input, output, rest, parts) in [
        (
            "no.safetensors",
            "in.png",
            "out.png",
            &[][..],
            ["no.safetensors", "cannot read"],
        ),
        (
            other,
            "in.png",
            "out.png",
            &[],
            ["is of none of cyclegan", "conv.weight"],
        ),
        (
            other,
            "in.png",
            "out.png",
            &["--arch", "cyclegan"],
            [other, "missing model.1.bias, model.1.weight"],
        ),
        (NET, "no.png", "out.png", &[], ["no.png", "cannot read"]),
        (
            NET,
            "text.png",
            "out.png",
            &[],
            ["text.png", "not a picture"],
        ),
        (
            NET,
            "in.png",
            "no/out.png",
            &[],
            ["no/out.png", "cannot write"],
        ),
        (NET, "in.png", "out.gif", &[], ["out.gif", ".png"]),
        (NET, "in.png", "in.png", &[], ["in.png", "over itself"]),
        (
            NET,
            "in.png",
            "out.png",
            &["--dtype", "i8"],
            ["--dtype", "f32, f16, bf16"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--dtype", "bf16"],
            ["cannot run", "BF16"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--alpha", "1.5"],
            ["--alpha", "got 1.5"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--alpha", "NaN"],
            ["--alpha", "got NaN"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--tile", "3"],
            ["--tile", "3 is not in 16"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--max-size", "0"],
            ["--max-size", "0 is not in"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--style", "in.png"],
            ["--style", "in its weights"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--style-weight", "1"],
            ["0 of --style", "1 of --style-weight"],
        ),
        (
            NET,
            "in.png",
            "out.png",
            &["--arch", "vgg"],
            ["--arch", "cyclegan"],
        ),
    ] {
        check_error(&shop.stylize(weights, input, output, rest)?, &parts)
            .with_context(|| format!("{weights} {input} {output} {rest:?}"))?;
    }
    let stylize = |rest: &[&str]| shop.stylize(NET, "in.png", "out.png", rest);
    if !cfg!(feature = "cuda") {
        check_error(&stylize(&["--device", "cuda"])?, &["CUDA"])?;
    }
    if !cfg!(feature = "metal") {
        check_error(&stylize(&["--device", "metal"])?, &["Metal"])?;
    }
    let half = shop.run(&["--weights", NET])?;
    check_error(&half, &["missing --input and --output"])?;

    assert_eq!(shop.files()?, before);
    Ok(())
}
