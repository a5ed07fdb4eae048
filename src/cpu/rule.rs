//! What follows from the statistics of a set of planes, in f64: scales, shifts and gradients.

use crate::args::{EpsMode, Norm, Rule, Second, Target};

/// `rstd` and `bend = -2 / rstd * d rstd / d var` of a set.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub rstd: f64,
    pub bend: f64,
}

impl Rule {
    /// From the biased variance of `n` elements.
    #[inline(always)]
    pub fn spread(&self, var: f64, n: f64) -> Spread {
        let k = self.factor(n);
        let var = k * var;
        match self.mode {
            EpsMode::AddToVar => {
                let rstd = 1. / (var + self.eps).sqrt();
                let bend = k * rstd * rstd;
                Spread { rstd, bend }
            }
            EpsMode::AddToStd => {
                let std = var.sqrt();
                let rstd = 1. / (std + self.eps);
                // A constant plane has no slope: its elements leave it in either direction.
                let bend = if std == 0. { 0. } else { k * rstd / std };
                Spread { rstd, bend }
            }
            EpsMode::MaxWithVar => {
                // In this order a NaN stays one.
                let clamped = if var < self.eps { self.eps } else { var };
                let rstd = 1. / clamped.sqrt();
                let bend = if var > self.eps { k * rstd * rstd } else { 0. };
                Spread { rstd, bend }
            }
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
    pub fn second(&self, which: Second, var: f64, n: f64) -> f64 {
        match which {
            Second::Var => self.factor(n) * var,
            Second::Std => 1. / self.spread(var, n).rstd,
            Second::Rstd => self.spread(var, n).rstd,
        }
    }

    /// Its derivative by the biased variance.
    fn slope(&self, which: Second, var: f64, n: f64) -> f64 {
        let Spread { rstd, bend } = self.spread(var, n);
        match which {
            Second::Var => self.factor(n),
            Second::Std => bend / (2. * rstd),
            Second::Rstd => -bend * rstd / 2.,
        }
    }
}

/// What the sums over a set of `n` elements say.
#[derive(Debug, Clone, Copy)]
pub struct SetStats {
    pub n: f64,
    pub mean: f64,
    pub var: f64,
}

impl Norm {
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
        let (scale, shift) = match self.target {
            Target::Output => (
                self.alpha * rstd * weight + (1. - self.alpha),
                self.alpha * bias + (1. - self.alpha) * set.mean,
            ),
            Target::StatsGradient(second) => (
                weight * self.rule.slope(second, set.var, set.n) * 2. / set.n,
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
            let rule = Rule {
                eps: 0.1,
                mode,
                correction,
            };
            for (var, n) in [(0.7, 9.), (3., 2.), (0.01, 5.)] {
                for which in [Second::Var, Second::Std, Second::Rstd] {
                    let h = 1e-6 * var;
                    let difference =
                        rule.second(which, var + h, n) - rule.second(which, var - h, n);
                    let (got, want) = (rule.slope(which, var, n), difference / (2. * h));
                    let what = format!("{rule:?} {which:?} {var} {n}");
                    assert!(
                        (got - want).abs() <= 1e-7 * want.abs() + 1e-8,
                        "{what}: {got} {want}"
                    );
                }
            }
        }
        let flat = Rule {
            eps: 1e-5,
            mode: EpsMode::AddToStd,
            correction: 0,
        };
        assert_eq!(flat.spread(0., 4.).bend, 0.);
    }
}
