//! rstd and the coefficients that follow from the moments of a group, in f64.

use super::moments::Moments;
use crate::spec::{EpsMode, NormSpec, Output, RstdRule, ScaleStat};

impl RstdRule {
    /// rstd of x counted in the unit of its group, and its slope, `-2 * d rstd / d var / rstd`,
    /// which is `rstd^2` for the usual rule. Without a deviation and without eps, rstd is 0: the
    /// normalized values of a constant plane are 0 whatever eps is.
    #[inline(always)]
    pub fn rstd_and_slope(&self, of: &Moments) -> (f64, f64) {
        let k = self.bessel(of.n);
        let (var, eps) = (k * of.var(), self.eps_in(of.unit));
        match self.mode {
            EpsMode::AddToVar => {
                let rstd = reciprocal((var + eps).sqrt());
                (rstd, k * rstd * rstd)
            }
            EpsMode::AddToStd => {
                let std = var.sqrt();
                let rstd = reciprocal(std + eps);
                // A constant plane has no slope: its elements leave it in either direction.
                (rstd, if std == 0. { 0. } else { k * rstd / std })
            }
            EpsMode::MaxWithVar => {
                // In this order a NaN stays one.
                let clamped = if var < eps { eps } else { var };
                let rstd = reciprocal(clamped.sqrt());
                (rstd, if var > eps { k * rstd * rstd } else { 0. })
            }
        }
    }

    /// eps in the unit of the variance, or of the deviation, that it is added to.
    #[inline(always)]
    fn eps_in(&self, unit: f64) -> f64 {
        match self.mode {
            _ if unit == 1. => self.eps,
            EpsMode::AddToStd => self.eps / unit,
            // One after the other: the square of a unit may be infinite.
            EpsMode::AddToVar | EpsMode::MaxWithVar => self.eps / unit / unit,
        }
    }

    /// The variance that counts, divided by the biased one.
    #[inline(always)]
    fn bessel(&self, n: f64) -> f64 {
        match self.correction {
            0 => 1.,
            correction => n / (n - correction as f64),
        }
    }

    /// The statistic that comes with the mean.
    pub fn stat(&self, which: ScaleStat, of: &Moments) -> f64 {
        let (rstd, _) = self.rstd_and_slope(of);
        match which {
            ScaleStat::Var => self.bessel(of.n) * of.var() * of.unit * of.unit,
            ScaleStat::Std if rstd == 0. && of.var() == 0. => 0.,
            ScaleStat::Std => of.unit / rstd,
            ScaleStat::Rstd => rstd / of.unit,
        }
    }

    /// The derivative of the statistic by the biased variance, times the unit: apart from `2 / n`,
    /// the factor of `x - mean`, in that unit, in the derivative by x.
    fn stat_slope(&self, which: ScaleStat, of: &Moments) -> f64 {
        let (rstd, rstd_slope) = self.rstd_and_slope(of);
        match which {
            ScaleStat::Var => self.bessel(of.n) * of.unit,
            ScaleStat::Std if rstd == 0. => 0.,
            ScaleStat::Std => rstd_slope / (2. * rstd),
            ScaleStat::Rstd => -rstd_slope * rstd / 2. / of.unit / of.unit,
        }
    }
}

#[inline(always)]
fn reciprocal(v: f64) -> f64 {
    if v == 0. { 0. } else { 1. / v }
}

impl NormSpec {
    /// The scale and the shift of `x - mean` for a plane of a group, where `rest` is the part of
    /// the group's mean that is not in `mean`.
    #[inline(always)]
    pub fn scale_and_shift(
        &self,
        group: &Moments,
        rstd: f64,
        weight: f64,
        bias: f64,
        rest: f64,
    ) -> (f64, f64) {
        let (scale, shift) = match self.output {
            Output::Normalized => (
                self.alpha * rstd * weight + (1. - self.alpha) * group.unit,
                self.alpha * bias + (1. - self.alpha) * group.unit * group.mean,
            ),
            Output::StatsGradient(stat) => (
                weight * self.rule.stat_slope(stat, group) * 2. / group.n,
                bias / group.n,
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
                    let group = |var| Moments {
                        n,
                        mean: 0.,
                        m2: var * n,
                        unit: 1.,
                    };
                    let difference =
                        rule.stat(which, &group(var + h)) - rule.stat(which, &group(var - h));
                    let (got, want) = (rule.stat_slope(which, &group(var)), difference / (2. * h));
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
        let group = Moments {
            n: 4.,
            unit: 1.,
            ..Moments::default()
        };
        assert_eq!(flat.rstd_and_slope(&group).1, 0.);
    }
}
