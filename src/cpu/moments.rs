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

#[cfg(test)]
mod tests {
    use super::*;

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
