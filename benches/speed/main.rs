//! Times the ops of this crate beside a copy and what candle offers without it.
//!
//! ```text
//! cargo bench --bench speed -- --device cpu --ops instance_norm --dtypes f32
//! cargo bench --bench speed --features cuda -- --device cuda --json speed.json
//! cargo bench --bench speed --features cuda -- --device cuda host
//! ```
//!
//! - ours: the op's forward pass, its backward pass, or both as candle's autograd runs them.
//! - copy: `Tensor::copy` of x, which reads and writes as much as a perfect forward pass.
//! - composed: the same of other ops; `rows.rs` says which. Candle has no backward pass alone.
//!
//! GB/s counts the bytes that a perfect kernel moves: each tensor of the size of x read or written
//! once. `/copy` is the share of a copy's speed.
//!
//! On a GPU, calls are timed by replays of CUDA graphs: `cold` rotates through more tensors than its
//! L2 holds, `warm` repeats a call on the same. What a call costs the host, `host` says; `first`, what
//! the first call of each module does; `profile` makes some calls for a profiler to look at.

#[cfg(feature = "cuda")]
mod graph;
mod modes;
mod rows;
mod timing;

use std::fs::{rename, File};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use clap::{Parser, Subcommand, ValueEnum};
use rows::{in_format, is_for, Op, Row, ROWS};
use serde_json::{json, Value};
use timing::{device, medians, Call, Contender, Measured};

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
    /// Only these (default: all but `planes`).
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    ops: Vec<String>,
    /// Instead of the shapes of the table; 1x64x256x256.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_parser = dims)]
    shapes: Vec<Dims>,
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "forward,backward,autograd")]
    directions: Vec<Direction>,
    /// Whether tensors are in the cache before a call; a GPU's, a CPU has them warm.
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
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    mode: Option<Mode>,
}

/// Composed ops take dozens of launches a call, and a graph of thousands of calls of them takes longer
/// to make than all else.
const COMPOSED_SETS: usize = 64;
/// What is measured is saved about this often.
const SAVE: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
enum Mode {
    /// The first and the second call of each module of kernels, in milliseconds.
    First,
    /// What a call costs the host, in microseconds.
    Host,
    /// Some calls, once each, for a profiler.
    Profile,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Direction {
    Forward,
    Backward,
    /// Both passes as candle's autograd runs them.
    Autograd,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Cache {
    Cold,
    Warm,
}

/// The name that the command line and the tables have for it.
fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |v| v.get_name().to_string())
}

#[derive(Clone)]
struct Dims(Vec<usize>);

fn dims(text: &str) -> std::result::Result<Dims, ParseIntError> {
    text.split('x')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .map(Dims)
}

/// A row of the table to be measured.
struct Job<'a> {
    row: &'a Row,
    shape: &'a [usize],
    dtype: DType,
    direction: Direction,
    cache: Cache,
}

fn jobs(args: &Args) -> Vec<Job<'_>> {
    let wanted = |row: &&Row| match args.ops.is_empty() {
        true => row.op != "planes",
        false => args.ops.iter().any(|op| op == row.op),
    };
    let mut jobs = vec![];
    for &cache in &args.caches {
        if cache == Cache::Cold && !args.device.is_cuda() {
            continue;
        }
        for row in ROWS.iter().filter(wanted) {
            let shapes: Vec<&[usize]> = match args.shapes.is_empty() {
                true => row.shapes.to_vec(),
                false => args.shapes.iter().map(|dims| &dims.0[..]).collect(),
            };
            for shape in shapes {
                for &dtype in &args.dtypes {
                    for &direction in &args.directions {
                        if is_for(shape, &args.device, dtype) {
                            jobs.push(Job {
                                row,
                                shape,
                                dtype,
                                direction,
                                cache,
                            });
                        }
                    }
                }
            }
        }
    }
    jobs
}

/// Ours, copy and composed on one set of tensors; composed is missing where candle has no such pass.
type Set = (Call, Call, Option<Call>);

impl Job<'_> {
    /// `None` where the op has no such pass.
    fn set(&self, device: &Device) -> Result<Option<(Set, usize)>> {
        let x = in_format(self.row.op, random(self.shape, self.dtype, device)?)?;
        let op: Op = (self.row.build)(&x)?;
        let [forward, backward] = op.moved;
        let source = x.clone();
        let copy = Call::new(move || source.copy());
        let Op { ours, composed, .. } = op;
        let (ours, composed, moved) = match self.direction {
            Direction::Forward => {
                let input = x.clone();
                let composed = Call::new(move || composed(&input));
                (Call::new(move || ours(&x)), Some(composed), forward)
            }
            Direction::Backward => {
                let Some(norm) = op.backward else {
                    return Ok(None);
                };
                let dy = in_format(self.row.op, random(self.shape, self.dtype, device)?)?;
                let ours = Call::new(move || norm.backward(&x, &dy));
                (ours, None, backward)
            }
            Direction::Autograd if backward == 0 => return Ok(None),
            Direction::Autograd => {
                let x = Rc::new(Var::from_tensor(&x)?);
                let input = x.clone();
                let composed = Call::new(move || autograd(composed(&input)?));
                let ours = Call::new(move || autograd(ours(&x)?));
                (ours, Some(composed), forward + backward)
            }
        };
        Ok(Some(((ours, copy, composed), moved)))
    }

    /// The row's fields; `None` where the op has no such pass.
    fn measure(&self, args: &Args) -> Result<Option<Value>> {
        let device = &args.device;
        let bytes = self.shape.iter().product::<usize>() * self.dtype.size_in_bytes();
        let Some((first, moved)) = self.set(device)? else {
            return Ok(None);
        };
        let mut sets = vec![first];
        for _ in 1..self.sets(args, bytes * moved)? {
            sets.extend(self.set(device)?.map(|(set, _)| set));
        }
        let (mut ours, mut copy, mut composed) = (vec![], vec![], vec![]);
        for set in sets {
            ours.push(set.0);
            copy.push(set.1);
            composed.extend(set.2.filter(|_| ours.len() <= COMPOSED_SETS));
        }
        let mut contenders = vec![Contender::new(ours), Contender::new(copy)];
        if !composed.is_empty() {
            contenders.push(Contender::new(composed));
        }
        let mut times = medians(&contenders, device, args.seconds).into_iter();
        let mut next = || times.next().transpose();
        let (Some(ours), Some(copy)) = (next()?, next()?) else {
            return Ok(None);
        };
        let composed = next().unwrap_or_else(|error| {
            eprintln!("{}: composed: {error}", self.row.op);
            None
        });
        let rounded = |ms: f64| (ms * 1e6).round() / 1e6;
        Ok(Some(json!({
            "method": ours.method, "tensors": moved,
            "ours_ms": rounded(ours.ms), "copy_ms": rounded(copy.ms),
            "composed_ms": composed.map(|c: Measured| rounded(c.ms)),
            "composed_method": composed.map(|c| c.method),
            "gb_per_s": ((moved * bytes) as f64 / ours.ms / 1e3).round() / 1e3,
        })))
    }

    /// How many sets the calls rotate through.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    fn sets(&self, args: &Args, bytes: usize) -> Result<usize> {
        match (self.cache, args.sets, &args.device) {
            (Cache::Cold, Some(sets), _) => Ok(sets.max(1)),
            #[cfg(feature = "cuda")]
            (Cache::Cold, None, Device::Cuda(gpu)) => graph::sets(gpu, bytes),
            _ => Ok(1),
        }
    }

    /// The row for the JSON file, whose line of the table is printed.
    fn row(&self, args: &Args) -> Option<Value> {
        let dtype = self.dtype.as_str();
        let (direction, cache) = (name(self.direction), name(self.cache));
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let shape = shape.join("x");
        let what = format!(
            "{:<21} {shape:<18} {dtype:<5} {direction:<9} {cache:<5}",
            self.row.op
        );
        let mut row = json!({
            "op": self.row.op, "shape": self.shape, "dtype": dtype, "direction": direction,
            "cache": cache,
        });
        match self.measure(args) {
            Ok(None) => return None,
            Err(error) => {
                let error = error.to_string();
                let line = error.lines().next().unwrap_or_default();
                println!("{what} {line}");
                row["error"] = line.into();
            }
            Ok(Some(fields)) => {
                let number = |key: &str| fields[key].as_f64();
                let [ours, copy] = ["ours_ms", "copy_ms"].map(|k| number(k).unwrap_or(f64::NAN));
                let tensors = number("tensors").unwrap_or(2.);
                let ratio =
                    |ms: Option<f64>| ms.map_or("-".into(), |ms| format!("{:.2}", ms / ours));
                println!(
                    "{what} {ours:>9.4} {:>8.1} {:>6.2} {:>13}",
                    number("gb_per_s").unwrap_or(f64::NAN),
                    copy * tensors / 2. / ours,
                    ratio(number("composed_ms")),
                );
                if let (Value::Object(row), Value::Object(fields)) = (&mut row, fields) {
                    row.extend(fields);
                }
            }
        }
        Some(row)
    }
}

/// Random numbers, from the host where the device has no generator of its own.
fn random(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let draw = |on: &Device| Tensor::randn(0f32, 1., shape, on)?.to_dtype(dtype);
    draw(device).or_else(|_| draw(&Device::Cpu)?.to_device(device))
}

/// Candle's backward pass from y, with a gradient of ones. To start it from dy would take
/// `(y * dy).sum_all()`, whose passes are no part of the norm.
fn autograd(y: Tensor) -> Result<(Tensor, GradStore)> {
    y.backward().map(|grads| (y, grads))
}

/// As a whole or not at all: whoever reads it may come at any time.
fn write(path: &Path, rows: &[Value]) -> anyhow::Result<()> {
    let unfinished = path.with_extension("tmp");
    serde_json::to_writer(File::create(&unfinished)?, rows)?;
    rename(&unfinished, path).with_context(|| path.display().to_string())
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    timing::print_header(&args.device)?;
    let rows = match args.mode {
        Some(Mode::First) => modes::first(&args.device)?,
        Some(Mode::Host) => modes::host(&args.device)?,
        Some(Mode::Profile) => return modes::profile(&args.device),
        None => table(&args)?,
    };
    args.json.map_or(Ok(()), |path| write(&path, &rows))
}

fn table(args: &Args) -> anyhow::Result<Vec<Value>> {
    println!(
        "op                    shape              dtype direction cache   ours ms     GB/s  /copy composed/ours"
    );
    let (mut rows, start, mut saved) = (vec![], Instant::now(), Instant::now());
    let jobs = jobs(args);
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
