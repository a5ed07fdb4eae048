//! Translates a picture with a published style network, or, without arguments, shows on two
//! pictures drawn in code how instance norm moves a style from one to the other.
//!
//! ```text
//! cargo run --release --example stylize
//! cargo run --release --example stylize -- --arch cyclegan --weights latest_net_G.safetensors \
//!     --input horse.png --output zebra.png --device cpu --dtype f32
//! ```

mod demo;
mod image_io;
mod scenes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use candle_core::{DType, Device};
use candle_instance_norm::models::ResnetGenerator;
use candle_nn::{Module, VarBuilder};
use clap::{Parser, ValueEnum};

/// Translate a picture with a style network. Without arguments: draw a small demonstration.
#[derive(Parser)]
struct Args {
    /// The network the weights belong to.
    #[arg(long, value_enum, default_value = "cyclegan")]
    arch: Arch,
    /// Weights under their original names, as .safetensors.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The picture to translate: PNG, JPEG or WebP.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Where to put the result; the extension chooses the format.
    #[arg(long)]
    output: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceKind,
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arch {
    /// ResNet generator of CycleGAN and pix2pix, full or compressed.
    Cyclegan,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceKind {
    Cpu,
    Cuda,
    Metal,
}

impl DeviceKind {
    fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => Device::new_cuda(0).context("cannot use a CUDA device"),
            Self::Metal => Device::new_metal(0).context("cannot use a Metal device"),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
    F16,
    Bf16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(help) if !help.use_stderr() => help.exit(),
        Err(error) => return fail(usage_line(&error)),
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error_line(&error)),
    }
}

fn fail(line: String) -> ExitCode {
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// The error and its causes. With `RUST_BACKTRACE` set, candle's messages go on with a backtrace,
/// which ends up last and is of no use to whoever gave a wrong file.
fn error_line(error: &anyhow::Error) -> String {
    let text = format!("error: {error:#}");
    text.lines().next().unwrap_or_default().to_string()
}

/// clap's message without the usage that follows it, on one line.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or(&text);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run(args: Args) -> Result<()> {
    let device = args.device.open()?;
    match (&args.weights, &args.input, &args.output) {
        (Some(weights), Some(input), Some(output)) => {
            stylize(&args, &device, weights, input, output)
        }
        (None, None, None) => demo::run(Path::new("stylize-demo.png"), &device),
        (weights, input, output) => {
            let given = [
                ("--weights", weights),
                ("--input", input),
                ("--output", output),
            ];
            let missing = given.iter().filter(|(_, path)| path.is_none());
            let missing: Vec<_> = missing.map(|&(name, _)| name).collect();
            bail!("missing {}", missing.join(" and "))
        }
    }
}

fn stylize(
    args: &Args,
    device: &Device,
    weights: &Path,
    input: &Path,
    output: &Path,
) -> Result<()> {
    let format = image_io::format_of(output)?;
    let image = image_io::read(input)?;
    let network = load(args.arch, weights, args.dtype.into(), device)?;

    let start = Instant::now();
    // The network halves the sides twice and doubles them again.
    let x = image_io::to_tensor(&image, 4)?;
    let x = x.to_device(device)?.to_dtype(args.dtype.into())?;
    let y = network.forward(&x).context("cannot run the network")?;
    let y = y.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let seconds = start.elapsed().as_secs_f64();

    let (width, height) = image.dimensions();
    let image = image_io::from_tensor(&y, width, height)?;
    image_io::write(&image, output, format)?;
    println!(
        "{}: {width}x{height} in {seconds:.2} s ({}, {})",
        output.display(),
        device_name(device),
        DType::from(args.dtype).as_str(),
    );
    Ok(())
}

fn load(arch: Arch, path: &Path, dtype: DType, device: &Device) -> Result<ResnetGenerator> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    ensure!(!bytes.is_empty(), "cannot read {shown}: the file is empty");
    let vb = VarBuilder::from_buffered_safetensors(bytes, dtype, device)
        .with_context(|| format!("{shown} is not a whole safetensors file"))?;
    match arch {
        Arch::Cyclegan => ResnetGenerator::new(vb)
            .with_context(|| format!("{shown} does not hold a CycleGAN ResNet generator")),
    }
}
