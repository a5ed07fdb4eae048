//! That the table reaches every kernel.

use super::DTYPES;
use crate::plan::{self, Caps, Chunks, CpuPlan, GpuPlan, Job, Pass, Tier};
use crate::{shapes, tuning};
use anyhow::Result;
use std::collections::BTreeSet;

/// Shared memory of a block of an H200.
const SHARED: usize = 227 << 10;

/// Every kernel that a plan can lead to is in the PTX, in each of its variants, and nothing else is.
#[cfg(feature = "cuda")]
#[test]
fn entries_and_ptx_agree() -> Result<()> {
    let entries = |file: String| -> Result<Vec<String>> {
        let text = std::fs::read_to_string(format!("{}/{file}.ptx", env!("OUT_DIR")))?;
        let names = |line: &str| Some(line.split_once(".entry ")?.1.split('(').next()?.to_string());
        Ok(text.lines().filter_map(names).collect())
    };
    for dtype in ["f32", "f16", "bf16", "f64"] {
        for (end, clusters) in [("baseline", false), ("hopper", true)] {
            let end = format!("{dtype}.{end}");
            let all = plan::Kernel::all(Caps::cuda(132, clusters, SHARED));
            let mut wanted: Vec<String> = all.iter().map(|k| k.entry()).collect();
            wanted.sort();
            for variant in ["plain", "full"] {
                let mut found = entries(format!("finish.{end}"))?;
                for source in [
                    "in_fwd",
                    "in_bwd",
                    "in_groups_fwd",
                    "in_groups_bwd",
                    "split",
                    "channels_last",
                    "strip",
                ] {
                    found.extend(entries(format!("{source}.{variant}.{end}"))?);
                }
                found.extend(entries(format!("in_adain.plain.{end}"))?);
                found.sort();
                assert_eq!(found, wanted, "{variant} {end}");
            }
        }
    }
    Ok(())
}

/// On an H200, and on a GPU as large without clusters; on another the table reaches what it reaches.
#[test]
fn the_table_reaches_every_kernel() -> Result<()> {
    const SM_COUNT: usize = 132;
    let (mut seen, mut cpu) = (BTreeSet::new(), BTreeSet::new());
    for (dtype, clusters) in DTYPES.iter().flat_map(|d| [(*d, false), (*d, true)]) {
        let size = dtype.size_in_bytes();
        for (n, c, spatial) in super::shapes(dtype) {
            let planes = shapes::Planes { n, c, spatial };
            let aligned = (spatial * size).is_multiple_of(tuning::VECTOR_BYTES);
            for pass in [Pass::Forward, Pass::Backward] {
                let job = Job {
                    pass,
                    planes,
                    format: shapes::Format::Planar,
                    channels_per_group: 1,
                    given: false,
                    element: size,
                    aligned,
                    adjacent: true,
                    plain: true,
                };
                let plan = GpuPlan::new(&job, Caps::cuda(SM_COUNT, clusters, SHARED))?;
                let tier = match plan.tier {
                    Tier::Lanes { lanes, vectors } => format!("lanes{lanes}x{vectors}"),
                    Tier::Block { vectors } => format!("block{vectors}"),
                    Tier::Cluster { .. } => "cluster".to_string(),
                    Tier::Shared { .. } => "shared".to_string(),
                    Tier::Split(_) => "split".to_string(),
                    Tier::Groups { .. }
                    | Tier::GroupsShared { .. }
                    | Tier::Columns(_)
                    | Tier::Strip(_) => {
                        unreachable!("planes of their own")
                    }
                };
                seen.insert(format!("{pass:?} {tier} {dtype:?}"));
                if let Tier::Split(Chunks { length, .. }) = plan.tier {
                    let at_once = tuning::SPLIT_THREADS * tuning::SPLIT_VECTORS;
                    seen.insert(format!("{pass:?} loops: {}", length > at_once));
                }
            }
            let segments = spatial.div_ceil(plan::SEGMENT).min(2);
            cpu.insert((CpuPlan::new(&planes, 1, 2) == CpuPlan::Segments, segments));
        }
    }
    let forward = [
        "lanes4x1",
        "lanes4x2",
        "lanes4x4",
        "lanes8x4",
        "lanes16x4",
        "lanes32x4",
        "lanes32x8",
        "block2",
        "block4",
        "block8",
        "cluster",
        "split",
    ];
    let backward = [
        "lanes4x1",
        "lanes4x2",
        "lanes4x4",
        "lanes8x4",
        "lanes16x4",
        "lanes32x4",
        "block1",
        "block2",
        "block4",
        "block8",
        "cluster",
        "shared",
        "split",
    ];
    for dtype in DTYPES {
        let forward = forward.map(|tier| format!("Forward {tier} {dtype:?}"));
        let backward = backward.map(|tier| format!("Backward {tier} {dtype:?}"));
        for kernel in forward.iter().chain(&backward) {
            assert!(seen.contains(kernel), "{kernel} is not reached");
        }
    }
    // In the other dtypes by tests of their own: shared.rs.
    assert!(seen.contains("Forward shared F64"));
    for pass in ["Forward", "Backward"] {
        for loops in [true, false] {
            assert!(seen.contains(&format!("{pass} loops: {loops}")));
        }
    }
    // Whole planes of one and of more segments, and planes shared by the threads.
    assert_eq!(cpu, BTreeSet::from([(false, 1), (false, 2), (true, 2)]));
    Ok(())
}
