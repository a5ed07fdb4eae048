//! Means and centred sums of a plane, gathered chunk by chunk and merged.
//!
//! A chunk is summed once, as `x - shift` with the mean of everything before it as the shift. The
//! shift cancels a large mean exactly where it matters (`x - shift` is exact when the two are
//! within a factor of two), and what is left of the shift's own error, `sum(x - shift) / n`, is
//! carried into the f64 mean. Where a chunk's mean is far from the shift, the square that cancels
//! is at most twice what the merge adds to `m2` for that very distance (the chunks before hold no
//! fewer elements), so no relative accuracy is lost: one sweep is as good as two.

use super::element::Acc;
use super::vector::Vector;

/// The measurements of a plane's values, from sums of each value less a shift near their mean. The
/// default is the measurement of nothing.
///
/// There are two streams of values at most, x and g, and two sums for each: `sum(d)` and
/// `sum(d * d)` of x, `sum(e)` and `sum(d * e)` of g, where `d = x - shift` and `e = g - g_shift`.
pub trait Measure: Copy + Default + Send + Sync {
    /// 1 where x alone is measured: what arrays have for g is then unused.
    const STREAMS: usize;

    /// The sums with one more value of each stream, less its shift.
    fn step<V: Vector>(sums: [V; 4], values: [V; 2]) -> [V; 4];
    /// The measurements of `n` values with these sums.
    fn from_sums(n: f64, shifts: [f64; 2], sums: [f64; 4]) -> Self;
    /// The measurements of these values and the `next` ones together.
    #[inline(always)]
    fn merge(&self, next: &Self) -> Self {
        let (n, more) = (self.x().n, next.x().n);
        if n == 0. {
            return *next;
        }
        self.merge_with(next, more / (n + more))
    }

    /// [`merge`](Self::merge), where it is known which share of all values are the `next` ones.
    fn merge_with(&self, next: &Self, share_of_next: f64) -> Self;
    fn means(&self) -> [f64; 2];
    fn x(&self) -> Moments;
    /// The measurements of which these are the [`fields`](Self::fields).
    fn from_fields(fields: [f64; FIELDS]) -> Self;
    /// The numbers, in units of 1, as an array: `1 + 2 * STREAMS` of them, and zeros.
    fn fields(&self) -> [f64; FIELDS];
}

/// The most numbers of a measurement.
pub const FIELDS: usize = 5;

/// `n` values with their mean and `m2 = sum((x - mean)^2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    pub n: f64,
    pub mean: f64,
    pub m2: f64,
    /// The unit of x, the mean and the root of `m2`: 1, or more where squares of x would overflow.
    pub unit: f64,
}

impl Moments {
    /// The biased variance.
    #[inline(always)]
    pub fn var(&self) -> f64 {
        self.m2 / self.n
    }

    /// Clears a variance that is no more than rounding leaves of equal values.
    #[inline(always)]
    pub fn without_noise<A: Acc>(self) -> Self {
        let noise = self.mean * A::NOISE;
        // Not `<=`, which an infinite variance would be, too.
        if self.m2 < noise * noise * self.n {
            return Self { m2: 0., ..self };
        }
        self
    }
}

impl Measure for Moments {
    const STREAMS: usize = 1;

    #[inline(always)]
    fn step<V: Vector>([s, ss, t, st]: [V; 4], [d, _]: [V; 2]) -> [V; 4] {
        [s + d, d.mul_add(d, ss), t, st]
    }

    #[inline(always)]
    fn from_sums(n: f64, [shift, _]: [f64; 2], [s, ss, ..]: [f64; 4]) -> Self {
        // The reciprocal does not wait for the sums, as a division by n would.
        let off = s * (1. / n);
        Self {
            n,
            mean: shift + off,
            m2: at_least_zero(ss - s * off),
            unit: 1.,
        }
    }

    /// Chan, Golub and LeVeque's update.
    #[inline(always)]
    fn merge_with(&self, next: &Self, share_of_next: f64) -> Self {
        let delta = next.mean - self.mean;
        Self {
            n: self.n + next.n,
            mean: self.mean + delta * share_of_next,
            m2: self.m2 + next.m2 + delta * delta * self.n * share_of_next,
            unit: self.unit,
        }
    }

    #[inline(always)]
    fn means(&self) -> [f64; 2] {
        [self.mean, 0.]
    }

    #[inline(always)]
    fn x(&self) -> Moments {
        *self
    }

    #[inline(always)]
    fn from_fields([n, mean, m2, ..]: [f64; FIELDS]) -> Self {
        let unit = 1.;
        Self { n, mean, m2, unit }
    }

    #[inline(always)]
    fn fields(&self) -> [f64; FIELDS] {
        [self.n, self.mean, self.m2, 0., 0.]
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

impl Measure for CoMoments {
    const STREAMS: usize = 2;

    #[inline(always)]
    fn step<V: Vector>([s, ss, t, st]: [V; 4], [d, e]: [V; 2]) -> [V; 4] {
        [s + d, d.mul_add(d, ss), t + e, d.mul_add(e, st)]
    }

    #[inline(always)]
    fn from_sums(n: f64, [shift, g_shift]: [f64; 2], [s, ss, t, st]: [f64; 4]) -> Self {
        let g_off = t * (1. / n);
        Self {
            x: Moments::from_sums(n, [shift, 0.], [s, ss, 0., 0.]),
            g_mean: g_shift + g_off,
            cross: st - s * g_off,
        }
    }

    #[inline(always)]
    fn merge_with(&self, next: &Self, share_of_next: f64) -> Self {
        let g_delta = next.g_mean - self.g_mean;
        Self {
            x: self.x.merge_with(&next.x, share_of_next),
            g_mean: self.g_mean + g_delta * share_of_next,
            cross: self.cross
                + next.cross
                + (next.x.mean - self.x.mean) * g_delta * self.x.n * share_of_next,
        }
    }

    #[inline(always)]
    fn means(&self) -> [f64; 2] {
        [self.x.mean, self.g_mean]
    }

    #[inline(always)]
    fn x(&self) -> Moments {
        self.x
    }

    #[inline(always)]
    fn from_fields(fields: [f64; FIELDS]) -> Self {
        let [.., g_mean, cross] = fields;
        let x = Moments::from_fields(fields);
        Self { x, g_mean, cross }
    }

    #[inline(always)]
    fn fields(&self) -> [f64; FIELDS] {
        let [n, mean, m2, ..] = self.x.fields();
        [n, mean, m2, self.g_mean, self.cross]
    }
}

/// Rounding can leave a hair below zero; NaN passes, where `f64::max` would swallow it.
fn at_least_zero(v: f64) -> f64 {
    if v < 0. { 0. } else { v }
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
            unit: 1.,
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
