//! AdaIN, which a GPU computes in one launch where planes of content and style stay on chip together.

use super::{DTYPES, data};
use crate::common;
use crate::common::reference::{Exact, Random, wide};
use crate::tuning;
use anyhow::Result;
use candle_core::Device;
use candle_instance_norm::{AdaInConfig, adain};

/// Samples and channels; vectors of 16 bytes and more elements of a plane of the content, and of the style: for
/// some lanes of a warp, blocks and clusters, and for more than one launch.
const SHAPES: [(usize, usize, [usize; 2], [usize; 2]); 12] = [
    (3, 11, [0, 1], [3, 0]),
    (3, 5, [6, 1], [2, 1]),
    (1, 5, [12, 0], [16, 0]),
    (2, 3, [20, 1], [31, 0]),
    (2, 3, [60, 0], [33, 1]),
    (2, 3, [3, 1], [120, 0]),
    (2, 2, [300, 0], [201, 1]),
    (1, 2, [77, 1], [600, 0]),
    (1, 67, [1100, 0], [129, 0]),
    (1, 67, [140, 1], [1100, 1]),
    (2, 2, [1500, 1], [2100, 0]),
    (2, 1, [40, 0], [17_000, 1]),
];

/// Against f64 on the CPU, in two passes. Every second style is one for all samples.
fn sizes(device: &Device) -> Result<()> {
    let mut random = Random::new(12, device);
    for dtype in common::on(device, &DTYPES) {
        for (i, (n, c, content, style)) in SHAPES.into_iter().enumerate() {
            let elements = |[vectors, more]: [usize; 2]| {
                vectors * tuning::VECTOR_BYTES / dtype.size_in_bytes() + more
            };
            let of_style = ([n, 1][i % 2], c, elements(style));
            for &(mean, std, bound) in data(dtype) {
                // Some start between two vectors, the result never.
                let (len, start) = (elements(content), i % 3);
                let content = random.tensor(start + n * c * len, dtype, mean, std)?;
                let content = content
                    .narrow(0, start, n * c * len)?
                    .reshape((n, c, len))?;
                let style = random.tensor(of_style, dtype, 0.5, 2.)?;
                // Of one element there is no unbiased variance.
                let config = AdaInConfig {
                    correction: i.min(1) as u32,
                    ..Default::default()
                };
                let got = adain(&content, &style, &config)?;
                let want = adain(&wide(&content)?, &wide(&style)?, &config)?;
                let what = format!("{dtype:?} {:?} {of_style:?} mean {mean:e}", content.shape());
                Exact::of(&want).check(&what, &got, bound);
            }
        }
    }
    Ok(())
}

test_device!(sizes);
