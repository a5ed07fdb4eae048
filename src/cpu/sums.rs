//! Sums over chunks, in lanes that become vector code.

use super::element::Acc;
use super::moments::Measure;
use super::simd::Simd;

/// Partial sums side by side: two AVX-512, four AVX2 or eight NEON registers of f32, enough to
/// hide the latency of an addition and few enough that four sums fit the register file.
const LANES: usize = 32;

/// How much of a chunk of `len` values tells a shift: the mean of its first eighth.
///
/// The square of its distance from the chunk's mean is at most 7 times the chunk's variance
/// (7/8 and 1/8 apart by any distance vary by 7/64 of its square at least), so cancelling it costs
/// the variance 3 bits at the very worst, and an eighth of the work of the exact mean.
#[inline(always)]
pub fn for_shift(len: usize) -> usize {
    len.min(len.div_ceil(8).next_multiple_of(LANES))
}

/// The means of the streams.
#[inline(always)]
pub fn means<A: Acc, const I: usize>(streams: [&[A]; I]) -> [A; I] {
    let mut means = [A::default(); I];
    for i in 0..I {
        let [s] = sums([streams[i]], [A::default()], |[s], [d]| [s + d]);
        means[i] = Acc::from_f64(s * (1. / streams[i].len() as f64));
    }
    means
}

/// What a chunk of streams amounts to, given values near their means.
#[inline(always)]
pub fn measure<S: Simd, A: Acc, M: Measure<I, K>, const I: usize, const K: usize>(
    streams: [&[A]; I],
    shifts: [A; I],
) -> M {
    let sums = sums(streams, shifts, M::step::<S, A>);
    M::from_sums(streams[0].len() as f64, wide(shifts), sums)
}

#[inline(always)]
pub fn wide<A: Acc, const I: usize>(values: [A; I]) -> [f64; I] {
    let mut wide = [0.; I];
    for i in 0..I {
        wide[i] = values[i].to_f64();
    }
    wide
}

#[inline(always)]
pub fn narrow<A: Acc, const I: usize>(values: [f64; I]) -> [A; I] {
    let mut narrow = [A::default(); I];
    for i in 0..I {
        narrow[i] = A::from_f64(values[i]);
    }
    narrow
}

/// The `K` sums that `step` carries from element to element of `I` inputs of one length, each less
/// its shift, in [`LANES`] lanes that are then added pairwise.
#[inline(always)]
fn sums<A: Acc, const I: usize, const K: usize>(
    inputs: [&[A]; I],
    shifts: [A; I],
    step: impl Fn([A; K], [A; I]) -> [A; K],
) -> [f64; K] {
    let mut lanes = [[A::default(); LANES]; K];
    let len = inputs[0].len();
    let none = [A::default(); LANES];
    let mut tile = [&none; I];
    for t in 0..len / LANES {
        for i in 0..I {
            tile[i] = &inputs[i].as_chunks().0[t];
        }
        add(&mut lanes, tile, shifts, &step);
    }
    let rest = len % LANES;
    if rest > 0 {
        // Lanes without an element hold the shift itself and so add nothing.
        let mut last = [[A::default(); LANES]; I];
        for i in 0..I {
            last[i] = [shifts[i]; LANES];
            last[i][..rest].copy_from_slice(&inputs[i][len - rest..]);
        }
        add(&mut lanes, last.each_ref(), shifts, &step);
    }
    // A loop, not `map`: a closure would be compiled apart from it, for the baseline.
    let mut totals = [0.; K];
    for (total, lanes) in totals.iter_mut().zip(&lanes) {
        *total = pairwise(lanes).to_f64();
    }
    totals
}

/// Adds one value of each stream to the sums of every lane, each lane with shifts of its own.
#[inline(always)]
pub fn add_row<S: Simd, A: Acc, M: Measure<I, K>, const I: usize, const K: usize>(
    sums: &mut [Vec<A>; K],
    shifts: &[Vec<A>; I],
    row: [&[A]; I],
) {
    let len = row[0].len();
    // Slices of one length, so that the loop is free of checks and becomes vector code.
    let mut values = [&row[0][..0]; I];
    let mut shift = values;
    for i in 0..I {
        (values[i], shift[i]) = (&row[i][..len], &shifts[i][..len]);
    }
    let lanes = sums.each_mut().map(|lanes| &mut lanes[..len]);
    for lane in 0..len {
        let (mut sum, mut d) = ([A::default(); K], [A::default(); I]);
        for k in 0..K {
            sum[k] = lanes[k][lane];
        }
        for i in 0..I {
            d[i] = values[i][lane] - shift[i][lane];
        }
        let sum = M::step::<S, A>(sum, d);
        for k in 0..K {
            lanes[k][lane] = sum[k];
        }
    }
}

/// The sum of all lanes, halves added to halves.
#[inline(always)]
fn pairwise<A: Acc>(lanes: &[A; LANES]) -> A {
    macro_rules! halve {
        ($lanes:ident, $width:literal) => {{
            let mut half = [A::default(); $width];
            for lane in 0..$width {
                half[lane] = $lanes[lane] + $lanes[lane + $width];
            }
            half
        }};
    }
    let lanes = halve!(lanes, 16);
    let lanes = halve!(lanes, 8);
    let lanes = halve!(lanes, 4);
    let lanes = halve!(lanes, 2);
    lanes[0] + lanes[1]
}

#[inline(always)]
fn add<A: Acc, const I: usize, const K: usize>(
    lanes: &mut [[A; LANES]; K],
    tile: [&[A; LANES]; I],
    shifts: [A; I],
    step: impl Fn([A; K], [A; I]) -> [A; K],
) {
    for lane in 0..LANES {
        let (mut sums, mut values) = ([A::default(); K], shifts);
        for k in 0..K {
            sums[k] = lanes[k][lane];
        }
        for i in 0..I {
            values[i] = tile[i][lane] - shifts[i];
        }
        let sums = step(sums, values);
        for k in 0..K {
            lanes[k][lane] = sums[k];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::element::CHUNK;
    use crate::cpu::moments::CoMoments;
    use crate::cpu::simd::{Isa, Kernel};

    struct Of<'a>(&'a [f32], &'a [f32]);

    impl Kernel for Of<'_> {
        type Output = CoMoments;

        #[inline(always)]
        fn run<S: Simd>(self) -> CoMoments {
            let start = for_shift(self.0.len().min(CHUNK));
            let mut shifts = means([&self.0[..start], &self.1[..start]]);
            let mut total = CoMoments::default();
            for (x, g) in self.0.chunks(CHUNK).zip(self.1.chunks(CHUNK)) {
                total = total.merge(&measure::<S, f32, CoMoments, 2, 4>([x, g], shifts));
                shifts = narrow(total.means());
            }
            total
        }
    }

    /// A mean 1e6 deviations from 0, and a start that is far from it.
    fn samples(len: usize) -> (Vec<f32>, Vec<f32>) {
        let noise = |i: usize| (i * 7919 % 1009) as f32 / 504. - 1.;
        let x = (0..len).map(|i| 1e4 + 1e-2 * noise(i) + if i < 100 { 1. } else { 0. });
        let g = (0..len).map(|i| noise(3 * i + 1) - 5.);
        (x.collect(), g.collect())
    }

    #[test]
    fn every_instruction_set_agrees_with_two_passes_in_f64() {
        for len in [1, 2, 31, 32, 33, 255, CHUNK - 1, CHUNK + 1, 5 * CHUNK + 77] {
            let (x, g) = samples(len);
            let mean = |v: &[f32]| v.iter().map(|&v| v as f64).sum::<f64>() / len as f64;
            let (x_mean, g_mean) = (mean(&x), mean(&g));
            let (mut m2, mut cross) = (0., 0.);
            for (&x, &g) in x.iter().zip(&g) {
                m2 += (x as f64 - x_mean).powi(2);
                cross += (x as f64 - x_mean) * (g as f64 - g_mean);
            }
            for isa in Isa::available() {
                let got = isa.run(Of(&x, &g));
                let spread = (m2 / len as f64).sqrt();
                let close = |got: f64, want: f64, scale: f64| {
                    assert!(
                        (got - want).abs() <= 1e-6 * scale,
                        "{isa:?} {len}: {got} {want}"
                    );
                };
                close(got.x.n, len as f64, 0.);
                close(got.x.mean, x_mean, spread);
                close(got.x.m2, m2, m2);
                close(got.g_mean, g_mean, 1.);
                close(got.cross, cross, len as f64 * spread);
            }
        }
    }
}
