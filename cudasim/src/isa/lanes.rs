//! Instructions that only compute: a scalar function applied to 32 lanes.
//!
//! The functions are written once, in the tables of this folder; here they become loops that the
//! compiler vectorises, once for any CPU and once for one with AVX2 and FMA.

use crate::machine::registers::{ALL, LANES, Registers, Word, lanes};
use half::{bf16, f16};

/// A type that an instruction reads or writes, in the low bits of a register.
pub trait Lane: Copy + Send + Sync + 'static {
    type Word: Word;
    fn read(word: Self::Word) -> Self;
    fn word(self) -> Self::Word;
}

/// `type : word, |word| value, |value| word`
macro_rules! lane {
    ($($ty:ty : $word:ty, |$w:ident| $read:expr, |$v:ident| $write:expr;)*) => { $(
        impl Lane for $ty {
            type Word = $word;
            #[inline(always)]
            fn read($w: $word) -> Self { $read }
            #[inline(always)]
            fn word(self) -> $word { let $v = self; $write }
        }
    )* };
}

lane! {
    u16: u32, |w| w as u16, |v| v as u32;
    i16: u32, |w| w as i16, |v| v as u16 as u32;
    u32: u32, |w| w, |v| v;
    i32: u32, |w| w as i32, |v| v as u32;
    u64: u64, |w| w, |v| v;
    i64: u64, |w| w as i64, |v| v as u64;
    // A NaN that arithmetic makes has one form (9.7.3): 0x7fffffff, and alike for the half types.
    f32: u32, |w| f32::from_bits(w), |v| if v.is_nan() { 0x7fff_ffff } else { v.to_bits() };
    f64: u64, |w| f64::from_bits(w), |v| if v.is_nan() { 0x7fff_ffff_ffff_ffff } else { v.to_bits() };
    f16: u32, |w| f16::from_bits(w as u16), |v| if v.is_nan() { 0x7fff } else { v.to_bits() as u32 };
    bf16: u32, |w| bf16::from_bits(w as u16), |v| if v.is_nan() { 0x7fff } else { v.to_bits() as u32 };
    [f16; 2]: u32, |w| [f16::read(w), f16::read(w >> 16)], |v| v[0].word() | v[1].word() << 16;
    [bf16; 2]: u32, |w| [bf16::read(w), bf16::read(w >> 16)], |v| v[0].word() | v[1].word() << 16;
}

/// `body` with `$T` the Rust type of a PTX type; `None` where there is none.
macro_rules! of_type {
    ($ty:expr, $T:ident: $($name:ident $(| $other:ident)? = $rust:ty),* => $body:expr) => {
        match $ty {
            $(Some(crate::ptx::types::Type::$name $(| crate::ptx::types::Type::$other)?) => {
                type $T = $rust;
                $body
            })*
            _ => return None,
        }
    };
}
macro_rules! integers {
    ($ty:expr, $T:ident => $body:expr) => {
        $crate::isa::lanes::of_type!($ty, $T: U16 = u16, S16 = i16, U32 = u32, S32 = i32, U64 = u64, S64 = i64 => $body)
    };
}
macro_rules! floats {
    ($ty:expr, $T:ident => $body:expr) => {
        $crate::isa::lanes::of_type!($ty, $T: F16 = half::f16, BF16 = half::bf16, F32 = f32, F64 = f64 => $body)
    };
}
/// Stamps a body for the unsigned type of a width, whatever the PTX type.
macro_rules! by_width {
    ($ty:expr, $T:ident => $body:expr) => {
        match $ty.map(crate::ptx::types::Type::bits) {
            Some(16) => {
                type $T = u16;
                $body
            }
            Some(32) => {
                type $T = u32;
                $body
            }
            Some(64) => {
                type $T = u64;
                $body
            }
            _ => return None,
        }
    };
}
pub(super) use {by_width, floats, integers, of_type};

/// An instruction applied to the lanes of a mask.
pub trait LaneOp: Send + Sync {
    fn run(&self, registers: &mut Registers, mask: u32);
}

/// The operation, compiled for what this CPU has.
pub fn boxed(op: impl LaneOp + 'static) -> Box<dyn LaneOp> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return Box::new(Wide(op));
    }
    Box::new(op)
}

#[cfg(target_arch = "x86_64")]
struct Wide<T>(T);

#[cfg(target_arch = "x86_64")]
impl<T: LaneOp> LaneOp for Wide<T> {
    fn run(&self, registers: &mut Registers, mask: u32) {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn wide<T: LaneOp>(op: &T, registers: &mut Registers, mask: u32) {
            op.run(registers, mask);
        }
        // SAFETY: `boxed` makes a `Wide` only where the CPU has both.
        unsafe { wide(&self.0, registers, mask) }
    }
}

/// `d = f(a, b, c)`. An operation of fewer operands repeats one.
pub struct Map<F, A, B, C> {
    pub f: F,
    pub d: u32,
    pub sources: [u32; 3],
    pub types: std::marker::PhantomData<fn(A, B, C)>,
}

impl<A: Lane, B: Lane, C: Lane, R: Lane, F> LaneOp for Map<F, A, B, C>
where
    F: Fn(A, B, C) -> R + Send + Sync,
{
    #[inline(always)]
    fn run(&self, registers: &mut Registers, mask: u32) {
        let [a, b, c] = self.sources;
        let f = &self.f;
        let mut out = [R::Word::default(); LANES];
        if mask.count_ones() >= 8 {
            let (a, b) = (A::Word::plane(registers, a), B::Word::plane(registers, b));
            let c = C::Word::plane(registers, c);
            for i in 0..LANES {
                out[i] = f(A::read(a[i]), B::read(b[i]), C::read(c[i])).word();
            }
            registers.write(self.d, mask, &out);
        } else {
            for i in lanes(mask) {
                let a = A::read(A::Word::plane(registers, a)[i]);
                let b = B::read(B::Word::plane(registers, b)[i]);
                let c = C::read(C::Word::plane(registers, c)[i]);
                R::Word::plane_mut(registers, self.d)[i] = f(a, b, c).word();
            }
        }
    }
}

/// A predicate operand, `%p` or `!%p`.
#[derive(Clone, Copy, Debug)]
pub struct Predicate {
    pub index: u32,
    pub negated: bool,
}

impl Predicate {
    /// The lanes where it holds.
    #[inline(always)]
    pub fn mask(self, registers: &Registers) -> u32 {
        registers.predicate(self.index) ^ if self.negated { ALL } else { 0 }
    }
}

/// Anything else, as a function of the registers and the mask.
pub struct Custom<F>(pub F);

impl<F: Fn(&mut Registers, u32) + Send + Sync> LaneOp for Custom<F> {
    #[inline(always)]
    fn run(&self, registers: &mut Registers, mask: u32) {
        (self.0)(registers, mask)
    }
}
