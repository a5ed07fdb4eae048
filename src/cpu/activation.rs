//! Activations and their gradients, over registers.

use super::element::Acc;
use super::vector::{Single, Vector};
use crate::spec::Activation;

/// `activation(v)`
#[inline(always)]
pub fn activate<V: Vector<Item: Acc>>(activation: Activation, v: V) -> V {
    let zero = V::default();
    match activation {
        Activation::None => v,
        // NaN stays NaN.
        Activation::Relu => v.if_less(zero, zero, v),
        Activation::LeakyRelu(slope) => {
            let scaled = v * V::splat(Acc::from_f64(slope));
            zero.if_less(v, v, scaled)
        }
        Activation::Silu => v / (one::<V>() + (zero - v).exp()),
    }
}

/// `dy * activation'(v)`
#[inline(always)]
pub fn pull_back<V: Vector<Item: Acc>>(activation: Activation, dy: V, v: V) -> V {
    let zero = V::default();
    match activation {
        Activation::None => dy,
        Activation::Relu => zero.if_less(v, dy, zero),
        Activation::LeakyRelu(slope) => {
            let scaled = dy * V::splat(Acc::from_f64(slope));
            zero.if_less(v, dy, scaled)
        }
        Activation::Silu => {
            let one = one::<V>();
            let sigmoid = one / (one + (zero - v).exp());
            dy * (sigmoid * v.mul_add(one - sigmoid, one))
        }
    }
}

#[inline(always)]
fn one<V: Vector<Item: Acc>>() -> V {
    V::splat(Acc::from_f64(1.))
}

/// e^x within 2 ulp for |x| < 87; clamped beyond, where a sigmoid is 0 or 1. The polynomial is
/// Cephes' `expf`, of degree 5 after Cody and Waite's reduction.
#[inline(always)]
pub fn exp_f32<V: Single>(x: V) -> V {
    const LIMIT: f32 = 87.;
    const TO_INTEGER: f32 = 12582912.; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let [low, high] = [-LIMIT, LIMIT].map(V::splat);
    // NaN stays NaN.
    let clamped = x.if_less(low, low, x);
    let clamped = high.if_less(clamped, high, clamped);
    let to_integer = V::splat(TO_INTEGER);
    let shifted = clamped.mul_add(V::splat(std::f32::consts::LOG2_E), to_integer);
    let n = shifted - to_integer;
    let r = n.mul_add(V::splat(-LN2_HIGH), clamped);
    let r = n.mul_add(V::splat(-LN2_LOW), r);
    let mut p = V::splat(1.987_569_1e-4);
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
        1.,
        1.,
    ] {
        p = p.mul_add(r, V::splat(c));
    }
    // The integer is in the last bits of `shifted`.
    p.add_to_exponent(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Isa, Simd, SimdJob};
    use crate::cpu::vector::Part;

    struct Exp(f32);

    impl SimdJob for Exp {
        type Output = f32;

        #[inline(always)]
        fn run<S: Simd>(self) -> f32 {
            let mut first = 0.;
            // SAFETY: one lane is stored, to one number, in a job that runs where it may.
            unsafe {
                S::F32::splat(self.0)
                    .exp()
                    .store(&mut first, Part::First(1))
            };
            first
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for isa in Isa::available() {
            let mut worst = 0f64;
            for i in -870_000..=870_000 {
                let x = i as f32 * 1e-4;
                let want = (x as f64).exp();
                worst = worst.max((isa.run(Exp(x)) as f64 / want - 1.).abs());
            }
            assert!(worst < 2. * f32::EPSILON as f64, "{isa:?}: {worst:e}");
            assert!(isa.run(Exp(f32::NAN)).is_nan());
            assert!(isa.run(Exp(f32::NEG_INFINITY)) < 1e-37);
            assert!(isa.run(Exp(f32::INFINITY)) > 1e37);
        }
    }
}
