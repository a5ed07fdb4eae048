//! The program, run in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};

/// A folder for a test, with a small picture and a small network in it.
pub struct Workshop(pub PathBuf);

impl Workshop {
    pub fn new(test: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let picture = RgbImage::from_fn(23, 18, |x, y| Rgb([11 * x as u8, 13 * y as u8, 90]));
        picture.save(folder.join("in.png"))?;
        let golden = testing::golden("resnet_generator.safetensors");
        let mut weights = candle_core::safetensors::load(golden, &Device::Cpu)?;
        weights.remove("separable.output");
        let strip = |(name, tensor): (String, Tensor)| {
            Some((name.strip_prefix("separable.")?.to_string(), tensor))
        };
        let weights = weights.into_iter().filter_map(strip).collect();
        candle_core::safetensors::save(&weights, folder.join("net.safetensors"))?;
        Ok(Self(folder))
    }

    /// The program, to be run in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stylize"));
        // candle's messages go on with a backtrace then; the errors must stay single lines.
        command
            .args(args)
            .current_dir(&self.0)
            .env("RUST_BACKTRACE", "1");
        command
    }

    pub fn run(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).output()?)
    }

    pub fn stylize(
        &self,
        weights: &str,
        input: &str,
        output: &str,
        rest: &[&str],
    ) -> Result<Output> {
        let files = ["--weights", weights, "--input", input, "--output", output];
        self.run(&[&files[..], rest].concat())
    }

    pub fn picture(&self, name: impl AsRef<Path>) -> Result<RgbImage> {
        Ok(image::open(self.0.join(name))?.into_rgb8())
    }

    /// The names in the folder, in order.
    pub fn files(&self) -> Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

/// Exit code 0; what was printed.
pub fn check_success(output: &Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Exit code 1 and a single line on stderr that has all of `parts`.
pub fn check_error(output: &Output, parts: &[&str]) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    // Without the loader's complaint about a CUDA library that has no symbol versions.
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
