//! The modules of the program once more, as a target whose unit tests `cargo test` runs.
#![allow(dead_code)]

mod arch;
mod batch;
mod builtin;
mod colour;
mod gallery;
mod grain;
mod labels;
mod lettering;
mod options;
mod picture;
mod pixels;
mod scenes;
mod tiles;
mod whole;

fn error_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
