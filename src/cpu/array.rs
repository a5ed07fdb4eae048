//! Registers as arrays, for every processor: what the compiler makes of them are SSE2 or NEON
//! instructions.

#![allow(clippy::needless_range_loop)] // Lanes are counted alike in several arrays.

use super::half;
use super::vector::{Part, Single, Vector, copy_in, copy_out};
use std::ops::{Add, Div, Mul, Sub};

/// A register of `N` lanes.
#[derive(Clone, Copy)]
pub struct Array<A, const N: usize>([A; N]);

macro_rules! operators {
    ($item:ident; $($op:ident, $f:ident);*) => {$(
        impl<const N: usize> $op for Array<$item, N> {
            type Output = Self;

            #[inline(always)]
            fn $f(mut self, other: Self) -> Self {
                for lane in 0..N {
                    self.0[lane] = self.0[lane].$f(other.0[lane]);
                }
                self
            }
        }
    )*};
}

macro_rules! array {
    ($item:ident, $exp:expr) => {
        operators!($item; Add, add; Sub, sub; Mul, mul; Div, div);

        impl<const N: usize> Default for Array<$item, N> {
            #[inline(always)]
            fn default() -> Self {
                Self([0.; N])
            }
        }

        impl<const N: usize> Vector for Array<$item, N> {
            type Item = $item;
            const LEN: usize = N;

            #[inline(always)]
            fn splat(v: $item) -> Self {
                Self([v; N])
            }

            #[inline(always)]
            fn mul_add(mut self, b: Self, c: Self) -> Self {
                for lane in 0..N {
                    self.0[lane] = if cfg!(target_arch = "aarch64") {
                        self.0[lane].mul_add(b.0[lane], c.0[lane])
                    } else {
                        // Without the instruction `mul_add` is a call into libm.
                        self.0[lane] * b.0[lane] + c.0[lane]
                    };
                }
                self
            }

            #[inline(always)]
            fn if_less(mut self, bound: Self, then: Self, otherwise: Self) -> Self {
                for lane in 0..N {
                    let less = self.0[lane] < bound.0[lane];
                    self.0[lane] = if less { then.0[lane] } else { otherwise.0[lane] };
                }
                self
            }

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }

            #[inline(always)]
            fn sums(mut of: [Self; 4]) -> [f64; 4] {
                let mut sums = [0.; 4];
                for (sum, v) in sums.iter_mut().zip(&mut of) {
                    let mut width = N / 2;
                    while width > 0 {
                        for lane in 0..width {
                            v.0[lane] += v.0[lane + width];
                        }
                        width /= 2;
                    }
                    *sum = v.0[0].into();
                }
                sums
            }

            #[inline(always)]
            fn first(mut self, n: usize, rest: Self) -> Self {
                for lane in n..N {
                    self.0[lane] = rest.0[lane];
                }
                self
            }

            #[inline(always)]
            unsafe fn load(from: *const $item, part: Part) -> Self {
                // SAFETY: promised by the caller.
                Self(unsafe { copy_in(from, part) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $item, part: Part) {
                // SAFETY: promised by the caller.
                unsafe { copy_out(&self.0, to, part) }
            }

            #[inline(always)]
            unsafe fn stream(self, to: *mut $item) {
                // SAFETY: promised by the caller.
                unsafe { self.store(to, Part::Whole) }
            }
        }
    };
}

array!(f32, super::activation::exp_f32);
array!(f64, |mut v: Self| {
    for lane in &mut v.0 {
        *lane = lane.exp();
    }
    v
});

/// `2 * N` words of 16 bits are `N` of 32, an even and an odd one in each.
type Words<const N: usize> = [[u16; 2]; N];

impl<const N: usize> Single for Array<f32, N> {
    type Halves = [u16; N];
    type Words = Words<N>;

    #[inline(always)]
    unsafe fn load_halves(from: *const u16, part: Part) -> [u16; N] {
        // SAFETY: promised by the caller.
        unsafe { copy_in(from, part) }
    }

    #[inline(always)]
    unsafe fn store_halves(halves: [u16; N], to: *mut u16, part: Part) {
        // SAFETY: promised by the caller.
        unsafe { copy_out(&halves, to, part) }
    }

    #[inline(always)]
    unsafe fn stream_halves(halves: [u16; N], to: *mut u16) {
        // SAFETY: promised by the caller.
        unsafe { copy_out(&halves, to, Part::Whole) }
    }

    #[inline(always)]
    fn widen(halves: [u16; N]) -> Self {
        let mut wide = [0.; N];
        for lane in 0..N {
            wide[lane] = half::widen_f16(halves[lane]);
        }
        Self(wide)
    }

    #[inline(always)]
    fn narrow(self) -> [u16; N] {
        let mut halves = [0; N];
        for lane in 0..N {
            halves[lane] = half::narrow_f16(self.0[lane]);
        }
        halves
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u16, part: Part) -> Words<N> {
        let mut words = [[0; 2]; N];
        let count = match part {
            Part::Whole => 2 * N,
            Part::First(n) => n,
        };
        for (i, word) in words.as_flattened_mut().iter_mut().enumerate().take(count) {
            // SAFETY: promised by the caller: there are `count`.
            *word = unsafe { *from.add(i) };
        }
        words
    }

    #[inline(always)]
    unsafe fn store_words(words: Words<N>, to: *mut u16, part: Part) {
        let count = match part {
            Part::Whole => 2 * N,
            Part::First(n) => n,
        };
        for (i, word) in words.as_flattened().iter().enumerate().take(count) {
            // SAFETY: promised by the caller: there are `count`.
            unsafe { to.add(i).write(*word) };
        }
    }

    #[inline(always)]
    unsafe fn stream_words(words: Words<N>, to: *mut u16) {
        // SAFETY: promised by the caller.
        unsafe { Self::store_words(words, to, Part::Whole) }
    }

    #[inline(always)]
    fn split(words: Words<N>) -> [Self; 2] {
        let [mut even, mut odd] = [[0.; N]; 2];
        for lane in 0..N {
            even[lane] = half::widen_bf16(words[lane][0]);
            odd[lane] = half::widen_bf16(words[lane][1]);
        }
        [Self(even), Self(odd)]
    }

    #[inline(always)]
    fn join([even, odd]: [Self; 2]) -> Words<N> {
        let mut words = [[0; 2]; N];
        for lane in 0..N {
            words[lane] = [even.0[lane], odd.0[lane]].map(half::narrow_bf16);
        }
        words
    }

    #[inline(always)]
    fn unzip([a, b]: [Self; 2]) -> [Self; 2] {
        let at = |i: usize| if i < N { a.0[i] } else { b.0[i - N] };
        let [mut even, mut odd] = [[0.; N]; 2];
        for lane in 0..N {
            even[lane] = at(2 * lane);
            odd[lane] = at(2 * lane + 1);
        }
        [Self(even), Self(odd)]
    }

    #[inline(always)]
    fn zip(pair: [Self; 2]) -> [Self; 2] {
        let [mut a, mut b] = [[0.; N]; 2];
        for lane in 0..N {
            a[lane] = pair[lane % 2].0[lane / 2];
            b[lane] = pair[lane % 2].0[(lane + N) / 2];
        }
        [Self(a), Self(b)]
    }

    #[inline(always)]
    fn add_to_exponent(mut self, n: Self) -> Self {
        for lane in 0..N {
            let bits = self.0[lane].to_bits();
            self.0[lane] = f32::from_bits(bits.wrapping_add(n.0[lane].to_bits() << 23));
        }
        self
    }
}
