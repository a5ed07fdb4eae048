//! `stylize` from the outside: its output, and its one-line errors.

use std::fs;
use std::path::Path;

use crate::workshop::{Workshop, check_error, check_success};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use candle_style_models::TransformerNet;
use candle_style_models::weights::Weights;
use image::RgbImage;

const NET: &str = "net.safetensors";
const BUILT_IN: &str = "default.safetensors";

/// The picture without arguments is what the library computes from the weights in the repository.
#[test]
fn demo_needs_no_arguments() -> Result<()> {
    let shop = Workshop::new("demo")?;
    let demo = shop.0.join("stylize-demo.png");
    let line = check_success(&shop.run(&["--alpha", "0"])?)?;
    assert!(line.contains("stylize-demo.png"), "{line}");
    let input = shop.picture(&demo)?;
    check_success(&shop.run(&[])?)?;
    let painting = shop.picture(&demo)?;
    assert_eq!(painting.dimensions(), input.dimensions());

    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join(BUILT_IN);
    assert!(fs::metadata(&weights)?.len() <= 500_000);
    let weights = Weights::open(weights)?;
    let network = weights.build(DType::F32, &Device::Cpu, TransformerNet::new)?;
    let (width, height) = (input.width() as usize, input.height() as usize);
    let x = Tensor::from_slice(input.as_raw(), (1, height, width, 3), &Device::Cpu)?;
    let x = x
        .permute((0, 3, 1, 2))?
        .to_dtype(DType::F32)?
        .contiguous()?;
    let y = network.forward(&x)?.clamp(0f32, 255f32)?;
    let y = y.permute((0, 2, 3, 1))?.to_dtype(DType::U8)?;
    assert_eq!(painting.as_raw(), &y.flatten_all()?.to_vec1::<u8>()?);

    // It is no flat colour, nor the input again: it keeps what is light and dark, in strokes.
    let luma = |image: &RgbImage| -> Vec<f64> {
        let luma = image::imageops::grayscale(image);
        luma.iter().map(|&byte| f64::from(byte)).collect()
    };
    let (before, after) = (luma(&input), luma(&painting));
    let r = correlation(&before, &after);
    assert!((0.3..0.95).contains(&r), "correlation {r}");
    let clipped = painting.iter().filter(|&&byte| byte == 0 || byte == 255);
    let share = clipped.count() as f64 / painting.len() as f64;
    assert!(share < 0.25, "{share} of the bytes are black or white");
    Ok(())
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f(a - ma, b - mb)).sum()
    };
    product(&|a, b| a * b) / (product(&|a, _| a * a) * product(&|_, b| b * b)).sqrt()
}

/// Without weights, pictures go through the network that is built in.
#[test]
fn weights_are_built_in() -> Result<()> {
    let shop = Workshop::new("built-in")?;
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join(BUILT_IN);
    let weights = weights.to_str().context("a path in UTF-8")?;
    check_success(&shop.stylize(weights, "in.png", "named.png", &[])?)?;
    check_success(&shop.run(&["--input", "in.png", "--output", "built-in.png"])?)?;
    assert_eq!(shop.picture("built-in.png")?, shop.picture("named.png")?);
    Ok(())
}

/// A row for each input and style, a column for each alpha; the layout has a unit test.
#[test]
fn galleries_show_all_there_is() -> Result<()> {
    let shop = Workshop::new("gallery")?;
    let small = ["--max-size", "48"];
    let line = check_success(&shop.run(&[&["--gallery", "own.png"][..], &small].concat())?)?;
    assert!(line.contains("own.png: 5 pictures in "), "{line}");

    let gallery = [
        "--input",
        "in.png",
        "--alpha",
        "0",
        "1",
        "--gallery",
        "net.png",
    ];
    let line = check_success(&shop.run(&[&["--weights", NET][..], &gallery].concat())?)?;
    assert!(line.contains("net.png: 3 pictures in "), "{line}");
    check_success(&shop.stylize(NET, "in.png", "out.png", &[])?)?;
    let sheet = shop.picture("net.png")?;
    let cell = |column: u32| {
        let (x, y) = (8 + column * (23 + 8), 8 + 15);
        image::imageops::crop_imm(&sheet, x, y, 23, 18).to_image()
    };
    assert_eq!(sheet.dimensions(), (3 * 23 + 4 * 8, 15 + 18 + 2 * 8));
    assert_eq!(cell(0), shop.picture("in.png")?);
    assert_eq!(cell(1), cell(0));
    assert_eq!(cell(2), shop.picture("out.png")?);

    for (wrong, parts) in [
        (
            &["--alpha", "0", "1"][..],
            ["several values of --alpha", "--gallery"],
        ),
        (&["--gallery", "x.gif"], ["x.gif", ".png"]),
        (
            &["--gallery", "x.png", "--output", "y.png"],
            ["--gallery", "--output"],
        ),
    ] {
        check_error(&shop.run(wrong)?, &parts)?;
    }
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
    assert_eq!(shop.picture("out.png")?.dimensions(), (23, 18));
    assert_eq!(shop.files()?, ["in.png", NET, "out.png"]);
    Ok(())
}

/// One network from every kind of file.
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
        assert_eq!(shop.picture("plain.png")?, shop.picture("nested.png")?);
    }
    Ok(())
}

#[test]
fn folders_and_several_pictures() -> Result<()> {
    let shop = Workshop::new("folders")?;
    fs::create_dir(shop.0.join("album"))?;
    for name in ["album/b.png", "album/a.jpg"] {
        shop.picture("in.png")?.save(shop.0.join(name))?;
    }
    fs::write(shop.0.join("album/notes.txt"), "no picture")?;
    let lines = check_success(&shop.stylize(NET, "album", "out/deep", &[])?)?;
    let order = (lines.find("a.jpg"), lines.find("b.png"));
    assert!(order.0.is_some() && order.0 < order.1, "{lines}");
    assert_eq!(shop.picture("out/deep/a.jpg")?.dimensions(), (23, 18));
    assert_eq!(shop.picture("out/deep/b.png")?.dimensions(), (23, 18));

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
            ["fits none of cyclegan", "conv.weight"],
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
            ["as many --style-weight as --style", "got 1 and 0"],
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
