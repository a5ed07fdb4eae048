//! The launches that calls lead to, without a device. `.ci/count` counts the instructions of those that
//! [`counted`] prints.

mod recorder;

use crate::gpu::launch::Slot;
use crate::gpu::{adain, bwd, fwd};
use crate::plan::{Caps, Kernel, Pass, Phase};
use crate::shapes::{Format, ParamShape, ParamSpec, Planes};
use crate::spec::{Activation, Extras, GradMask, NormSpec, ScaleStat};
use crate::tuning::{CALL_BYTES_F32, CALL_X_AT_F32, CHUNKS_BYTES, VECTOR_BYTES};
use candle_core::{DType, Layout, Result};
use recorder::{Recorded, Recorder, address_of};
use std::fmt;

/// A T4, an A100, an L40S and an H200, by compute capability.
const GPUS: [(u32, Caps); 4] = [
    (75, Caps::cuda(40, false, 64 << 10)),
    (80, Caps::cuda(108, false, 163 << 10)),
    (89, Caps::cuda(142, false, 99 << 10)),
    (90, Caps::cuda(132, true, 227 << 10)),
];

/// The shapes that are counted.
const CASES: [Case; 23] = [
    Case::new([32, 256, 7, 7]),
    Case::new([32, 256, 14, 14]),
    Case::new([32, 256, 15, 15]),
    Case::new([32, 256, 16, 16]),
    Case::new([32, 256, 28, 28]),
    Case::new([32, 256, 35, 45]),
    Case::new([32, 256, 56, 56]),
    Case::new([32, 256, 64, 64]),
    Case::new([32, 256, 128, 128]),
    Case::new([1, 128, 128, 128]),
    Case::new([1, 64, 256, 256]),
    Case::new([1, 32, 512, 512]),
    Case::new([1, 3, 2160, 3840]),
    Case::new([2, 320, 64, 64]).in_groups(32),
    Case::new([32, 256, 56, 56]).in_groups(32),
    Case::new([32, 256, 28, 28]).channels_last(),
    Case::new([32, 256, 56, 56]).channels_last(),
    Case::new([32, 256, 128, 128]).channels_last(),
    Case::new([32, 256, 14, 14]).adain(),
    Case::new([32, 256, 56, 56]).adain(),
    Case::new([32, 256, 28, 28]).full(),
    Case::new([32, 256, 56, 56]).full(),
    Case::new([2, 320, 64, 64]).in_groups(32).full(),
];

/// A call of one of these shapes.
#[derive(Clone, Copy)]
struct Case {
    /// N, C, H and W.
    shape: [usize; 4],
    channels_per_group: usize,
    format: Format,
    /// With a residual and SiLU.
    full: bool,
    /// AdaIN, with a style of the same size.
    adain: bool,
}

impl Case {
    const fn new(shape: [usize; 4]) -> Self {
        Self {
            shape,
            channels_per_group: 1,
            format: Format::Planar,
            full: false,
            adain: false,
        }
    }

    const fn in_groups(self, groups: usize) -> Self {
        let channels_per_group = self.shape[1] / groups;
        Self {
            channels_per_group,
            ..self
        }
    }

    const fn channels_last(self) -> Self {
        let format = Format::ChannelsLast;
        Self { format, ..self }
    }

    const fn full(self) -> Self {
        Self { full: true, ..self }
    }

    const fn adain(self) -> Self {
        let adain = true;
        Self { adain, ..self }
    }

    fn planes(&self) -> Planes {
        let [n, c, h, w] = self.shape;
        let spatial = h * w;
        Planes { n, c, spatial }
    }

    fn has_affine(&self) -> bool {
        self.full || self.channels_per_group > 1
    }

    /// The launches of a pass. A group norm has a weight and a bias, and so has what goes with an
    /// activation; their gradients are wanted then, the residual's is not.
    fn launches(&self, caps: Caps, pass: Pass, dtype: DType) -> Result<Vec<Recorded>> {
        Ok(self.record(caps, pass, dtype)?.into_launches())
    }

    fn record(&self, caps: Caps, pass: Pass, dtype: DType) -> Result<Recorder> {
        let [n, c, h, w] = self.shape;
        let tensor = Layout::contiguous(match self.format {
            Format::Planar => (n, c, h, w),
            Format::ChannelsLast => (n, h, w, c),
        });
        let param = Layout::contiguous(c);
        let affine = self.has_affine();
        let extras = Extras {
            weight: affine.then_some((&dtype, &param)),
            bias: affine.then_some((&dtype, &param)),
            residual: self.full.then_some((&dtype, &tensor)),
            stats: None,
        };
        let spec = NormSpec {
            planes: self.planes(),
            format: self.format,
            channels_per_group: self.channels_per_group,
            activation: match self.full {
                true => Activation::Silu,
                false => Activation::None,
            },
            ..NormSpec::instance(1e-5)
        };
        let (gpu, x) = (Recorder::new(caps), (&dtype, &tensor));
        match pass {
            Pass::Forward if self.adain => {
                adain::adain(&gpu, x, &spec, x, &spec, ScaleStat::Std)?;
            }
            Pass::Backward if self.adain => {}
            Pass::Forward => {
                fwd::forward(&gpu, x, &extras, &spec)?;
            }
            Pass::Backward => {
                let shape = ParamShape::PerChannel;
                let share = affine.then_some(ParamSpec { shape, dtype });
                let wanted = GradMask {
                    x: true,
                    weight: share,
                    bias: share,
                    ..GradMask::default()
                };
                bwd::backward(&gpu, x, &extras, x, &spec, &wanted)?;
            }
        }
        Ok(gpu)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [n, c, h, w] = self.shape;
        write!(f, "{n}x{c}x{h}x{w}")?;
        if self.channels_per_group > 1 {
            write!(f, ", {} groups", c / self.channels_per_group)?;
        }
        if self.format == Format::ChannelsLast {
            f.write_str(", channels-last")?;
        }
        f.write_str(if self.adain { ", AdaIN" } else { "" })?;
        f.write_str(if self.full { ", residual and SiLU" } else { "" })
    }
}

/// Prints the launches of all cases, each as a line of JSON, which `--nocapture` shows.
#[test]
fn counted() -> Result<()> {
    let mut lines = vec![];
    for (arch, caps) in GPUS {
        let kernels = Kernel::all(caps);
        for case in CASES {
            for pass in [Pass::Forward, Pass::Backward] {
                for dtype in [DType::F32, DType::BF16] {
                    // Each launch over the elements goes the opposite way of the one before it.
                    let mut back = false;
                    for launch in case.launches(caps, pass, dtype)? {
                        let kernel = launch.kernel;
                        assert!(kernels.contains(&kernel), "{kernel:?} on sm_{arch}");
                        lines.push(line(arch, &case, dtype, &launch, back));
                        back ^= matches!(kernel, Kernel::Split(..) | Kernel::Columns(..));
                    }
                }
            }
        }
    }
    // Behind what the test harness has begun to print.
    println!("\n{}", lines.join("\n"));
    Ok(())
}

fn line(arch: u32, case: &Case, dtype: DType, launch: &Recorded, back: bool) -> String {
    let back = back && matches!(launch.kernel, Kernel::Split(..) | Kernel::Columns(..));
    let planes = case.planes();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let line = serde_json::json!({
        "arch": arch,
        "case": case.to_string(),
        "dtype": dtype.as_str(),
        "source": launch.source,
        "entry": launch.kernel.entry(),
        "grid": launch.size.grid,
        "threads": launch.size.threads,
        "cluster": launch.size.cluster,
        "shared": launch.size.shared,
        "back": back,
        "arguments": hex(&launch.arguments),
        "elements": planes.elements(),
        "planes": planes.count(),
        "aligned": (planes.spatial * dtype.size_in_bytes()).is_multiple_of(VECTOR_BYTES),
    });
    line.to_string()
}

#[test]
fn at_most_one_allocation_beside_the_results() -> Result<()> {
    let mut most = 0;
    for (_, caps) in GPUS {
        for case in CASES {
            for (pass, results) in [(Pass::Forward, 1), (Pass::Backward, 3)] {
                let results = match case.has_affine() {
                    true => results,
                    false => 1,
                };
                let recorder = case.record(caps, pass, DType::BF16)?;
                let others = recorder.allocations().saturating_sub(results);
                assert!(others <= 1, "{case}, {pass:?}: {others}");
                most = most.max(others);
            }
        }
    }
    assert_eq!(most, 1);
    Ok(())
}

#[test]
fn an_activation_in_several_passes() -> Result<()> {
    let case = Case::new([2, 320, 64, 64]).in_groups(32).full();
    let (_, t4) = GPUS[0];
    let launches = case.launches(t4, Pass::Backward, DType::F32)?;
    let numbers = |bytes: &[u8]| -> Vec<u64> {
        let (numbers, _) = bytes.as_chunks();
        numbers.iter().map(|n| u64::from_le_bytes(*n)).collect()
    };
    let behind = (CALL_BYTES_F32 + CHUNKS_BYTES).next_multiple_of(8);
    let buffers = launches
        .iter()
        .map(|l| (l.kernel, numbers(&l.arguments[behind..])));
    let [parts, affines, gradients] = [Slot::Parts, Slot::Affines, Slot::Gradients].map(address_of);
    let wanted = [
        (Kernel::Split(Pass::Forward, Phase::Measure), vec![parts]),
        (Kernel::Finish(Pass::Forward), vec![parts, affines]),
        (
            Kernel::Split(Pass::Backward, Phase::Measure),
            vec![affines, parts],
        ),
        (Kernel::Finish(Pass::Backward), vec![parts, gradients, 0]),
        (
            Kernel::Split(Pass::Backward, Phase::Write),
            vec![affines, gradients],
        ),
    ];
    assert_eq!(buffers.collect::<Vec<_>>(), wanted);
    assert_eq!(launches[0].source, "split.full.f32");
    // The address of x and its strides.
    let x = numbers(&launches[0].arguments[CALL_X_AT_F32..][..24]);
    assert_eq!(x, [address_of(Slot::X), 320 * 64 * 64, 64 * 64]);
    Ok(())
}
