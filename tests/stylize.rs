//! The `stylize` example from the outside: what it writes, and its one-line errors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{ensure, Context, Result};
use candle_core::{Device, Tensor};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/resnet_generator.safetensors"
);

/// A folder of its own for a test, with a small picture and a small network in it.
struct Workshop(PathBuf);

impl Workshop {
    fn new(test: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let picture =
            image::RgbImage::from_fn(23, 18, |x, y| image::Rgb([11 * x as u8, 13 * y as u8, 90]));
        picture.save(folder.join("in.png"))?;
        let weights = candle_core::safetensors::load(GOLDEN, &Device::Cpu)?;
        let strip = |(name, tensor): (String, Tensor)| {
            Some((name.strip_prefix("separable.")?.to_string(), tensor))
        };
        let weights = weights.into_iter().filter_map(strip).collect();
        candle_core::safetensors::save(&weights, folder.join("net.safetensors"))?;
        Ok(Self(folder))
    }

    /// Runs the example in the folder. `cargo test` builds it beforehand, but names no variable
    /// for it; `cargo test --test stylize` does not build it.
    fn run(&self, args: &[&str]) -> Result<Output> {
        let test = std::env::current_exe()?;
        let profile = test.parent().and_then(Path::parent);
        let examples = profile.context("no target folder")?.join("examples");
        let stylize = examples.join(format!("stylize{}", std::env::consts::EXE_SUFFIX));
        let run = Command::new(&stylize)
            .args(args)
            .current_dir(&self.0)
            // candle's messages go on with a backtrace then; the errors must stay single lines.
            .env("RUST_BACKTRACE", "1")
            .output();
        run.with_context(|| format!("cannot run {}; is it built?", stylize.display()))
    }

    fn stylize(&self, weights: &str, input: &str, output: &str, rest: &[&str]) -> Result<Output> {
        let files = ["--weights", weights, "--input", input, "--output", output];
        self.run(&[&files[..], rest].concat())
    }

    fn files(&self) -> Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

fn check_success(output: &Output) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    Ok(())
}

/// Exit code 1 and a single line on stderr that has all of `parts`.
fn check_error(output: &Output, parts: &[&str]) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    // What the loader says of a CUDA library without symbol versions is not the program's.
    let own = |line: &&str| !line.contains("no version information available");
    let error = error.lines().filter(own).collect::<Vec<_>>().join("\n");
    ensure!(
        output.status.code() == Some(1),
        "{:?}: {error}",
        output.status
    );
    ensure!(
        error.starts_with("error: ") && error.lines().count() == 1,
        "{error}"
    );
    for part in parts {
        ensure!(error.contains(part), "no {part:?} in: {error}");
    }
    Ok(())
}

#[test]
fn demo_needs_no_arguments() -> Result<()> {
    let shop = Workshop::new("demo")?;
    let output = shop.run(&[])?;
    check_success(&output)?;
    assert!(String::from_utf8_lossy(&output.stdout).contains("stylize-demo.png"));
    let sheet = image::open(shop.0.join("stylize-demo.png"))?;
    assert_eq!((sheet.width(), sheet.height()), (3 * 256 + 2 * 8, 256));
    Ok(())
}

#[test]
fn output_has_the_size_of_the_input() -> Result<()> {
    let shop = Workshop::new("size")?;
    let output = shop.stylize("net.safetensors", "in.png", "out.png", &[])?;
    check_success(&output)?;
    let line = String::from_utf8_lossy(&output.stdout);
    assert!(
        line.contains("23x18") && line.contains(" s (cpu, f32)"),
        "{line}"
    );
    let picture = image::open(shop.0.join("out.png"))?;
    assert_eq!((picture.width(), picture.height()), (23, 18));
    assert_eq!(shop.files()?, ["in.png", "net.safetensors", "out.png"]);
    Ok(())
}

#[test]
fn errors_are_one_line_and_leave_nothing_behind() -> Result<()> {
    let shop = Workshop::new("errors")?;
    let weights = fs::read(shop.0.join("net.safetensors"))?;
    fs::write(
        shop.0.join("cut.safetensors"),
        &weights[..weights.len() / 2],
    )?;
    fs::write(
        shop.0.join("legacy.pth"),
        [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20],
    )?;
    fs::write(shop.0.join("text.png"), "not a picture")?;
    fs::create_dir(shop.0.join("folder.png"))?;
    let other = Tensor::zeros((8, 3, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
    let other = [("conv1.weight".to_string(), other)].into_iter().collect();
    candle_core::safetensors::save(&other, shop.0.join("other.safetensors"))?;
    let before = shop.files()?;

    for (weights, input, output, parts) in [
        (
            "no.safetensors",
            "in.png",
            "out.png",
            ["no.safetensors", "cannot read"],
        ),
        (
            "cut.safetensors",
            "in.png",
            "out.png",
            ["cut.safetensors", "not a whole safetensors"],
        ),
        (
            "legacy.pth",
            "in.png",
            "out.png",
            ["legacy.pth", "not a whole safetensors"],
        ),
        (
            "other.safetensors",
            "in.png",
            "out.png",
            ["other.safetensors", "model.1.weight"],
        ),
        (
            "net.safetensors",
            "no.png",
            "out.png",
            ["no.png", "cannot read"],
        ),
        (
            "net.safetensors",
            "text.png",
            "out.png",
            ["text.png", "not a picture"],
        ),
        (
            "net.safetensors",
            "in.png",
            "no/out.png",
            ["no/out.png", "cannot write"],
        ),
        (
            "net.safetensors",
            "in.png",
            "folder.png",
            ["folder.png", "cannot write"],
        ),
        ("net.safetensors", "in.png", "out.gif", ["out.gif", ".png"]),
    ] {
        check_error(&shop.stylize(weights, input, output, &[])?, &parts)?;
    }
    let stylize = |rest: &[&str]| shop.stylize("net.safetensors", "in.png", "out.png", rest);
    check_error(
        &stylize(&["--dtype", "i8"])?,
        &["--dtype", "f32, f16, bf16"],
    )?;
    check_error(&stylize(&["--dtype", "bf16"])?, &["BF16"])?;
    if !cfg!(feature = "cuda") {
        check_error(&stylize(&["--device", "cuda"])?, &["CUDA"])?;
    }
    if !cfg!(feature = "metal") {
        check_error(&stylize(&["--device", "metal"])?, &["Metal"])?;
    }
    let half = shop.run(&["--weights", "net.safetensors"])?;
    check_error(&half, &["missing --input and --output"])?;

    assert_eq!(shop.files()?, before);
    Ok(())
}
