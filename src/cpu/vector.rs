//! Registers of numbers: what a loop computes on, whatever the instruction set.

use super::half;
use std::ops::{Add, Div, Mul, Sub};

/// The elements of a register that there are in memory: at the end of a plane fewer than it has.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    Whole,
    /// So many, at least one; what is loaded has zeros for the rest.
    First(usize),
}

/// A register of f32 or f64.
///
/// # Safety of the methods
///
/// The pointers of `load`, `store` and `stream`, here and in [`Single`], are to as many elements as
/// `Part` says, or as the register has; they need not be aligned, but for `stream`. The processor has
/// the instructions of the register's set: a register comes into being in a job for that set alone,
/// see [`Simd`](super::simd::Simd).
pub trait Vector:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    type Item: Copy;
    const LEN: usize;

    fn splat(v: Self::Item) -> Self;
    /// `self * b + c`, rounded once where that is one instruction.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// In every lane, `then` where `self < bound`, else `otherwise`.
    fn if_less(self, bound: Self, then: Self, otherwise: Self) -> Self;
    fn exp(self) -> Self;
    /// The sum of all lanes, halves added to halves.
    fn sum(self) -> Self::Item;
    /// The first `n` lanes, and those of `rest` behind them.
    fn first(self, n: usize, rest: Self) -> Self;

    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn load(from: *const Self::Item, part: Part) -> Self;
    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn store(self, to: *mut Self::Item, part: Part);
    /// Stores past the caches; other threads see it after [`Simd::fence`](super::simd::Simd::fence).
    ///
    /// # Safety
    ///
    /// See [`Vector`]; `to` is aligned to the size of the register.
    unsafe fn stream(self, to: *mut Self::Item);
}

/// A register of f32, which numbers of 16 bits are widened to.
pub trait Single: Vector<Item = f32> {
    /// As many numbers of 16 bits.
    type Bits: Copy;

    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn load_bits(from: *const u16, part: Part) -> Self::Bits;
    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn store_bits(bits: Self::Bits, to: *mut u16, part: Part);
    /// [`Vector::stream`] of as many bits.
    ///
    /// # Safety
    ///
    /// See [`Vector`]; `to` is aligned to the size of the register of bits.
    unsafe fn stream_bits(bits: Self::Bits, to: *mut u16);

    fn from_f16(bits: Self::Bits) -> Self;
    fn from_bf16(bits: Self::Bits) -> Self;
    /// Rounded to nearest even; small numbers become subnormal ones, a NaN stays one.
    fn to_f16(self) -> Self::Bits;
    /// As [`to_f16`](Self::to_f16).
    fn to_bf16(self) -> Self::Bits;

    /// `self * 2^n`, for an integer n in the last bits of `n`.
    fn add_to_exponent(self, n: Self) -> Self;
}

/// A register as an array: what the compiler makes of it are SSE2 or NEON instructions.
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
            fn sum(mut self) -> $item {
                let mut width = N / 2;
                while width > 0 {
                    for lane in 0..width {
                        self.0[lane] += self.0[lane + width];
                    }
                    width /= 2;
                }
                self.0[0]
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

impl<const N: usize> Array<f32, N> {
    #[inline(always)]
    fn from_bits(bits: [u16; N], widen: impl Fn(u16) -> f32) -> Self {
        let mut wide = [0.; N];
        for lane in 0..N {
            wide[lane] = widen(bits[lane]);
        }
        Self(wide)
    }

    #[inline(always)]
    fn to_bits(self, narrow: impl Fn(f32) -> u16) -> [u16; N] {
        let mut bits = [0; N];
        for lane in 0..N {
            bits[lane] = narrow(self.0[lane]);
        }
        bits
    }
}

impl<const N: usize> Single for Array<f32, N> {
    type Bits = [u16; N];

    #[inline(always)]
    unsafe fn load_bits(from: *const u16, part: Part) -> [u16; N] {
        // SAFETY: promised by the caller.
        unsafe { copy_in(from, part) }
    }

    #[inline(always)]
    unsafe fn store_bits(bits: [u16; N], to: *mut u16, part: Part) {
        // SAFETY: promised by the caller.
        unsafe { copy_out(&bits, to, part) }
    }

    #[inline(always)]
    unsafe fn stream_bits(bits: [u16; N], to: *mut u16) {
        // SAFETY: promised by the caller.
        unsafe { copy_out(&bits, to, Part::Whole) }
    }

    #[inline(always)]
    fn from_f16(bits: [u16; N]) -> Self {
        Self::from_bits(bits, half::widen_f16)
    }

    #[inline(always)]
    fn from_bf16(bits: [u16; N]) -> Self {
        Self::from_bits(bits, half::widen_bf16)
    }

    #[inline(always)]
    fn to_f16(self) -> [u16; N] {
        self.to_bits(half::narrow_f16)
    }

    #[inline(always)]
    fn to_bf16(self) -> [u16; N] {
        self.to_bits(half::narrow_bf16)
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

/// The elements of a part, zeros behind them.
///
/// # Safety
///
/// `from` is to as many elements as `part` says, or to `N`.
#[inline(always)]
pub unsafe fn copy_in<A: Copy + Default, const N: usize>(from: *const A, part: Part) -> [A; N] {
    match part {
        // SAFETY: promised by the caller.
        Part::Whole => unsafe { from.cast::<[A; N]>().read_unaligned() },
        Part::First(n) => {
            let mut lanes = [A::default(); N];
            for (lane, to) in lanes.iter_mut().enumerate().take(n) {
                // SAFETY: `lane` is less than `n`.
                *to = unsafe { *from.add(lane) };
            }
            lanes
        }
    }
}

/// # Safety
///
/// `to` is to as many elements as `part` says, or to `N`.
#[inline(always)]
pub unsafe fn copy_out<A: Copy, const N: usize>(lanes: &[A; N], to: *mut A, part: Part) {
    match part {
        // SAFETY: promised by the caller.
        Part::Whole => unsafe { to.cast::<[A; N]>().write_unaligned(*lanes) },
        Part::First(n) => {
            for (lane, &from) in lanes.iter().enumerate().take(n) {
                // SAFETY: `lane` is less than `n`.
                unsafe { to.add(lane).write(from) };
            }
        }
    }
}
