//! Floating-point rounding (9.7.3): to nearest even by the CPU, otherwise one step away from that,
//! by the sign of what it rounded off.

use half::{bf16, f16};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

impl Rounding {
    pub const MODIFIERS: [&str; 4] = ["rn", "rz", "rm", "rp"];
    pub const TO_INTEGER: [&str; 4] = ["rni", "rzi", "rmi", "rpi"];

    /// The mode at a place of either list.
    pub fn at(place: usize) -> Rounding {
        [Self::Nearest, Self::Zero, Self::Down, Self::Up][place]
    }

    /// The integer that `x` rounds to.
    pub fn integer(self, x: f64) -> f64 {
        match self {
            Self::Nearest => x.round_ties_even(),
            Self::Zero => x.trunc(),
            Self::Down => x.floor(),
            Self::Up => x.ceil(),
        }
    }
}

/// What add, mul, fma, div and sqrt leave to round.
pub trait Float: super::lanes::Lane {
    /// Steps from the nearest result by the sign of `exact - nearest`.
    fn step(self, sign: f64, rounding: Rounding) -> Self;
    fn add_rounded(self, other: Self, rounding: Rounding) -> Self;
    fn mul_rounded(self, other: Self, rounding: Rounding) -> Self;
    fn fma_rounded(self, b: Self, c: Self, rounding: Rounding) -> Self;
    fn div_rounded(self, other: Self, rounding: Rounding) -> Self;
    fn sqrt_rounded(self, rounding: Rounding) -> Self;
}

/// What the rounded sum of `a` and `b` leaves out (Knuth's two-sum).
fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let of_b = sum - a;
    (a - (sum - of_b)) + (b - of_b)
}

macro_rules! float {
    ($T:ty, $product_error:expr) => {
        impl Float for $T {
            fn step(self, sign: f64, rounding: Rounding) -> Self {
                // An overflow: the exact value is the smaller one.
                let sign = if self.is_infinite() { -self as f64 } else { sign };
                let (down, up) = match rounding {
                    Rounding::Nearest => (false, false),
                    Rounding::Zero => (self > 0., self < 0.),
                    Rounding::Down => (true, false),
                    Rounding::Up => (false, true),
                };
                match () {
                    _ if down && sign < 0. => self.next_down(),
                    _ if up && sign > 0. => self.next_up(),
                    _ => self,
                }
            }

            fn add_rounded(self, other: Self, rounding: Rounding) -> Self {
                let (nearest, wide) = (self + other, self as f64 + other as f64);
                let sign = (wide - nearest as f64) + sum_error(self as f64, other as f64, wide);
                if !(self.is_finite() && other.is_finite()) {
                    return nearest;
                }
                nearest.step(sign, rounding)
            }

            fn mul_rounded(self, other: Self, rounding: Rounding) -> Self {
                if !(self.is_finite() && other.is_finite()) {
                    return self * other;
                }
                (self * other).step($product_error(self, other, self * other), rounding)
            }

            fn fma_rounded(self, b: Self, c: Self, rounding: Rounding) -> Self {
                let nearest = self.mul_add(b, c);
                if !(self.is_finite() && b.is_finite() && c.is_finite()) {
                    return nearest;
                }
                let product = self as f64 * b as f64;
                let rest = (self as f64).mul_add(b as f64, -product);
                let sum = product + c as f64;
                let sign = (sum - nearest as f64) + (sum_error(product, c as f64, sum) + rest);
                nearest.step(sign, rounding)
            }

            fn div_rounded(self, other: Self, rounding: Rounding) -> Self {
                let nearest = self / other;
                if !(self.is_finite() && other.is_finite()) || other == 0. {
                    return nearest;
                }
                let rest = (-nearest as f64).mul_add(other as f64, self as f64);
                nearest.step(rest * (other as f64).signum(), rounding)
            }

            fn sqrt_rounded(self, rounding: Rounding) -> Self {
                let nearest = self.sqrt();
                if !self.is_finite() {
                    return nearest;
                }
                let rest = (-nearest as f64).mul_add(nearest as f64, self as f64);
                nearest.step(rest, rounding)
            }
        }
    };
}

float!(f32, |a: f32, b: f32, p: f32| a as f64 * b as f64 - p as f64);
float!(f64, |a: f64, b: f64, p: f64| a.mul_add(b, -p));

/// An f32 between which and `x` no half lies: the inexact ones get an odd last bit, so that
/// rounding once more is as good as rounding `x` (round to odd).
fn odd_f32(x: f64) -> f32 {
    let nearest = x as f32;
    if nearest as f64 == x || nearest.to_bits() & 1 == 1 || !nearest.is_finite() {
        return nearest;
    }
    if (nearest as f64) < x {
        nearest.next_up()
    } else {
        nearest.next_down()
    }
}

/// A floating-point type as numbers: its values are all f64 values.
pub trait Real: super::lanes::Lane {
    fn wide(self) -> f64;
    fn nearest(x: f64) -> Self;
}

impl Real for f16 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self.to_f32() as f64
    }
    #[inline(always)]
    fn nearest(x: f64) -> Self {
        f16::from_f32(odd_f32(x))
    }
}

impl Real for bf16 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self.to_f32() as f64
    }
    #[inline(always)]
    fn nearest(x: f64) -> Self {
        bf16::from_f32(odd_f32(x))
    }
}

impl Real for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn nearest(x: f64) -> Self {
        x as f32
    }
}

impl Real for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn nearest(x: f64) -> Self {
        x
    }
}

/// Replaces a subnormal by a zero of its sign (`.ftz`).
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0f32.copysign(x)
    } else {
        x
    }
}
