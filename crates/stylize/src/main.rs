//! Gives pictures another style, with a published network or with the one that is built in. Without
//! arguments, it restyles a picture that is drawn in code.
//!
//! ```text
//! stylize
//! stylize --weights latest_net_G.pth --input horse.png --output zebra.png
//! stylize train --style wave.jpg --output wave.safetensors
//! stylize --help
//! ```

mod arch;
mod atomic_write;
mod batch;
mod builtin;
mod colour;
mod demo;
mod gallery;
mod grain;
mod labels;
mod lettering;
mod options;
mod picture;
mod pixels;
mod scenes;
mod studio;
mod tiles;
mod train;

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser;

use options::{Command, Job, Options};

/// Keeps the memory of layers for the next ones: the system's allocator gives large blocks back at once,
/// and to touch them again costs as much time as a norm.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(help) if !help.use_stderr() => help.exit(),
        Err(error) => return fail(usage_line(&error)),
    };
    // A panic is a bug of this program or of a crate that reads files; it is reported in a line, too.
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(|| run(&options)));
    match result.unwrap_or_else(|panic| Err(panicked(&*panic))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error_line(&error)),
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(Command::Train(options)) = &options.command {
        return train::run(options);
    }
    options.check()?;
    match options.job()? {
        Job::Demo => demo::run(options),
        Job::Gallery(output) => gallery::run(options, output),
        Job::Pictures(output) => batch::run(options, output),
    }
}

fn fail(line: String) -> ExitCode {
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// The error and its causes on one line. Left out is the backtrace that candle appends under
/// `RUST_BACKTRACE`, which does not help the user of a wrong file. Control characters, which may come
/// from a file, become question marks.
fn error_line(error: &anyhow::Error) -> String {
    let text = format!("error: {error:#}");
    let line = text.lines().next().unwrap_or_default();
    line.replace(char::is_control, "?")
}

/// The message of clap on one line, without the usage after it.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or(&text);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error for a panic.
fn panicked(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("bug in this program: {}", text.unwrap_or("unknown"))
}
