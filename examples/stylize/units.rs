//! The modules of the program once more, as a target whose unit tests `cargo test` runs.
#![allow(dead_code)]

mod arch;
mod colour;
mod pixels;
mod tiles;
