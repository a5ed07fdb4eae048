//! Times the ops of this crate beside a copy and what candle offers without it.
//!
//! ```text
//! cargo bench --bench speed -- --device cpu --ops instance_norm --dtypes f32
//! cargo bench --bench speed --features cuda -- --device cuda --json speed.json
//! cargo bench --bench speed --features cuda -- --device cuda host
//! ```
//!
//! - ours: the op's forward pass, its backward pass, one after the other, or both as candle's autograd
//!   runs them, which adds each gradient to zeros.
//! - copy: `Tensor::copy` of x, which reads and writes as much as a perfect forward pass.
//! - composed: the same of other ops; `rows.rs` says which. Candle has no backward pass alone.
//!
//! GB/s counts the bytes that a perfect kernel moves: each tensor of the size of x read or written
//! once. `/copy` is the share of a copy's speed.
//!
//! On a GPU, calls are timed by replays of CUDA graphs: `cold` rotates through more tensors than its
//! L2 holds, `warm` repeats a call on the same ones. `host` times the cost of a call on the host,
//! `first` the first call of each module of kernels; `profile` makes some calls for a profiler.

#[cfg(feature = "cuda")]
mod graph;
mod job;
mod modes;
mod rows;
mod serve;
mod timing;

use std::fs::{File, rename};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use candle_core::{DType, Device};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::Value;
use timing::device;

/// Median times of the ops, of a copy and of the same composed of other ops.
#[derive(Parser)]
struct Args {
    /// cpu, cuda or metal.
    #[arg(long, value_parser = device, default_value = "cpu", global = true)]
    device: Device,
    /// Write the rows here.
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// f32, f16, bf16 or f64.
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "f32,f16,bf16")]
    dtypes: Vec<DType>,
    /// The ops to time (default: all but `planes`).
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    ops: Vec<String>,
    /// The shapes to use instead of the table's, such as 1x64x256x256.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_parser = dims)]
    shapes: Vec<Dims>,
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "forward,backward,autograd")]
    directions: Vec<Direction>,
    /// The state of a GPU's cache before a call; a CPU's is always warm.
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "cold,warm")]
    caches: Vec<Cache>,
    /// The sets of tensors that cold calls rotate through (default: four times what the L2 holds).
    #[arg(long)]
    sets: Option<usize>,
    /// The time for a row, shared equally by ours, copy and composed.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Start no row after this many seconds.
    #[arg(long, default_value_t = f64::INFINITY)]
    limit: f64,
    /// Ignored: `cargo bench` passes it to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    mode: Option<Mode>,
}

/// The time between two saves of the measurements, about.
const SAVE: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
enum Mode {
    /// The first and the second call of each module of kernels, in milliseconds.
    First,
    /// The cost of a call on the host, in microseconds.
    Host,
    /// Some calls, once each, for a profiler.
    Profile,
    /// Twelve calls on the CPU, or one of them, for `.ci/instructions`.
    Count { number: Option<usize> },
    /// Turns on request, see benches/peers.
    Serve,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Direction {
    Forward,
    Backward,
    /// Forward, then backward from a given gradient.
    #[value(name = "forward+backward")]
    Both,
    /// Both passes as candle's autograd runs them.
    Autograd,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Cache {
    Cold,
    Warm,
}

#[derive(Clone)]
struct Dims(Vec<usize>);

fn dims(text: &str) -> Result<Dims, ParseIntError> {
    text.split('x')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map(Dims)
}

/// Writes a file as a whole or not at all: it may be read at any time.
fn write(path: &Path, rows: &[Value]) -> anyhow::Result<()> {
    let unfinished = path.with_extension("tmp");
    serde_json::to_writer(File::create(&unfinished)?, rows)?;
    rename(&unfinished, path).with_context(|| path.display().to_string())
}

/// Public for the benchmark with another allocator.
pub fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !matches!(args.mode, Some(Mode::Serve | Mode::Count { .. })) {
        timing::print_header(&args.device)?;
    }
    let rows = match args.mode {
        Some(Mode::First) => modes::first(&args.device)?,
        Some(Mode::Host) => modes::host(&args.device)?,
        Some(Mode::Profile) => return modes::profile(&args.device),
        Some(Mode::Count { number }) => return modes::count(number),
        Some(Mode::Serve) => return serve::serve(&args.device),
        None => table(&args)?,
    };
    args.json.map_or(Ok(()), |path| write(&path, &rows))
}

fn table(args: &Args) -> anyhow::Result<Vec<Value>> {
    println!(
        "op                    shape              dtype direction cache   ours ms     GB/s  /copy composed/ours"
    );
    timing::raise_clocks(&args.device)?;
    let (mut rows, start, mut saved) = (vec![], Instant::now(), Instant::now());
    let jobs = job::jobs(args);
    for (done, job) in jobs.iter().enumerate() {
        if start.elapsed().as_secs_f64() > args.limit {
            println!("left out for time: {} rows", jobs.len() - done);
            break;
        }
        rows.extend(job.row(args));
        if let Some(path) = args.json.as_ref().filter(|_| saved.elapsed() > SAVE) {
            write(path, &rows)?;
            saved = Instant::now();
        }
    }
    Ok(rows)
}
