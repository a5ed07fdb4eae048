//! Gives pictures another style with a published network, or, without arguments, shows on two
//! pictures drawn in code how instance norm moves a style from one to the other.
//!
//! ```text
//! cargo run --release --example stylize
//! cargo run --release --example stylize -- --weights latest_net_G.pth \
//!     --input horse.png --output zebra.png
//! cargo run --release --example stylize -- --help
//! ```

mod arch;
mod batch;
mod colour;
mod demo;
mod options;
mod picture;
mod pixels;
mod scenes;
mod tiles;

use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, Result};
use clap::Parser;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(help) if !help.use_stderr() => help.exit(),
        Err(error) => return fail(usage_line(&error)),
    };
    // A panic is a fault of this program or of a crate that reads files; it is told in a line too.
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(|| run(&options)));
    match result.unwrap_or_else(|panic| Err(panicked(&*panic))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error_line(&error)),
    }
}

fn run(options: &Options) -> Result<()> {
    match options.job()? {
        Some((weights, output)) => batch::run(options, weights, output),
        None => demo::run(Path::new("stylize-demo.png"), &options.device.open()?),
    }
}

fn fail(line: String) -> ExitCode {
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// The error and its causes. With `RUST_BACKTRACE` set, candle's messages go on with a backtrace,
/// which ends up last and is of no use to whoever gave a wrong file. What files say of themselves
/// may hold control characters, which are for no terminal.
fn error_line(error: &anyhow::Error) -> String {
    let text = format!("error: {error:#}");
    let line = text.lines().next().unwrap_or_default();
    line.replace(char::is_control, "?")
}

/// clap's message without the usage that follows it, on one line.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or(&text);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("a fault of this program: {}", text.unwrap_or("unknown"))
}
