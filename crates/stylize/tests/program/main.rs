//! The program from the outside. A part of it: `cargo test -p stylize --test program kinds::`.

mod hub;
mod kinds;
mod malformed;
mod pictures;
mod train;
mod usage;
mod workshop;
