//! The modules of the program once more, as a target whose unit tests `cargo test` runs.
#![allow(dead_code)]

#[path = "../stylize/lettering.rs"]
mod lettering;
mod plot;
