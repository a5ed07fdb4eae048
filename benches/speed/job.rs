//! A row of the table: its tensors, the calls on them, and their times.

use std::rc::Rc;

use anyhow::Context;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::rows::{Op, ROWS, Row, in_format, is_for};
use super::timing::{Call, Contender, Measured, medians, random};
use super::{Args, Cache, Direction};

/// The most sets of a composed op: with dozens of launches per call, a graph of thousands of calls takes
/// longer to make than everything else.
const COMPOSED_SETS: usize = 64;

pub struct Job<'a> {
    row: &'a Row,
    shape: &'a [usize],
    dtype: DType,
    direction: Direction,
    cache: Cache,
}

pub fn jobs(args: &Args) -> Vec<Job<'_>> {
    let wanted = |row: &&Row| {
        if args.ops.is_empty() {
            row.op != "planes"
        } else {
            args.ops.iter().any(|op| op == row.op)
        }
    };
    let mut jobs = vec![];
    for &cache in &args.caches {
        if cache == Cache::Cold && !args.device.is_cuda() {
            continue;
        }
        for row in ROWS.iter().filter(wanted) {
            let shapes: Vec<&[usize]> = if args.shapes.is_empty() {
                row.shapes.to_vec()
            } else {
                args.shapes.iter().map(|dims| &dims.0[..]).collect()
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

/// A row that another program asks for.
pub struct Request {
    row: &'static Row,
    shape: Vec<usize>,
    dtype: DType,
    direction: Direction,
}

impl Request {
    pub fn parse(request: &Value) -> anyhow::Result<Self> {
        let text = |key: &str| {
            let text = request[key].as_str();
            text.with_context(|| format!("{key}: expected text, got {}", request[key]))
        };
        let op = text("op")?;
        let row = ROWS.iter().find(|row| row.op == op);
        let direction = Direction::from_str(text("direction")?, false);
        let shape = request["shape"]
            .as_array()
            .context("shape: expected an array")?;
        let sizes = shape.iter().map(|size| Some(size.as_u64()? as usize));
        Ok(Self {
            row: row.with_context(|| format!("there is no op {op}"))?,
            shape: sizes
                .collect::<Option<_>>()
                .context("shape: expected sizes")?,
            dtype: text("dtype")?.parse()?,
            direction: direction.map_err(anyhow::Error::msg)?,
        })
    }

    /// The contenders by name; none where the op has no such pass.
    pub fn calls(&self, device: &Device) -> Result<Vec<(&'static str, Call)>> {
        let job = Job {
            row: self.row,
            shape: &self.shape,
            dtype: self.dtype,
            direction: self.direction,
            cache: Cache::Warm,
        };
        let Some(((ours, copy, composed), _)) = job.set(device)? else {
            return Ok(vec![]);
        };
        let mut calls = vec![("ours", ours), ("copy", copy)];
        calls.extend(composed.map(|call| ("composed", call)));
        Ok(calls)
    }
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
            Direction::Both => {
                let Some(norm) = op.backward else {
                    return Ok(None);
                };
                let dy = in_format(self.row.op, random(self.shape, self.dtype, device)?)?;
                let ours = Call::new(move || Ok((norm.forward(&x)?, norm.backward(&x, &dy)?)));
                (ours, None, forward + backward)
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

    /// The number of sets that the calls rotate through.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    fn sets(&self, args: &Args, bytes: usize) -> Result<usize> {
        match (self.cache, args.sets, &args.device) {
            (Cache::Cold, Some(sets), _) => Ok(sets.max(1)),
            #[cfg(feature = "cuda")]
            (Cache::Cold, None, Device::Cuda(gpu)) => super::graph::sets(gpu, bytes),
            _ => Ok(1),
        }
    }

    /// The row for the JSON file, whose line of the table is printed.
    pub fn row(&self, args: &Args) -> Option<Value> {
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

/// Candle's backward pass from y, with a gradient of ones. To start it from dy would take
/// `(y * dy).sum_all()`, whose passes are no part of the norm.
fn autograd(y: Tensor) -> Result<(Tensor, GradStore)> {
    y.backward().map(|grads| (y, grads))
}

/// The name of a value on the command line and in the tables.
fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |v| v.get_name().to_string())
}
