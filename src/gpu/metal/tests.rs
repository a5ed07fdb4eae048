//! The Metal backend without Metal: its own launches of its own kernels, which run as C++ (shim.rs),
//! against the CPU backend in f64: `cargo test --lib -- --ignored metal::`.
#![cfg(target_os = "linux")]

mod cases;
mod shim;

use super::module::source;
use crate::plan::{Caps, Kernel};
use candle_core::{DType, Result};
use cases::table;
use shim::{Sanitizer, Shim};
use std::collections::BTreeSet;

fn all_entries() -> BTreeSet<String> {
    Kernel::all(Caps::metal(1))
        .into_iter()
        .map(Kernel::entry)
        .collect()
}

/// The table on a dtype's kernels: those that Rust can ask for, all of them and no other.
fn check(dtype: DType, sanitizer: Sanitizer, cases: usize) -> Result<()> {
    let shim = Shim::new(&source(dtype)?, sanitizer)?;
    assert_eq!(shim.entries, all_entries());
    table(&shim, dtype, 0..cases)?;
    assert_eq!(*shim.seen.borrow(), all_entries());
    if cases == cases::ALL {
        table(&shim, dtype, cases::SMALL)?;
    }
    Ok(())
}

macro_rules! of_dtypes {
    ($($name:ident: $dtype:ident),+) => {
        $(mod $name {
            use super::*;

            #[test]
            #[ignore = "compiles C++: it needs g++ and nm"]
            fn agrees_with_f64() -> Result<()> {
                check(DType::$dtype, Sanitizer::Address, cases::ALL)
            }

            #[test]
            #[ignore = "compiles C++: it needs g++ and nm"]
            fn does_not_race() -> Result<()> {
                check(DType::$dtype, Sanitizer::Thread, cases::SOME)
            }
        })+
    };
}

of_dtypes!(f32: F32, f16: F16, bf16: BF16);

/// Kernels that are wrong are found wrong.
mod planted {
    use super::*;

    /// The table's error with kernels that have another text in this place.
    fn error(right: &str, wrong: &str, sanitizer: Sanitizer) -> Result<String> {
        let source = source(DType::F32)?;
        assert_eq!(source.matches(right).count(), 1, "{right}");
        let shim = Shim::new(&source.replacen(right, wrong, 1), sanitizer)?;
        match table(&shim, DType::F32, 0..cases::SOME) {
            Ok(()) => panic!("{wrong:?} for {right:?} goes unnoticed"),
            Err(e) => Ok(e.to_string()),
        }
    }

    /// Each of the barriers, by where it is.
    const BARRIERS: [&str; 3] = [
        "of_simdgroup[me.simdgroup()] = v;\n        threadgroup_barrier(mem_flags::mem_threadgroup);",
        "= m[p];\n    }\n    threadgroup_barrier(mem_flags::mem_threadgroup);",
        "= sum;\n    threadgroup_barrier(mem_flags::mem_threadgroup);",
    ];

    fn without(barrier: &str) -> String {
        barrier.replace("threadgroup_barrier(mem_flags::mem_threadgroup);", "")
    }

    #[test]
    #[ignore = "compiles C++: it needs g++ and nm"]
    fn missing_barriers_are_races() -> Result<()> {
        for barrier in BARRIERS {
            let error = error(barrier, &without(barrier), Sanitizer::Thread)?;
            assert!(error.contains("data race"), "{error}");
        }
        Ok(())
    }

    #[test]
    #[ignore = "compiles C++: it needs g++ and nm"]
    fn missing_barriers_give_wrong_results() -> Result<()> {
        for barrier in BARRIERS {
            let error = error(barrier, &without(barrier), Sanitizer::None)?;
            assert!(error.starts_with("F32 case"), "{error}");
        }
        Ok(())
    }

    #[test]
    #[ignore = "compiles C++: it needs g++ and nm"]
    fn wrong_offsets() -> Result<()> {
        for (right, wrong) in [
            (
                "ahead + (vector * PER_VECTOR - span.head)",
                "ahead + vector * PER_VECTOR",
            ),
            ("tensor.origin + n * tensor.stride_n", "n * tensor.stride_n"),
            ("c * tensor.stride_c + ahead", "c * tensor.stride_c"),
            ("{span, vector, 0, row * c,", "{span, vector, 0, begin * c,"),
        ] {
            let error = error(right, wrong, Sanitizer::None)?;
            assert!(error.starts_with("F32 case"), "{error}");
        }
        Ok(())
    }

    #[test]
    #[ignore = "compiles C++: it needs g++ and nm"]
    fn accesses_that_must_not_be() -> Result<()> {
        for (right, wrong, said) in [
            // Of lanes without a plane.
            (
                "TIER != Tier::Lanes || plane < planes",
                "true || plane < planes",
                "AddressSanitizer",
            ),
            // Of whole vectors anywhere.
            ("from.is_aligned(run.head)", "true", "misaligned address"),
        ] {
            let error = error(right, wrong, Sanitizer::Address)?;
            assert!(error.contains(said), "{error}");
        }
        Ok(())
    }

    #[test]
    #[ignore = "compiles C++: it needs g++ and nm"]
    fn sums_over_other_lanes() -> Result<()> {
        for (right, wrong) in [
            ("TIER == Tier::Lanes ? LANES : WARP", "WARP"),
            (
                "TIER == Tier::Lanes ? LANES : WARP",
                "TIER == Tier::Lanes ? LANES / 2 : WARP",
            ),
            ("+ me.index / LANES", "+ me.simdgroup()"),
        ] {
            let error = error(right, wrong, Sanitizer::None)?;
            assert!(error.starts_with("F32 case"), "{error}");
        }
        Ok(())
    }

    #[test]
    #[ignore = "compiles C++: it needs g++ and nm"]
    fn wrong_tails() -> Result<()> {
        for (right, wrong) in [
            ("i >= head && i < end", "i >= head && i <= end"),
            ("i >= head && i < end", "i > head && i < end"),
            ("(end + PER_VECTOR - 1) / PER_VECTOR", "end / PER_VECTOR"),
            ("return i < head ? i", "return i + 1 < head ? i"),
            ("behind < size ? behind", "behind < size - 1 ? behind"),
            (
                "(size - head) / PER_VECTOR}",
                "(size - head + 1) / PER_VECTOR}",
            ),
            ("(2 * PER_VECTOR - 1) / LANES + 1", "1"),
        ] {
            let error = error(right, wrong, Sanitizer::None)?;
            assert!(error.starts_with("F32 case"), "{error}");
        }
        Ok(())
    }
}
