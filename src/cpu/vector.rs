//! Registers of numbers: what a loop computes on, whatever the instruction set.

use std::ops::{Add, Div, Mul, Sub};
use std::ptr;

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
    /// The registers of the processor that it takes.
    const REGISTERS: usize = 1;

    fn splat(v: Self::Item) -> Self;
    /// `self * b + c`, rounded once where that is one instruction.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// In every lane, `then` where `self < bound`, else `otherwise`.
    fn if_less(self, bound: Self, then: Self, otherwise: Self) -> Self;
    fn exp(self) -> Self;
    /// The sum of all lanes of each of them, added in pairs. To sum four takes hardly longer than one.
    fn sums(of: [Self; 4]) -> [f64; 4];
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
    /// As many f16.
    type Halves: Copy;
    /// Twice as many bf16.
    type Words: Copy;

    /// # Safety
    ///
    /// See [`Vector`]. So for the methods below.
    unsafe fn load_halves(from: *const u16, part: Part) -> Self::Halves;
    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn store_halves(halves: Self::Halves, to: *mut u16, part: Part);
    /// # Safety
    ///
    /// See [`Vector`]; `to` is aligned to the size of the register.
    unsafe fn stream_halves(halves: Self::Halves, to: *mut u16);
    fn widen(halves: Self::Halves) -> Self;
    /// Rounded to nearest even; small numbers become subnormal ones, a NaN stays one.
    fn narrow(self) -> Self::Halves;

    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn load_words(from: *const u16, part: Part) -> Self::Words;
    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn store_words(words: Self::Words, to: *mut u16, part: Part);
    /// # Safety
    ///
    /// See [`Vector`]; `to` is aligned to the size of the register.
    unsafe fn stream_words(words: Self::Words, to: *mut u16);
    /// The bf16 with even numbers, and those with odd ones.
    fn split(words: Self::Words) -> [Self; 2];
    /// Rounded as by [`narrow`](Self::narrow).
    fn join(pair: [Self; 2]) -> Self::Words;

    /// Of the numbers of both registers, those with even numbers and those with odd ones.
    fn unzip(registers: [Self; 2]) -> [Self; 2];
    /// The reverse of [`unzip`](Self::unzip).
    fn zip(pair: [Self; 2]) -> [Self; 2];

    /// `self * 2^n`, for an integer n in the last bits of `n`.
    fn add_to_exponent(self, n: Self) -> Self;
}

/// Two registers, of the numbers with even and with odd positions in memory: bf16 are widened to
/// them by a shift and a mask, and joined again without moving any within a register.
#[derive(Clone, Copy, Default)]
pub struct Pair<V>([V; 2]);

macro_rules! pairwise {
    ($($op:ident, $f:ident);*) => {$(
        impl<V: $op<Output = V>> $op for Pair<V> {
            type Output = Self;

            #[inline(always)]
            fn $f(self, other: Self) -> Self {
                let ([a, b], [c, d]) = (self.0, other.0);
                Self([a.$f(c), b.$f(d)])
            }
        }
    )*};
}
pairwise!(Add, add; Sub, sub; Mul, mul; Div, div);

/// The parts of two adjacent registers of `len`; `None` where there is nothing of one.
#[inline(always)]
fn parts(len: usize, part: Part) -> [Option<Part>; 2] {
    let some = |n: usize| match n {
        0 => None,
        n if n < len => Some(Part::First(n)),
        _ => Some(Part::Whole),
    };
    match part {
        Part::Whole => [Some(Part::Whole); 2],
        Part::First(n) => [some(n), some(n.saturating_sub(len))],
    }
}

impl<V: Single> Vector for Pair<V> {
    type Item = f32;
    const LEN: usize = 2 * V::LEN;
    const REGISTERS: usize = 2;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Self([V::splat(v); 2])
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self([
            self.0[0].mul_add(b.0[0], c.0[0]),
            self.0[1].mul_add(b.0[1], c.0[1]),
        ])
    }

    #[inline(always)]
    fn if_less(self, bound: Self, then: Self, otherwise: Self) -> Self {
        Self([
            self.0[0].if_less(bound.0[0], then.0[0], otherwise.0[0]),
            self.0[1].if_less(bound.0[1], then.0[1], otherwise.0[1]),
        ])
    }

    #[inline(always)]
    fn exp(self) -> Self {
        Self([self.0[0].exp(), self.0[1].exp()])
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [Self; 4]) -> [f64; 4] {
        V::sums([
            a.0[0] + a.0[1],
            b.0[0] + b.0[1],
            c.0[0] + c.0[1],
            d.0[0] + d.0[1],
        ])
    }

    #[inline(always)]
    fn first(self, n: usize, rest: Self) -> Self {
        let even = self.0[0].first(n.div_ceil(2), rest.0[0]);
        Self([even, self.0[1].first(n / 2, rest.0[1])])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, part: Part) -> Self {
        let mut registers = [V::default(); 2];
        for (i, part) in parts(V::LEN, part).into_iter().enumerate() {
            if let Some(part) = part {
                // SAFETY: promised by the caller.
                registers[i] = unsafe { V::load(from.add(i * V::LEN), part) };
            }
        }
        Self(V::unzip(registers))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, part: Part) {
        let registers = V::zip(self.0);
        for (i, part) in parts(V::LEN, part).into_iter().enumerate() {
            if let Some(part) = part {
                // SAFETY: promised by the caller.
                unsafe { registers[i].store(to.add(i * V::LEN), part) };
            }
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: promised by the caller.
        unsafe { self.store(to, Part::Whole) }
    }
}

impl<V: Single> Pair<V> {
    /// # Safety
    ///
    /// See [`Vector`]; `from` is to bf16. So for `store_words` and `stream_words`.
    #[inline(always)]
    pub unsafe fn load_words(from: *const u16, part: Part) -> Self {
        // SAFETY: promised by the caller.
        Self(V::split(unsafe { V::load_words(from, part) }))
    }

    /// # Safety
    ///
    /// See [`Vector`].
    #[inline(always)]
    pub unsafe fn store_words(self, to: *mut u16, part: Part) {
        // SAFETY: promised by the caller.
        unsafe { V::store_words(V::join(self.0), to, part) }
    }

    /// # Safety
    ///
    /// See [`Vector`]; `to` is aligned to as many bf16 as the register has.
    #[inline(always)]
    pub unsafe fn stream_words(self, to: *mut u16) {
        // SAFETY: promised by the caller.
        unsafe { V::stream_words(V::join(self.0), to) }
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
            // SAFETY: promised by the caller, and `n` is less than `N`.
            unsafe { copy_few(from, lanes.as_mut_ptr(), n) };
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
        // SAFETY: promised by the caller, and `n` is less than `N`.
        Part::First(n) => unsafe { copy_few(lanes.as_ptr(), to, n) },
    }
}

/// Copies up to 15 elements by the digits of their number: a call of `memcpy` takes 50 instructions.
///
/// # Safety
///
/// Both are to `n` elements, and none of them is the same.
#[inline(never)]
unsafe fn copy_few<A: Copy>(from: *const A, to: *mut A, n: usize) {
    let mut at = 0;
    for digit in [8, 4, 2, 1] {
        if n & digit != 0 {
            // SAFETY: the digits up to this one are at most `n`.
            unsafe { ptr::copy_nonoverlapping(from.add(at), to.add(at), digit) };
            at += digit;
        }
    }
}
