//! What follows from the statistics of a set of planes, in f64: scales, shifts and gradients.

use super::element::Acc;
use super::moments::Moments;
use crate::spec::{EpsMode, NormSpec, Output, RstdRule, ScaleStat};

/// `rstd` and `bend = -2 / rstd * d rstd / d var` of a set.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub rstd: f64,
    pub bend: f64,
}

impl RstdRule {
    /// Of x counted in the unit of the set. Without a deviation and without eps, rstd is 0: the
    /// normalized values of a constant plane are 0 whatever eps is.
    #[inline(always)]
    pub fn spread(&self, set: &SetStats) -> Spread {
        let k = self.factor(set.n);
        let (var, eps) = (k * set.var, self.eps_in(set.unit));
        match self.mode {
            EpsMode::AddToVar => {
                let rstd = reciprocal((var + eps).sqrt());
                let bend = k * rstd * rstd;
                Spread { rstd, bend }
            }
            EpsMode::AddToStd => {
                let std = var.sqrt();
                let rstd = reciprocal(std + eps);
                // A constant plane has no slope: its elements leave it in either direction.
                let bend = if std == 0. { 0. } else { k * rstd / std };
                Spread { rstd, bend }
            }
            EpsMode::MaxWithVar => {
                // In this order a NaN stays one.
                let clamped = if var < eps { eps } else { var };
                let rstd = reciprocal(clamped.sqrt());
                let bend = if var > eps { k * rstd * rstd } else { 0. };
                Spread { rstd, bend }
            }
        }
    }

    /// Eps beside a variance, or a deviation, in this unit.
    #[inline(always)]
    fn eps_in(&self, unit: f64) -> f64 {
        match self.mode {
            _ if unit == 1. => self.eps,
            EpsMode::AddToStd => self.eps / unit,
            // One after the other: the square of a unit may be infinite.
            EpsMode::AddToVar | EpsMode::MaxWithVar => self.eps / unit / unit,
        }
    }

    #[inline(always)]
    fn factor(&self, n: f64) -> f64 {
        match self.correction {
            0 => 1.,
            correction => n / (n - correction as f64),
        }
    }

    /// The statistic that comes with the mean.
    pub fn stat(&self, which: ScaleStat, set: &SetStats) -> f64 {
        let rstd = self.spread(set).rstd;
        match which {
            ScaleStat::Var => self.factor(set.n) * set.var * set.unit * set.unit,
            ScaleStat::Std if rstd == 0. && set.var == 0. => 0.,
            ScaleStat::Std => set.unit / rstd,
            ScaleStat::Rstd => rstd / set.unit,
        }
    }

    /// Its derivative by the biased variance, times the unit: what `x - mean` in that unit is
    /// multiplied by, apart from `2 / n`, for the derivative by x.
    fn slope(&self, which: ScaleStat, set: &SetStats) -> f64 {
        let Spread { rstd, bend } = self.spread(set);
        match which {
            ScaleStat::Var => self.factor(set.n) * set.unit,
            ScaleStat::Std if rstd == 0. => 0.,
            ScaleStat::Std => bend / (2. * rstd),
            ScaleStat::Rstd => -bend * rstd / 2. / set.unit / set.unit,
        }
    }
}

#[inline(always)]
fn reciprocal(v: f64) -> f64 {
    if v == 0. {
        0.
    } else {
        1. / v
    }
}

/// The statistics of a set of `n` elements.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetStats {
    pub n: f64,
    pub mean: f64,
    pub var: f64,
    /// What x, its mean and the root of its variance are counted in: 1, or more where the sums
    /// would overflow.
    pub unit: f64,
}

impl SetStats {
    /// From sums in numbers of type `A`.
    #[inline(always)]
    pub fn new<A: Acc>(m: &Moments, unit: f64) -> Self {
        let (var, noise) = (m.var(), m.mean * A::NOISE);
        Self {
            n: m.n,
            mean: m.mean,
            // Not `<=`, which an infinite variance would be, too.
            var: if var < noise * noise { 0. } else { var },
            unit,
        }
    }
}

impl NormSpec {
    /// The weight that counts, where the stored one is `w`.
    #[inline(always)]
    pub fn full_weight(&self, w: Option<f64>) -> f64 {
        w.map_or(1., |w| w + self.weight_offset)
    }

    /// The scale and the shift of `x - mean`, for a plane of the set: `rest` of the mean is left
    /// out of it.
    #[inline(always)]
    pub fn scale_and_shift(
        &self,
        set: &SetStats,
        rstd: f64,
        weight: f64,
        bias: f64,
        rest: f64,
    ) -> (f64, f64) {
        let (scale, shift) = match self.output {
            Output::Normalized => (
                self.alpha * rstd * weight + (1. - self.alpha) * set.unit,
                self.alpha * bias + (1. - self.alpha) * set.unit * set.mean,
            ),
            Output::StatsGradient(stat) => (
                weight * self.rule.slope(stat, set) * 2. / set.n,
                bias / set.n,
            ),
        };
        (scale, shift - rest * scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_statistics() {
        let modes = [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar];
        for (mode, correction) in modes.into_iter().flat_map(|m| [(m, 0), (m, 1)]) {
            let rule = RstdRule {
                eps: 0.1,
                mode,
                correction,
            };
            for (var, n) in [(0.7, 9.), (3., 2.), (0.01, 5.)] {
                for which in [ScaleStat::Var, ScaleStat::Std, ScaleStat::Rstd] {
                    let h = 1e-6 * var;
                    let set = |var| SetStats {
                        n,
                        mean: 0.,
                        var,
                        unit: 1.,
                    };
                    let difference =
                        rule.stat(which, &set(var + h)) - rule.stat(which, &set(var - h));
                    let (got, want) = (rule.slope(which, &set(var)), difference / (2. * h));
                    let what = format!("{rule:?} {which:?} {var} {n}");
                    assert!(
                        (got - want).abs() <= 1e-7 * want.abs() + 1e-8,
                        "{what}: {got} {want}"
                    );
                }
            }
        }
        let flat = RstdRule {
            eps: 1e-5,
            mode: EpsMode::AddToStd,
            correction: 0,
        };
        let set = SetStats {
            n: 4.,
            unit: 1.,
            ..SetStats::default()
        };
        assert_eq!(flat.spread(&set).bend, 0.);
    }
}
