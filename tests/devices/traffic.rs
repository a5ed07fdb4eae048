//! The bytes that each op moves in each tier and its launches, counted by the emulated driver, are those
//! that src/plan/gpu.rs says. On a GPU nobody counts them, and the test says so.

use crate::calls::*;
use crate::common::own_process;
use anyhow::{Context, Result};
use candle_core::{DType, Device};

const CASE: &str = "CANDLE_INSTANCE_NORM_TRAFFIC_CASE";
/// Set, no GPU has clusters: planes that these would have take shared memory.
const BASELINE: &str = "CANDLE_INSTANCE_NORM_BASELINE";
/// Parts the reports of a case's dtypes.
const NEXT: &str = "== the next dtype";

/// Tensors that are read and written, in whole ones of the size of x.
struct Case {
    name: &'static str,
    shape: (usize, usize, usize),
    last: bool,
    clusters: bool,
    read: f64,
    written: f64,
    launches: usize,
    run: Run,
}

/// What is read and written on chip and in parts, and the launches on chip, of large planes, and of strips and
/// large planes channels-last.
type Row = (&'static str, Run, [[f64; 2]; 2], [usize; 4]);

/// The rows of the table in src/plan/gpu.rs.
fn cases() -> Vec<Case> {
    const ON_CHIP: (usize, usize, usize) = (2, 34, 4096);
    const SPLIT: (usize, usize, usize) = (1, 1, 270_336);
    // A vector of channels in the half types, four in f64.
    const COLUMNS: (usize, usize, usize) = (1, 8, 33_792);
    const GROUPS: (usize, usize, usize) = (2, 32, 2048);
    let rows: [Row; 10] = [
        ("forward", plain, [[1., 1.], [2., 1.]], [1, 2, 1, 3]),
        (
            "forward, ReLU, residual",
            fused,
            [[2., 1.], [3., 1.]],
            [1, 2, 1, 3],
        ),
        (
            "the same in place",
            in_place,
            [[2., 1.], [3., 1.]],
            [1, 2, 1, 3],
        ),
        ("forward, SPADE", spade, [[3., 1.], [4., 1.]], [1, 2, 1, 3]),
        (
            "backward",
            plain_backward,
            [[2., 1.], [4., 1.]],
            [1, 3, 1, 3],
        ),
        (
            "backward, ReLU, residual",
            fused_backward,
            [[3., 2.], [7., 2.]],
            [2, 6, 2, 6],
        ),
        (
            "backward, SPADE",
            spade_backward,
            [[3., 2.], [6., 2.]],
            [1, 3, 1, 3],
        ),
        (
            "given statistics",
            with_stats,
            [[1., 1.], [1., 1.]],
            [1, 1, 1, 2],
        ),
        ("statistics", stats, [[1., 0.], [1., 0.]], [1, 2, 1, 2]),
        ("AdaIN", style, [[2., 1.], [3., 1.]], [1, 4, 2, 5]),
    ];
    let mut cases = vec![];
    for (name, run, [on_chip, in_parts], launches) in rows {
        for (shape, last, [read, written], launches) in [
            (ON_CHIP, false, on_chip, launches[0]),
            (SPLIT, false, in_parts, launches[1]),
            (GROUPS, true, on_chip, launches[2]),
            (COLUMNS, true, in_parts, launches[3]),
        ] {
            cases.push(Case {
                name,
                shape,
                last,
                clusters: true,
                read,
                written,
                launches,
                run,
            });
        }
    }
    // What is read, and launches, on chip and in parts.
    let groups: [(&str, Run, [f64; 2], [usize; 2]); 2] = [
        ("group norm, SiLU", group, [1., 2.], [1, 3]),
        ("group norm, backward", group_backward, [2., 4.], [1, 3]),
    ];
    for (name, run, read, launches) in groups {
        for (shape, last, i) in [(GROUPS, false, 0), (GROUPS, true, 0), (COLUMNS, true, 1)] {
            cases.push(Case {
                name,
                shape,
                last,
                clusters: true,
                read: read[i],
                written: 1.,
                launches: launches[i],
                run,
            });
        }
    }
    // In shared memory, of enough planes and groups: in f16 in registers forward, where they are half as large.
    type Shared = (&'static str, Run, (usize, usize, usize), [f64; 2], usize);
    let shared: [Shared; 3] = [
        ("forward", plain, (2, 17, 16_640), [1., 1.], 1),
        (
            "backward, ReLU, residual",
            fused_backward,
            (2, 17, 16_640),
            [3., 2.],
            2,
        ),
        (
            "group norm, backward",
            group_backward,
            (17, 6, 5600),
            [2., 1.],
            1,
        ),
    ];
    for (name, run, shape, [read, written], launches) in shared {
        cases.push(Case {
            name,
            shape,
            last: false,
            clusters: false,
            read,
            written,
            launches,
            run,
        });
    }
    cases
}

/// The bytes that launches read and write, and the requests of warps that move them.
#[derive(Debug, Default, PartialEq)]
struct Moved {
    bytes: [f64; 2],
    requests: [f64; 2],
    launches: usize,
}

/// The sums of the driver's reports, a line for each launch; `None` where the driver is not the
/// emulated one, which counts.
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
        total.launches += 1;
    }
    Ok(launches().next().map(|_| total))
}

fn bytes_are_those_of_the_plan(device: &Device) -> Result<()> {
    let cases = cases();
    if let Ok(i) = std::env::var(CASE) {
        let case = &cases[i.parse::<usize>()?];
        for dtype in DTYPES {
            let mut tensors = Tensors::new(case.shape, case.last, dtype, device)?;
            eprintln!("{NEXT}");
            (case.run)(&mut tensors)?;
        }
        return Ok(());
    }
    let mut off = vec![];
    for (i, case) in cases.iter().enumerate() {
        let number = i.to_string();
        let mut variables = vec![
            (CASE, number.as_str()),
            ("CUDASIM_STATS", "1"),
            // Lanes that part make requests of their own: here they stay together.
            ("CUDASIM_ORDER", "0"),
        ];
        if !case.clusters {
            variables.push((BASELINE, "1"));
        }
        let log = own_process::run(
            module_path!(),
            "bytes_are_those_of_the_plan::cuda",
            &variables,
        )
        .context(case.name)?;
        let (n, c, s) = case.shape;
        let tier = match (case.last, s) {
            (true, 33_792) => "large, last",
            (true, _) => "channels last",
            _ if !case.clusters => "shared memory",
            (false, 270_336) => "large planes",
            (false, _) => "small planes",
        };
        for (dtype, log) in DTYPES.iter().zip(log.split(NEXT).skip(1)) {
            let Some(Moved {
                bytes,
                requests,
                launches,
            }) = moved(log)?
            else {
                println!("SKIPPED: no driver here counts bytes");
                return Ok(());
            };
            let whole = (n * c * s * dtype.size_in_bytes()) as f64;
            let [read, written] = bytes.map(|b| b / whole);
            // In requests of 32 lanes with a vector each.
            let [loads, stores] = requests.map(|r| r * 32. * 16. / whole);
            let what = format!("{:26} {tier:13} {dtype:?}", case.name);
            println!(
                "{what:46} {read:6.3} read, {written:6.3} written: {} and {}; {loads:6.3}, {stores:6.3}",
                case.read, case.written
            );
            // In f64 the parts of such a plane are too many to be merged by every block that writes.
            // In f32, a parameter's gradient over one sample is the plane's share, and no sum.
            let share = *dtype == DType::F32 && n == 1 && case.name == "backward, ReLU, residual";
            if launches != case.launches - usize::from(share) && *dtype != DType::F64 {
                off.push(format!(
                    "{what}: {launches} launches instead of {}",
                    case.launches
                ));
            }
            // Beside the tensors of the size of x: parameters, parts and coefficients. They count
            // for more channels-last, where a thread has but 8 elements of each plane in a shape
            // that is small enough to be emulated.
            let beside = if case.last { 0.3 } else { 0.07 };
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

test_device!(cuda: bytes_are_those_of_the_plan);

#[test]
fn a_report_is_read() -> Result<()> {
    let line = "[cudasim] f grid [1, 1, 1] block [32, 1, 1]: 288 instructions of threads, 9 of warps; \
                64 sectors read in 4 loads, 16 sectors written in 2 stores; 0 waves in 0 accesses";
    let once = Moved {
        bytes: [2048., 512.],
        requests: [4., 2.],
        launches: 1,
    };
    assert_eq!(moved(line)?, Some(once));
    assert_eq!(moved("nothing")?, None);
    assert!(moved("[cudasim] f: 9 sectors read").is_err());
    Ok(())
}
