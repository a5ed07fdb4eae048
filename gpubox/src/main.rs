//! Summarises the results of the phases of a run on a GPU machine.

mod archive;
mod chosen;
mod compare;
mod files;
mod format;
mod ncu;
mod plot;
mod report;
mod results;
mod sections;
mod summary;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes OUT/results.json and OUT/summary.txt from whatever WORK holds
    Summary { work: PathBuf, out: PathBuf },
    /// Writes the report and the plot of OUT/results.json into DEST
    Report { out: PathBuf, dest: PathBuf },
    /// Makes one file of a folder
    Pack { folder: PathBuf, file: PathBuf },
    /// Puts what is in the file into a folder
    Unpack { file: PathBuf, folder: PathBuf },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Summary { work, out } => {
            let results = files::read(&work);
            let json = serde_json::to_string_pretty(&results)?;
            write(&out.join("results.json"), &json)?;
            write(&out.join("summary.txt"), &summary::text(&results))
        }
        Command::Pack { folder, file } => {
            archive::pack(&folder, &file).with_context(|| format!("packing {}", folder.display()))
        }
        Command::Unpack { file, folder } => {
            archive::unpack(&file, &folder).with_context(|| format!("unpacking {}", file.display()))
        }
        Command::Report { out, dest } => {
            let path = out.join("results.json");
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            let results = serde_json::from_str(&text)
                .with_context(|| format!("reading {}", path.display()))?;
            let name = report::name(&results)?;
            let plot = plot::svg(&results)?;
            if let Some(plot) = &plot {
                write(&dest.join(format!("{name}.svg")), plot)?;
            }
            let report = report::text(&results, plot.is_some().then_some(&*name));
            let target = dest.join(format!("{name}.md"));
            write(&target, &report)?;
            println!("{}", target.display());
            Ok(())
        }
    }
}

/// Through a temporary name: the run can be cut off at any time, and the file before is better than
/// half of the new one.
fn write(path: &Path, contents: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("tmp");
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&temporary, contents))
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("writing {}", path.display()))
}
