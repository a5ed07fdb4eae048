//! The picture that is built in, restyled.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use image::ImageFormat;

use crate::batch::say;
use crate::builtin;
use crate::options::Options;
use crate::picture::Picture;
use crate::studio::Studio;

/// The output, in the current directory.
const OUTPUT: &str = "stylize-demo.png";

/// Restyles the picture that is built in.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let mut studio = Studio::open(options)?;
    studio.take_styles(options)?;
    let mut picture = Picture {
        rgb: builtin::picture(),
        alpha: None,
    };
    if let Some(side) = options.max_size {
        picture = picture.at_most(side);
    }
    picture.rgb = studio.restyle(options, &picture.rgb, options.alpha(), &|_, _| ())?;
    picture.write(Path::new(OUTPUT), ImageFormat::Png)?;
    let folder = std::env::current_dir().context("cannot name the current directory")?;
    say(format_args!(
        "{}: a painting, in {:.2} s",
        folder.join(OUTPUT).display(),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}
