//! Means and centred sums of a plane, gathered chunk by chunk and merged.
//!
//! A chunk is summed once, as `x - shift` with the mean of everything before it as the shift. The
//! shift cancels a large mean exactly where it matters (`x - shift` is exact when the two are
//! within a factor of two), and what is left of the shift's own error, `sum(x - shift) / n`, is
//! carried into the f64 mean. Where a chunk's mean is far from the shift, the square that cancels
//! is at most twice what the merge adds to `m2` for that very distance (the chunks before hold no
//! fewer elements), so no relative accuracy is lost: one sweep is as good as two.

use super::element::{Acc, Element, Scratch, CHUNK};
use super::simd::Simd;
use super::sweep::Merge;

/// Partial sums side by side: two AVX-512, four AVX2 or eight NEON registers of f32, enough to
/// hide the latency of an addition and few enough that four sums fit the register file.
const LANES: usize = 32;

/// `n` values with their mean and `m2 = sum((x - mean)^2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    pub n: f64,
    pub mean: f64,
    pub m2: f64,
}

impl Moments {
    /// The biased variance.
    pub fn var(&self) -> f64 {
        self.m2 / self.n
    }

    /// The moments of `x`, given a value [near the mean](near_mean) of its start.
    #[inline(always)]
    pub fn of<S: Simd, T: Element>(
        x: &[T],
        mut shift: T::Acc,
        scratch: &mut Scratch<T::Acc>,
    ) -> Self {
        let mut total = Self::default();
        for chunk in x.chunks(CHUNK) {
            let x = T::widen::<S>(chunk, scratch);
            let [s, ss] = sums([x], [shift], |[s, ss], [d]| [s + d, S::mul_add(d, d, ss)]);
            // The reciprocal does not wait for the sums, as a division by n would.
            let n = x.len() as f64;
            let off = s * (1. / n);
            total = total.merge(&Self {
                n,
                mean: shift.to_f64() + off,
                m2: at_least_zero(ss - s * off),
            });
            shift = Acc::from_f64(total.mean);
        }
        total
    }
}

impl Merge for Moments {
    /// Chan, Golub and LeVeque's update.
    #[inline(always)]
    fn merge(&self, other: &Self) -> Self {
        if self.n == 0. {
            return *other;
        }
        let n = self.n + other.n;
        let delta = other.mean - self.mean;
        let share = other.n / n;
        Self {
            n,
            mean: self.mean + delta * share,
            m2: self.m2 + other.m2 + delta * delta * self.n * share,
        }
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

impl CoMoments {
    #[inline(always)]
    pub fn of<S: Simd, T: Element>(
        x: &[T],
        g: &[T],
        (mut shift, mut g_shift): (T::Acc, T::Acc),
        [scratch_x, scratch_g]: &mut [Scratch<T::Acc>; 2],
    ) -> Self {
        let mut total = Self::default();
        for (x, g) in x.chunks(CHUNK).zip(g.chunks(CHUNK)) {
            let (x, g) = (T::widen::<S>(x, scratch_x), T::widen::<S>(g, scratch_g));
            let [s, ss, t, st] = sums([x, g], [shift, g_shift], |[s, ss, t, st], [d, e]| {
                [s + d, S::mul_add(d, d, ss), t + e, S::mul_add(d, e, st)]
            });
            let n = x.len() as f64;
            let (off, g_off) = (s * (1. / n), t * (1. / n));
            total = total.merge(&Self {
                x: Moments {
                    n,
                    mean: shift.to_f64() + off,
                    m2: at_least_zero(ss - s * off),
                },
                g_mean: g_shift.to_f64() + g_off,
                cross: st - s * g_off,
            });
            (shift, g_shift) = (Acc::from_f64(total.x.mean), Acc::from_f64(total.g_mean));
        }
        total
    }
}

impl Merge for CoMoments {
    #[inline(always)]
    fn merge(&self, other: &Self) -> Self {
        if self.x.n == 0. {
            return *other;
        }
        let x = self.x.merge(&other.x);
        let g_delta = other.g_mean - self.g_mean;
        let share = other.x.n / x.n;
        Self {
            x,
            g_mean: self.g_mean + g_delta * share,
            cross: self.cross
                + other.cross
                + (other.x.mean - self.x.mean) * g_delta * self.x.n * share,
        }
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

/// The mean of the first eighth of the first chunk of `x`: the shift that its moments start from.
///
/// The square of its distance from the chunk's mean is at most 7 times the chunk's variance
/// (7/8 and 1/8 apart by any distance vary by 7/64 of its square at least), so cancelling it costs
/// the variance 3 bits at the very worst, and an eighth of the work of the exact mean.
#[inline(always)]
pub fn near_mean<S: Simd, T: Element>(x: &[T], scratch: &mut Scratch<T::Acc>) -> T::Acc {
    let eighth = x.len().min(CHUNK).div_ceil(8).next_multiple_of(LANES);
    let x = T::widen::<S>(&x[..x.len().min(eighth)], scratch);
    let [s] = sums([x], [T::Acc::default()], |[s], [d]| [s + d]);
    Acc::from_f64(s * (1. / x.len() as f64))
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
    use crate::cpu::simd::{Isa, Kernel};

    struct Of<'a>(&'a [f32], &'a [f32]);

    impl Kernel for Of<'_> {
        type Output = CoMoments;

        #[inline(always)]
        fn run<S: Simd>(self) -> CoMoments {
            let mut scratch = [Vec::new(), Vec::new()];
            let shift = near_mean::<S, f32>(self.0, &mut scratch[0]);
            let g_shift = near_mean::<S, f32>(self.1, &mut scratch[1]);
            CoMoments::of::<S, f32>(self.0, self.1, (shift, g_shift), &mut scratch)
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
