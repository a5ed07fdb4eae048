//! Activations and their gradients, over slices.

use super::element::Acc;
use super::simd::Simd;
use crate::spec::Activation;

/// Compiles `$loop` for each activation, called `$f` in it: a choice within the loop would keep the
/// loop from becoming vector code.
macro_rules! with_activation {
    ($activation:expr, $f:ident => $loop:expr) => {{
        use $crate::cpu::activation::{leaky_relu, relu, silu};
        match $activation {
            Activation::None => {
                let $f = |v| v;
                $loop
            }
            Activation::Relu => {
                let $f = relu;
                $loop
            }
            Activation::LeakyRelu(slope) => {
                let slope = Acc::from_f64(slope);
                let $f = |v| leaky_relu(v, slope);
                $loop
            }
            Activation::Silu => {
                let $f = silu::<S, _>;
                $loop
            }
        }
    }};
}
pub(super) use with_activation;

#[inline(always)]
pub fn relu<A: Acc>(v: A) -> A {
    // NaN stays NaN.
    if v < A::default() { A::default() } else { v }
}

#[inline(always)]
pub fn leaky_relu<A: Acc>(v: A, slope: A) -> A {
    if v > A::default() { v } else { v * slope }
}

#[inline(always)]
pub fn silu<S: Simd, A: Acc>(v: A) -> A {
    v / (A::from_f64(1.) + A::exp::<S>(A::default() - v))
}

/// `v = dy * activation'(v)`
#[inline(always)]
pub fn pull_back<S: Simd, A: Acc>(activation: Activation, dy: &[A], v: &mut [A]) {
    let (zero, one) = (A::default(), A::from_f64(1.));
    match activation {
        Activation::None => v.copy_from_slice(dy),
        Activation::Relu => {
            for (v, &dy) in v.iter_mut().zip(dy) {
                *v = if *v > zero { dy } else { zero };
            }
        }
        Activation::LeakyRelu(slope) => {
            let slope = A::from_f64(slope);
            for (v, &dy) in v.iter_mut().zip(dy) {
                *v = if *v > zero { dy } else { dy * slope };
            }
        }
        Activation::Silu => {
            for (v, &dy) in v.iter_mut().zip(dy) {
                let s = sigmoid::<S, A>(*v);
                *v = dy * (s * S::mul_add(*v, one - s, one));
            }
        }
    }
}

#[inline(always)]
fn sigmoid<S: Simd, A: Acc>(v: A) -> A {
    let one = A::from_f64(1.);
    one / (one + A::exp::<S>(A::default() - v))
}

/// e^x within 2 ulp for |x| < 87, in arithmetic that becomes vector code; clamped beyond, where a
/// sigmoid is 0 or 1. The polynomial is Cephes' `expf`, of degree 5 after Cody and Waite's
/// reduction.
#[inline(always)]
pub fn exp_f32<S: Simd>(x: f32) -> f32 {
    const TO_INTEGER: f32 = 12582912.; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87. { -87. } else { x };
    let clamped = if clamped > 87. { 87. } else { clamped };
    let shifted = S::mul_add(clamped, std::f32::consts::LOG2_E, TO_INTEGER);
    let n = shifted - TO_INTEGER;
    let r = S::mul_add(n, -LN2_HIGH, clamped);
    let r = S::mul_add(n, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
        1.,
        1.,
    ] {
        p = S::mul_add(p, r, c);
    }
    // The integer is in the low bits of `shifted`; added to the exponent it multiplies by 2^n.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Isa, SimdJob};

    struct Exp(f32);

    impl SimdJob for Exp {
        type Output = f32;

        #[inline(always)]
        fn run<S: Simd>(self) -> f32 {
            exp_f32::<S>(self.0)
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
