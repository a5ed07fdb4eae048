//! Gives pictures another style, with a published network or with the one that is built in; without
//! arguments, to a picture that is drawn in code.
//!
//! ```text
//! stylize
//! stylize --weights latest_net_G.pth --input horse.png --output zebra.png
//! stylize train --style wave.jpg --output wave.safetensors
//! stylize --help
//! ```

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
mod train;
mod whole;

use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::process::ExitCode;

use anyhow::{anyhow, Result};
use clap::Parser;

use options::{Command, Job, Options};

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
    if let Some(Command::Train(options)) = &options.command {
        return train::run(options);
    }
    options.check()?;
    match options.job()? {
        Job::Demo => batch::demo(options),
        Job::Gallery(output) => gallery::run(options, output),
        Job::Pictures(output) => batch::run(options, output),
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
