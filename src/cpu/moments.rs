//! Means and centred sums of a plane, gathered chunk by chunk and merged.
//!
//! A chunk is summed once, as `x - shift` with the mean of everything before it as the shift. The
//! shift cancels a large mean exactly where it matters (`x - shift` is exact when the two are
//! within a factor of two), and what is left of the shift's own error, `sum(x - shift) / n`, is
//! carried into the f64 mean. Where a chunk's mean is far from the shift, the square that cancels
//! is at most twice what the merge adds to `m2` for that very distance (the chunks before hold no
//! fewer elements), so no relative accuracy is lost: one sweep is as good as two.

use super::element::Acc;
use super::simd::Simd;

/// Partial sums side by side: two AVX-512, four AVX2 or eight NEON registers of f32, enough to
/// hide the latency of an addition and few enough that four sums fit the register file.
pub const LANES: usize = 32;

/// What is measured of a plane: `K` sums over `I` streams of values, each less a shift near its
/// mean. The default is the measurement of nothing.
pub trait Measure<const I: usize, const K: usize>: Copy + Default + Send + Sync {
    /// The sums with one more value of each stream, less its shift.
    fn step<S: Simd, A: Acc>(sums: [A; K], d: [A; I]) -> [A; K];
    /// What `n` values with these sums amount to.
    fn from_sums(n: f64, shifts: [f64; I], sums: [f64; K]) -> Self;
    /// This and what comes after it.
    fn merge(&self, next: &Self) -> Self;
    fn means(&self) -> [f64; I];
}

/// `n` values with their mean and `m2 = sum((x - mean)^2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    pub n: f64,
    pub mean: f64,
    pub m2: f64,
}

impl Moments {
    /// The biased variance.
    #[inline(always)]
    pub fn var(&self) -> f64 {
        self.m2 / self.n
    }
}

impl Measure<1, 2> for Moments {
    #[inline(always)]
    fn step<S: Simd, A: Acc>([s, ss]: [A; 2], [d]: [A; 1]) -> [A; 2] {
        [s + d, S::mul_add(d, d, ss)]
    }

    #[inline(always)]
    fn from_sums(n: f64, [shift]: [f64; 1], [s, ss]: [f64; 2]) -> Self {
        // The reciprocal does not wait for the sums, as a division by n would.
        let off = s * (1. / n);
        Self {
            n,
            mean: shift + off,
            m2: at_least_zero(ss - s * off),
        }
    }

    /// Chan, Golub and LeVeque's update.
    #[inline(always)]
    fn merge(&self, next: &Self) -> Self {
        if self.n == 0. {
            return *next;
        }
        let n = self.n + next.n;
        let delta = next.mean - self.mean;
        let share = next.n / n;
        Self {
            n,
            mean: self.mean + delta * share,
            m2: self.m2 + next.m2 + delta * delta * self.n * share,
        }
    }

    #[inline(always)]
    fn means(&self) -> [f64; 1] {
        [self.mean]
    }
}

/// [`Moments`] of x beside the mean of g and `cross = sum((x - mean) * (g - g_mean))`: all that
/// the backward pass needs to know of a plane, from one sweep over both.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CoMoments {
    pub x: Moments,
    pub g_mean: f64,
    pub cross: f64,
}

impl Measure<2, 4> for CoMoments {
    #[inline(always)]
    fn step<S: Simd, A: Acc>([s, ss, t, st]: [A; 4], [d, e]: [A; 2]) -> [A; 4] {
        [s + d, S::mul_add(d, d, ss), t + e, S::mul_add(d, e, st)]
    }

    #[inline(always)]
    fn from_sums(n: f64, [shift, g_shift]: [f64; 2], [s, ss, t, st]: [f64; 4]) -> Self {
        let g_off = t * (1. / n);
        Self {
            x: Moments::from_sums(n, [shift], [s, ss]),
            g_mean: g_shift + g_off,
            cross: st - s * g_off,
        }
    }

    #[inline(always)]
    fn merge(&self, next: &Self) -> Self {
        if self.x.n == 0. {
            return *next;
        }
        let x = self.x.merge(&next.x);
        let g_delta = next.g_mean - self.g_mean;
        let share = next.x.n / x.n;
        Self {
            x,
            g_mean: self.g_mean + g_delta * share,
            cross: self.cross
                + next.cross
                + (next.x.mean - self.x.mean) * g_delta * self.x.n * share,
        }
    }

    #[inline(always)]
    fn means(&self) -> [f64; 2] {
        [self.x.mean, self.g_mean]
    }
}

/// A measurement that tells the moments of x, among others.
pub trait OfX {
    fn of_x(&self) -> Moments;
}

impl OfX for Moments {
    #[inline(always)]
    fn of_x(&self) -> Moments {
        *self
    }
}

impl OfX for CoMoments {
    #[inline(always)]
    fn of_x(&self) -> Moments {
        self.x
    }
}

/// Rounding can leave a hair below zero; NaN passes, where `f64::max` would swallow it.
fn at_least_zero(v: f64) -> f64 {
    if v < 0. {
        0.
    } else {
        v
    }
}

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

    #[test]
    fn an_empty_part_changes_nothing() {
        let m = Moments {
            n: 3.,
            mean: 2.,
            m2: 5.,
        };
        assert_eq!(Moments::default().merge(&m), m);
        let co = CoMoments {
            x: m,
            g_mean: 1.,
            cross: -2.,
        };
        assert_eq!(CoMoments::default().merge(&co), co);
    }
}
