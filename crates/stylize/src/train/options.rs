//! The command line of `stylize train`.

use std::path::{Path, PathBuf};

use clap::Args;

/// The smallest side of a style: less leaves too few pixels for statistics at the coarsest level.
pub const MIN_STYLE: u32 = 128;

const EXAMPLES: &str = "\
Examples:
  The network that stylize has built in, for brush strokes drawn in code:
    stylize train --output oils.safetensors
  Another style, trained on photographs:
    stylize train --style wave.jpg --content photos --output wave.safetensors
  To use it:
    stylize --weights wave.safetensors --input in.jpg --output out.png";

/// Train a small network to paint pictures in the style of another. A run that was interrupted
/// resumes when the same command is given again.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The picture of the style. Default: brush strokes drawn in code.
    #[arg(long, value_name = "PICTURE")]
    pub style: Option<PathBuf>,
    /// A folder of pictures to train on. Default: shapes drawn in code.
    #[arg(long, value_name = "FOLDER")]
    pub content: Option<PathBuf>,
    /// The file of the network. A plot of the losses and the picture of the style are written
    /// beside it and, until the run is finished, a checkpoint.
    #[arg(long, value_name = "FILE", default_value = "style.safetensors")]
    pub output: PathBuf,
    /// The seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The steps of the training.
    #[arg(long, default_value_t = 1000, value_parser = at_least_one())]
    pub steps: u64,
    /// Stop after this many steps in all; the same command without this option resumes.
    #[arg(long, value_name = "STEPS")]
    pub stop_at: Option<usize>,
    /// The steps between two checkpoints.
    #[arg(long, value_name = "STEPS", default_value_t = 25, value_parser = at_least_one())]
    pub save_every: u64,
    /// Channels of the network at full resolution.
    #[arg(long, default_value_t = 12, value_parser = at_least_one())]
    pub width: u64,
    /// Residual blocks of the network.
    #[arg(long, default_value_t = 3)]
    pub blocks: usize,
    /// The side of the pictures to train on, a multiple of 8.
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = side)]
    pub side: u32,
    /// The pictures in a step.
    #[arg(long, default_value_t = 1, value_parser = at_least_one())]
    pub batch: u64,
    /// The longer side of the style. The larger it is, the larger the strokes of the result.
    #[arg(long, value_name = "PIXELS", default_value_t = 320,
          value_parser = clap::value_parser!(u32).range(MIN_STYLE as i64..))]
    pub style_size: u32,
    /// The weight of the style in the loss, where that of the content is 1.
    #[arg(long, value_name = "WEIGHT", default_value_t = 60.)]
    pub texture_weight: f64,
    /// The learning rate at the start.
    #[arg(long, default_value_t = 4e-3)]
    pub rate: f64,
}

/// The options that decide which network comes out.
#[allow(dead_code)] // `describe` reads them all.
#[derive(Debug, Clone)]
pub struct Settings {
    pub style: Option<PathBuf>,
    pub content: Option<PathBuf>,
    pub seed: u64,
    pub steps: usize,
    pub width: usize,
    pub blocks: usize,
    pub side: u32,
    pub batch: usize,
    pub style_size: u32,
    pub texture_weight: f64,
    pub rate: f64,
}

impl Options {
    pub fn settings(&self) -> Settings {
        Settings {
            style: self.style.clone(),
            content: self.content.clone(),
            seed: self.seed,
            steps: self.steps as usize,
            width: self.width as usize,
            blocks: self.blocks,
            side: self.side,
            batch: self.batch as usize,
            style_size: self.style_size,
            texture_weight: self.texture_weight,
            rate: self.rate,
        }
    }

    /// A file beside the output: `-loss.png` beside `style.safetensors` is `style-loss.png`.
    pub fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.output.file_stem().unwrap_or_default().to_owned();
        name.push(ending);
        Path::new(&self.output).with_file_name(name)
    }
}

impl Settings {
    /// The settings as text, to compare those of two runs.
    pub fn describe(&self) -> String {
        format!("{self:?}")
    }
}

fn at_least_one() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

fn side(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(side) if (64..=4096).contains(&side) && side % 8 == 0 => Ok(side),
        _ => Err("it must be a multiple of 8 from 64 to 4096".into()),
    }
}
