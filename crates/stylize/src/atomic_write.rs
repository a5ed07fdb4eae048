//! Files that are written as a whole or not at all.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Lets `write` fill a temporary file beside `path`, which is then renamed to it.
pub fn write<E>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<()>
where
    Result<(), E>: Context<(), E>,
    E: From<std::io::Error>,
{
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write(&temporary).and_then(|()| Ok(fs::rename(&temporary, path)?));
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}
