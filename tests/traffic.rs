//! The bytes that each op moves in each tier, counted by the emulated driver, are those that
//! src/plan/gpu.rs says. On a GPU nobody counts them, and the test says so.
#![cfg(feature = "cuda")]

#[macro_use]
mod common;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use candle_instance_norm::{adain, instance_stats, Activation, AdaInConfig, Normalization};
use common::reference::Random;
use std::process::Command;

const EPS: f64 = 1e-5;
const CASE: &str = "CANDLE_INSTANCE_NORM_TRAFFIC_CASE";
/// Parts the reports of a case's dtypes.
const NEXT: &str = "== the next dtype";
const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// Tensors that are read and written, in whole ones of the size of x.
struct Case {
    name: &'static str,
    shape: (usize, usize, usize),
    last: bool,
    read: f64,
    written: f64,
    run: fn(&mut Tensors) -> Result<()>,
}

struct Tensors {
    x: Tensor,
    random: Random,
    last: bool,
}

impl Tensors {
    fn new(case: &Case, dtype: DType) -> Result<Self> {
        let mut random = Random::new(3, common::cuda());
        let x = like(case.shape, case.last, dtype, &mut random)?;
        Ok(Self {
            x,
            random,
            last: case.last,
        })
    }

    /// Another tensor like x.
    fn like_x(&mut self) -> Result<Tensor> {
        like(self.x.dims3()?, self.last, self.x.dtype(), &mut self.random)
    }

    fn per_channel(&mut self) -> Result<Tensor> {
        Ok(self
            .random
            .tensor(self.x.dim(1)?, self.x.dtype(), 1., 0.1)?)
    }
}

fn like(
    (n, c, s): (usize, usize, usize),
    last: bool,
    dtype: DType,
    random: &mut Random,
) -> Result<Tensor> {
    Ok(match last {
        true => random.tensor((n, s, c), dtype, 0., 1.)?.transpose(1, 2)?,
        false => random.tensor((n, c, s), dtype, 0., 1.)?,
    })
}

fn plain(t: &mut Tensors) -> Result<()> {
    Normalization::instance(EPS).forward(&t.x)?;
    Ok(())
}

fn plain_backward(t: &mut Tensors) -> Result<()> {
    let dy = t.like_x()?;
    Normalization::instance(EPS).backward(&t.x, &dy)?;
    Ok(())
}

/// x + relu: what every style network does.
fn with_relu_and_residual(t: &mut Tensors) -> Result<Normalization> {
    let (weight, bias, residual) = (t.per_channel()?, t.per_channel()?, t.like_x()?);
    Ok(Normalization::instance(EPS)
        .weight(&weight)
        .bias(&bias)
        .residual(&residual)
        .activation(Activation::Relu))
}

fn fused(t: &mut Tensors) -> Result<()> {
    with_relu_and_residual(t)?.forward(&t.x)?;
    Ok(())
}

fn fused_backward(t: &mut Tensors) -> Result<()> {
    let dy = t.like_x()?;
    with_relu_and_residual(t)?.backward(&t.x, &dy)?;
    Ok(())
}

fn in_place(t: &mut Tensors) -> Result<()> {
    with_relu_and_residual(t)?.forward_in_place(&t.x)?;
    Ok(())
}

fn spade(t: &mut Tensors) -> Result<()> {
    let (weight, bias) = (t.like_x()?, t.like_x()?);
    let norm = Normalization::instance(EPS).weight(&weight).bias(&bias);
    norm.forward(&t.x)?;
    Ok(())
}

fn spade_backward(t: &mut Tensors) -> Result<()> {
    let (weight, bias, dy) = (t.like_x()?, t.like_x()?, t.like_x()?);
    let norm = Normalization::instance(EPS).weight(&weight).bias(&bias);
    norm.backward(&t.x, &dy)?;
    Ok(())
}

fn group(t: &mut Tensors) -> Result<()> {
    let norm = Normalization::group(8, EPS).activation(Activation::Silu);
    norm.forward(&t.x)?;
    Ok(())
}

fn group_backward(t: &mut Tensors) -> Result<()> {
    let dy = t.like_x()?;
    Normalization::group(8, EPS).backward(&t.x, &dy)?;
    Ok(())
}

fn with_stats(t: &mut Tensors) -> Result<()> {
    let (mean, rstd) = (t.per_channel()?, t.per_channel()?);
    Normalization::instance(EPS)
        .stats(&mean, &rstd)
        .forward(&t.x)?;
    Ok(())
}

fn stats(t: &mut Tensors) -> Result<()> {
    instance_stats(&t.x, EPS)?;
    Ok(())
}

fn style(t: &mut Tensors) -> Result<()> {
    let style = t.like_x()?;
    adain(&t.x, &style, &AdaInConfig::default())?;
    Ok(())
}

type Run = fn(&mut Tensors) -> Result<()>;

/// What the table in src/plan/gpu.rs says.
fn cases() -> Vec<Case> {
    const ON_CHIP: (usize, usize, usize) = (2, 34, 4096);
    const SPLIT: (usize, usize, usize) = (1, 4, 65_536);
    const GROUPS: (usize, usize, usize) = (2, 32, 2048);
    let rows: [(&str, Run, [[f64; 2]; 2]); 10] = [
        ("forward", plain, [[1., 1.], [2., 1.]]),
        ("forward, ReLU, residual", fused, [[2., 1.], [3., 1.]]),
        ("the same in place", in_place, [[2., 1.], [3., 1.]]),
        ("forward, SPADE", spade, [[3., 1.], [4., 1.]]),
        ("backward", plain_backward, [[2., 1.], [4., 1.]]),
        (
            "backward, ReLU, residual",
            fused_backward,
            [[3., 2.], [7., 2.]],
        ),
        ("backward, SPADE", spade_backward, [[3., 2.], [6., 2.]]),
        ("given statistics", with_stats, [[1., 1.], [1., 1.]]),
        ("statistics", stats, [[1., 0.], [1., 0.]]),
        ("AdaIN", style, [[2., 1.], [3., 1.]]),
    ];
    let mut cases = vec![];
    for (name, run, [on_chip, in_parts]) in rows {
        for (shape, last, [read, written]) in [
            (ON_CHIP, false, on_chip),
            (SPLIT, false, in_parts),
            (GROUPS, true, in_parts),
        ] {
            cases.push(Case {
                name,
                shape,
                last,
                read,
                written,
                run,
            });
        }
    }
    let groups: [(&str, Run, f64); 2] = [
        ("group norm, SiLU", group, 2.),
        ("group norm, backward", group_backward, 4.),
    ];
    for (name, run, read) in groups {
        for last in [false, true] {
            cases.push(Case {
                name,
                shape: GROUPS,
                last,
                read,
                written: 1.,
                run,
            });
        }
    }
    cases
}

/// What launches read and write: bytes, and the requests of warps that move them.
#[derive(Debug, Default, PartialEq)]
struct Moved {
    bytes: [f64; 2],
    requests: [f64; 2],
}

/// What the driver reports, on a line for each launch; nothing where the driver is not the emulated
/// one, which counts.
fn moved(log: &str) -> Result<Option<Moved>> {
    let launches = || log.lines().filter(|l| l.starts_with("[cudasim] "));
    let mut total = Moved::default();
    for line in launches() {
        let number = |before: &str| -> Result<f64> {
            let found = line
                .split_once(before)
                .and_then(|(n, _)| n.rsplit(' ').next());
            let found = found.and_then(|n| n.parse().ok());
            found.with_context(|| format!("no number before `{before}` in {line}"))
        };
        total.bytes[0] += 32. * number(" sectors read in ")?;
        total.bytes[1] += 32. * number(" sectors written in ")?;
        total.requests[0] += number(" loads, ")?;
        total.requests[1] += number(" stores; ")?;
    }
    Ok(launches().next().map(|_| total))
}

#[test]
fn bytes_are_those_of_the_plan_cuda() -> Result<()> {
    let cases = cases();
    if let Ok(i) = std::env::var(CASE) {
        let case = &cases[i.parse::<usize>()?];
        for dtype in DTYPES {
            let mut tensors = Tensors::new(case, dtype)?;
            eprintln!("{NEXT}");
            (case.run)(&mut tensors)?;
        }
        return Ok(());
    }
    let mut off = vec![];
    for (i, case) in cases.iter().enumerate() {
        let run = Command::new(std::env::current_exe()?)
            .args(["--exact", "bytes_are_those_of_the_plan_cuda", "--nocapture"])
            .env(CASE, i.to_string())
            .env("PTXSIM_STATS", "1")
            // Lanes that part make requests of their own: here they stay together.
            .env("PTXSIM_ORDER", "0")
            .output()?;
        let log = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{}: {log}", case.name);
        let (n, c, s) = case.shape;
        let tier = match (case.last, s) {
            (true, _) => "channels last",
            (false, 65_536) => "large planes",
            (false, _) => "small planes",
        };
        for (dtype, log) in DTYPES.iter().zip(log.split(NEXT).skip(1)) {
            let Some(Moved { bytes, requests }) = moved(log)? else {
                println!("SKIPPED: no driver here counts bytes");
                return Ok(());
            };
            let whole = (n * c * s * dtype.size_in_bytes()) as f64;
            let [read, written] = bytes.map(|b| b / whole);
            // Of 32 lanes with a vector each.
            let [loads, stores] = requests.map(|r| r * 32. * 16. / whole);
            let what = format!("{:26} {tier:13} {dtype:?}", case.name);
            println!(
                "{what:46} {read:6.3} read, {written:6.3} written: {} and {}; {loads:6.3}, {stores:6.3}",
                case.read, case.written
            );
            // Beside the tensors of the size of x: parameters, parts and coefficients. They count
            // for more channels-last, where a thread has but 8 elements of each plane in a shape
            // that is small enough to be emulated.
            let beside = if case.last { 0.3 } else { 0.06 };
            for (got, want) in [(read, case.read), (written, case.written)] {
                if !(want..=want + beside * case.read).contains(&got) {
                    off.push(format!("{what}: {got:.3} instead of {want}"));
                }
            }
            // Elements one by one would take 2 (f64) to 8 times the requests. Parameters and
            // coefficients are read by every warp: most of what is allowed here.
            if loads > 1.8 * case.read + 0.5 || stores > 1.4 * case.written + 0.3 {
                off.push(format!("{what}: {loads:.3} loads, {stores:.3} stores"));
            }
        }
    }
    assert!(off.is_empty(), "{off:#?}");
    Ok(())
}

#[test]
fn a_report_is_read() -> Result<()> {
    let line =
        "[cudasim] f grid [1, 1, 1] block [32, 1, 1]: 288 instructions of threads, 9 of warps; \
                64 sectors read in 4 loads, 16 sectors written in 2 stores; 0 waves in 0 accesses";
    let once = Moved {
        bytes: [2048., 512.],
        requests: [4., 2.],
    };
    assert_eq!(moved(line)?, Some(once));
    assert_eq!(moved("nothing")?, None);
    assert!(moved("[cudasim] f: 9 sectors read").is_err());
    Ok(())
}
