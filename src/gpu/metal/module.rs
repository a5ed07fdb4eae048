//! The kernels' source.

use crate::tuning;
use candle_core::{DType, Error, Result};
use std::fmt::Write;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../kernels/", $name)))),+]
    };
}
/// The files of the source in the order in which they build on each other: Metal compiles one text,
/// in which nothing can be included.
const FILES: [(&str, &str); 14] = files![
    "metal/span.metal",
    "shared/abi.h",
    "metal/call.metal",
    "shared/moments.h",
    "metal/moments.metal",
    "metal/float2.metal",
    "shared/coefficients.h",
    "metal/coefficients.metal",
    "metal/pointwise.metal",
    "metal/tiers.metal",
    "metal/in_fwd.metal",
    "metal/in_bwd.metal",
    "metal/multi_pass.metal",
    "metal/finish.metal",
];

/// The name in Metal of a dtype that there are kernels for.
pub fn element(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("float"),
        DType::F16 => Ok("half"),
        DType::BF16 => Ok("bfloat"),
        // No Apple GPU computes in f64.
        other => Err(Error::UnsupportedDTypeForOp(other, "norm on Metal").bt()),
    }
}

/// The source of all kernels for a dtype.
pub fn source(dtype: DType) -> Result<String> {
    let mut text = String::new();
    for (name, value) in tuning::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "#define {name} {value}");
    }
    let _ = writeln!(text, "#define ELEMENT {}", element(dtype)?);
    for (name, lines) in FILES {
        // So that a message has the file's lines.
        let _ = writeln!(text, "#line 1 \"kernels/{name}\"\n{lines}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::launch::Launch;
    use crate::gpu::{Gpu, bwd, fwd};
    use crate::plan::Caps;
    use crate::shapes::{Format, Planes};
    use crate::spec::{
        Activation, EpsMode, Extras, GradMask, NormSpec, Output, RstdRule, ScaleStat,
    };
    use candle_core::Layout;

    /// A device that must not be asked for anything.
    struct Untouched;

    impl Gpu for Untouched {
        type Storage = DType;
        type Real = f32;

        const SUMS_PER_LAUNCH: usize = 1;

        fn check(dtype: DType) -> Result<()> {
            element(dtype).map(|_| ())
        }

        fn dtype(storage: &DType) -> DType {
            *storage
        }

        fn caps(&self) -> Caps {
            unreachable!("planned")
        }

        fn alloc(&self, _: DType, _: usize) -> Result<DType> {
            unreachable!("allocated")
        }

        fn zeros(&self, _: DType, _: usize) -> Result<DType> {
            unreachable!("allocated")
        }

        unsafe fn launch(&self, _: Launch<Self>) -> Result<()> {
            unreachable!("launched")
        }
    }

    #[test]
    fn other_dtypes_are_refused_before_anything_else() {
        let planes = Planes {
            n: 2,
            c: 3,
            spatial: 4,
        };
        let spec = NormSpec {
            planes,
            format: Format::Planar,
            channels_per_group: 1,
            rule: RstdRule {
                eps: 1e-5,
                mode: EpsMode::AddToVar,
                correction: 0,
            },
            weight_offset: 0.,
            alpha: 1.,
            activation: Activation::None,
            output: Output::Normalized,
        };
        let layout = Layout::contiguous((2, 3, 4));
        for (dtype, name) in [(DType::F64, "F64"), (DType::U8, "U8")] {
            let (mut x, extras) = (dtype, Extras::none());
            let in_place = fwd::forward_in_place(&Untouched, &mut x, &layout, &extras, &spec);
            let view = (&dtype, &layout);
            let results = [
                in_place.err(),
                fwd::forward(&Untouched, view, &extras, &spec).err(),
                fwd::stats(&Untouched, view, &spec, ScaleStat::Rstd).err(),
                bwd::backward(&Untouched, view, &extras, view, &spec, &GradMask::default()).err(),
                source(dtype).err(),
            ];
            for error in results {
                let message = error.expect("an error").to_string();
                // A backtrace may follow.
                let wanted = format!("unsupported dtype {name} for op norm on Metal");
                assert!(message.starts_with(&wanted), "{message}");
            }
        }
    }
}
