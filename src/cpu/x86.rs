//! Registers of AVX2 and AVX-512.

use super::activation::exp_f32;
use super::simd::{Simd, SimdJob};
use super::vector::{Part, Single, Vector, copy_in, copy_out};
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

/// # Safety
///
/// The processor has AVX2, FMA and F16C.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn avx2<J: SimdJob>(job: J) -> J::Output {
    job.run::<Avx2>()
}

/// # Safety
///
/// The processor has AVX-512 F, BW, DQ and VL, FMA and F16C.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
pub unsafe fn avx512<J: SimdJob>(job: J) -> J::Output {
    job.run::<Avx512>()
}

macro_rules! set {
    ($name:ident, $call:ident, $f32:ident, $f64:ident) => {
        struct $name;

        impl Simd for $name {
            type F32 = $f32;
            type F64 = $f64;

            #[inline(always)]
            fn call<J: SimdJob>(job: J) -> J::Output {
                // SAFETY: `$name` is private to this module, and named outside of its `impl` only
                // by `$call`, whose caller has promised what this call needs.
                unsafe { $call(job) }
            }

            #[inline(always)]
            fn fence() {
                // SAFETY: a part of SSE, which every x86-64 has.
                unsafe { _mm_sfence() }
            }

            #[inline(always)]
            fn prefetch<T>(at: *const T) {
                // SAFETY: a part of SSE; it reads nothing that the program sees, and never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }
        }
    };
}
set!(Avx2, avx2, F32x8, F64x4);
set!(Avx512, avx512, F32x16, F64x8);

/// The mask of the first `n` of up to 32 lanes.
#[inline(always)]
fn mask(n: usize) -> u32 {
    ((1u64 << n) - 1) as u32
}

/// The mask of the first `n` lanes of 32 bits: all ones in these.
#[inline(always)]
fn mask_avx2(n: usize) -> __m256i {
    // SAFETY: see `Vector`, whose methods call this. So for all instructions in this file.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
    }
}

/// The mask of the first `n` lanes of 64 bits.
#[inline(always)]
fn wide_mask_avx2(n: usize) -> __m256i {
    // SAFETY: as in `mask_avx2`.
    unsafe {
        let lanes = _mm256_setr_epi64x(0, 1, 2, 3);
        _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), lanes)
    }
}

// Functions, not closures, which the compiler may leave apart: then they are compiled for the baseline.

#[inline(always)]
fn sums_ps(a: __m256, b: __m256, c: __m256, d: __m256) -> [f64; 4] {
    // SAFETY: as in `mask_avx2`; an array of four f64 has the size of their register.
    unsafe {
        let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let (low, high) = (
            _mm256_castps256_ps128(pairs),
            _mm256_extractf128_ps::<1>(pairs),
        );
        std::mem::transmute(_mm256_cvtps_pd(_mm_add_ps(low, high)))
    }
}

#[inline(always)]
fn sums_pd(a: __m256d, b: __m256d, c: __m256d, d: __m256d) -> [f64; 4] {
    // SAFETY: as above.
    unsafe {
        let (ab, cd) = (_mm256_hadd_pd(a, b), _mm256_hadd_pd(c, d));
        let low = _mm256_permute2f128_pd::<0x20>(ab, cd);
        let high = _mm256_permute2f128_pd::<0x31>(ab, cd);
        std::mem::transmute(_mm256_add_pd(low, high))
    }
}

/// The sum of both halves.
#[inline(always)]
fn halves_ps(v: __m512) -> __m256 {
    // SAFETY: as in `mask_avx2`.
    unsafe { _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)) }
}

/// The sum of both halves.
#[inline(always)]
fn halves_pd(v: __m512d) -> __m256d {
    // SAFETY: as in `mask_avx2`.
    unsafe { _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v)) }
}

#[inline(always)]
fn wide_sums_ps(a: __m512, b: __m512, c: __m512, d: __m512) -> [f64; 4] {
    sums_ps(halves_ps(a), halves_ps(b), halves_ps(c), halves_ps(d))
}

#[inline(always)]
fn wide_sums_pd(a: __m512d, b: __m512d, c: __m512d, d: __m512d) -> [f64; 4] {
    sums_pd(halves_pd(a), halves_pd(b), halves_pd(c), halves_pd(d))
}

/// A register: its operators and what the sets name alike.
macro_rules! register {
    (
        $name:ident($m:ident): $item:ident, $len:literal,
        $add:ident, $sub:ident, $mul:ident, $div:ident, $fma:ident, $splat:ident,
        $load:ident, $store:ident, $stream:ident($ptr:ty),
        less: $less:expr, first: $first:expr, load_first: $load_first:expr,
        store_first: $store_first:expr, sums: $sums:ident, exp: $exp:expr
    ) => {
        #[derive(Clone, Copy)]
        pub struct $name($m);

        register!($name: Add, add, $add; Sub, sub, $sub; Mul, mul, $mul; Div, div, $div);

        impl Default for $name {
            #[inline(always)]
            fn default() -> Self {
                Self::splat(0.)
            }
        }

        impl Vector for $name {
            type Item = $item;
            const LEN: usize = $len;

            #[inline(always)]
            fn splat(v: $item) -> Self {
                // SAFETY: see `Vector`, as for all instructions in this file.
                Self(unsafe { $splat(v) })
            }

            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: see `Vector`.
                Self(unsafe { $fma(self.0, b.0, c.0) })
            }

            #[inline(always)]
            fn if_less(self, bound: Self, then: Self, otherwise: Self) -> Self {
                // SAFETY: see `Vector`.
                Self(unsafe { $less(self.0, bound.0, then.0, otherwise.0) })
            }

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }

            #[inline(always)]
            fn sums([a, b, c, d]: [Self; 4]) -> [f64; 4] {
                $sums(a.0, b.0, c.0, d.0)
            }

            #[inline(always)]
            fn first(self, n: usize, rest: Self) -> Self {
                // SAFETY: see `Vector`.
                Self(unsafe { $first(n, self.0, rest.0) })
            }

            #[inline(always)]
            unsafe fn load(from: *const $item, part: Part) -> Self {
                // SAFETY: promised by the caller; a masked load reads no other lanes.
                Self(unsafe {
                    match part {
                        Part::Whole => $load(from),
                        Part::First(n) => $load_first(n, from),
                    }
                })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $item, part: Part) {
                // SAFETY: promised by the caller; a masked store writes no other lanes.
                unsafe {
                    match part {
                        Part::Whole => $store(to, self.0),
                        Part::First(n) => $store_first(n, to, self.0),
                    }
                }
            }

            #[inline(always)]
            unsafe fn stream(self, to: *mut $item) {
                // SAFETY: promised by the caller.
                unsafe { $stream(to as $ptr, self.0) }
            }
        }
    };
    ($name:ident: $($op:ident, $f:ident, $instruction:ident);*) => {$(
        impl $op for $name {
            type Output = Self;

            #[inline(always)]
            fn $f(self, other: Self) -> Self {
                // SAFETY: see `Vector`.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    )*};
}

register!(
    F32x8(__m256): f32, 8,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_set1_ps,
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_stream_ps(*mut f32),
    less: |v, bound, then, otherwise| {
        _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_LT_OQ>(v, bound))
    },
    first: |n, v, rest| _mm256_blendv_ps(rest, v, _mm256_castsi256_ps(mask_avx2(n))),
    load_first: |n, from| _mm256_maskload_ps(from, mask_avx2(n)),
    store_first: |n, to, v| _mm256_maskstore_ps(to, mask_avx2(n), v),
    sums: sums_ps,
    exp: exp_f32
);

register!(
    F64x4(__m256d): f64, 4,
    _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd, _mm256_div_pd, _mm256_fmadd_pd, _mm256_set1_pd,
    _mm256_loadu_pd, _mm256_storeu_pd, _mm256_stream_pd(*mut f64),
    less: |v, bound, then, otherwise| {
        _mm256_blendv_pd(otherwise, then, _mm256_cmp_pd::<_CMP_LT_OQ>(v, bound))
    },
    first: |n, v, rest| _mm256_blendv_pd(rest, v, _mm256_castsi256_pd(wide_mask_avx2(n))),
    load_first: |n, from| _mm256_maskload_pd(from, wide_mask_avx2(n)),
    store_first: |n, to, v| _mm256_maskstore_pd(to, wide_mask_avx2(n), v),
    sums: sums_pd,
    exp: exp_of_lanes::<F64x4, 4>
);

register!(
    F32x16(__m512): f32, 16,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_set1_ps,
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_stream_ps(*mut f32),
    less: |v, bound, then, otherwise| {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(v, bound), otherwise, then)
    },
    first: |n, v, rest| _mm512_mask_blend_ps(mask(n) as u16, rest, v),
    load_first: |n, from| _mm512_maskz_loadu_ps(mask(n) as u16, from),
    store_first: |n, to, v| _mm512_mask_storeu_ps(to, mask(n) as u16, v),
    sums: wide_sums_ps,
    exp: exp_f32
);

register!(
    F64x8(__m512d): f64, 8,
    _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_div_pd, _mm512_fmadd_pd, _mm512_set1_pd,
    _mm512_loadu_pd, _mm512_storeu_pd, _mm512_stream_pd(*mut f64),
    less: |v, bound, then, otherwise| {
        _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(v, bound), otherwise, then)
    },
    first: |n, v, rest| _mm512_mask_blend_pd(mask(n) as u8, rest, v),
    load_first: |n, from| _mm512_maskz_loadu_pd(mask(n) as u8, from),
    store_first: |n, to, v| _mm512_mask_storeu_pd(to, mask(n) as u8, v),
    sums: wide_sums_pd,
    exp: exp_of_lanes::<F64x8, 8>
);

/// A call for every lane.
#[inline(always)]
fn exp_of_lanes<V: Vector<Item = f64>, const N: usize>(v: V) -> V {
    let mut lanes = [0.; N];
    // SAFETY: a register has `N` lanes, as `register` was told.
    unsafe {
        v.store(lanes.as_mut_ptr(), Part::Whole);
        for lane in &mut lanes {
            *lane = lane.exp();
        }
        V::load(lanes.as_ptr(), Part::Whole)
    }
}

/// Integers of a set, and what it does to bits of registers, by the same names.
macro_rules! single {
    (
        $name:ident($m:ident), $n:literal, $set1:ident, $add:ident, $and:ident, $or:ident,
        $shift_left:ident, $shift_right:ident, $to_bits:ident, $to_numbers:ident,
        halves: $halves:ident, $load_halves:expr, $store_halves:expr, $stream_halves:ident,
        $widen:ident, $narrow:ident,
        words: $words:ident, $load_words:expr, $store_words:expr, $stream_words:ident,
        if_nan: $if_nan:expr, unzip: $unzip:expr, zip: $zip:expr
    ) => {
        impl Single for $name {
            type Halves = $halves;
            type Words = $words;

            #[inline(always)]
            unsafe fn load_halves(from: *const u16, part: Part) -> $halves {
                // SAFETY: promised by the caller; a masked load reads no other lanes.
                unsafe { $load_halves(from, part) }
            }

            #[inline(always)]
            unsafe fn store_halves(halves: $halves, to: *mut u16, part: Part) {
                // SAFETY: promised by the caller; a masked store writes no other lanes.
                unsafe { $store_halves(halves, to, part) }
            }

            #[inline(always)]
            unsafe fn stream_halves(halves: $halves, to: *mut u16) {
                // SAFETY: promised by the caller.
                unsafe { $stream_halves(to.cast(), halves) }
            }

            #[inline(always)]
            fn widen(halves: $halves) -> Self {
                // SAFETY: see `Vector`, as in the rest of the `impl`.
                Self(unsafe { $widen(halves) })
            }

            #[inline(always)]
            fn narrow(self) -> $halves {
                // SAFETY: as above.
                unsafe { $narrow::<_MM_FROUND_TO_NEAREST_INT>(self.0) }
            }

            #[inline(always)]
            unsafe fn load_words(from: *const u16, part: Part) -> $words {
                // SAFETY: as for the halves.
                unsafe { $load_words(from, part) }
            }

            #[inline(always)]
            unsafe fn store_words(words: $words, to: *mut u16, part: Part) {
                // SAFETY: as for the halves.
                unsafe { $store_words(words, to, part) }
            }

            #[inline(always)]
            unsafe fn stream_words(words: $words, to: *mut u16) {
                // SAFETY: promised by the caller.
                unsafe { $stream_words(to.cast(), words) }
            }

            #[inline(always)]
            fn split(words: $words) -> [Self; 2] {
                // SAFETY: as above.
                unsafe {
                    let high = $and(words, $set1(0xffff_0000u32 as i32));
                    [
                        Self($to_numbers($shift_left::<16>(words))),
                        Self($to_numbers(high)),
                    ]
                }
            }

            /// In integers: the instruction that some processors have rounds subnormal numbers to 0.
            #[inline(always)]
            fn join(pair: [Self; 2]) -> $words {
                // SAFETY: as above.
                unsafe {
                    let mut rounded = pair.map(|v| $to_bits(v.0));
                    for (rounded, v) in rounded.iter_mut().zip(pair) {
                        let bits = *rounded;
                        let odd = $and($shift_right::<16>(bits), $set1(1));
                        let up = $add($add(bits, $set1(0x7fff)), odd);
                        // A NaN whose payload sits in the lost bits must not become infinite.
                        *rounded = $if_nan(v.0, $or(bits, $set1(0x40_0000)), up);
                    }
                    let high = $and(rounded[1], $set1(0xffff_0000u32 as i32));
                    $or($shift_right::<16>(rounded[0]), high)
                }
            }

            #[inline(always)]
            fn unzip([a, b]: [Self; 2]) -> [Self; 2] {
                // SAFETY: as above.
                unsafe { $unzip(a.0, b.0) }
            }

            #[inline(always)]
            fn zip([even, odd]: [Self; 2]) -> [Self; 2] {
                // SAFETY: as above.
                unsafe { $zip(even.0, odd.0) }
            }

            #[inline(always)]
            fn add_to_exponent(self, n: Self) -> Self {
                // SAFETY: as above.
                unsafe {
                    let shifted = $shift_left::<23>($to_bits(n.0));
                    Self($to_numbers($add($to_bits(self.0), shifted)))
                }
            }
        }
    };
}

/// AVX2 has no masks for numbers of 16 bits: parts go through memory.
macro_rules! through_memory {
    ($n:literal, $load:ident, $store:ident) => {
        (
            |from: *const u16, part| match part {
                Part::Whole => $load(from.cast()),
                Part::First(_) => {
                    let lanes: [u16; $n] = copy_in(from, part);
                    $load(lanes.as_ptr().cast())
                }
            },
            |bits, to: *mut u16, part| match part {
                Part::Whole => $store(to.cast(), bits),
                Part::First(_) => {
                    let mut lanes = [0u16; $n];
                    $store(lanes.as_mut_ptr().cast(), bits);
                    copy_out(&lanes, to, part);
                }
            },
        )
    };
}

single!(
    F32x8(__m256), 8, _mm256_set1_epi32, _mm256_add_epi32, _mm256_and_si256, _mm256_or_si256,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_castps_si256, _mm256_castsi256_ps,
    halves: __m128i,
    through_memory!(8, _mm_loadu_si128, _mm_storeu_si128).0,
    through_memory!(8, _mm_loadu_si128, _mm_storeu_si128).1,
    _mm_stream_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
    words: __m256i,
    through_memory!(16, _mm256_loadu_si256, _mm256_storeu_si256).0,
    through_memory!(16, _mm256_loadu_si256, _mm256_storeu_si256).1,
    _mm256_stream_si256,
    if_nan: |v, nan, number| {
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        _mm256_blendv_epi8(number, nan, is_nan)
    },
    unzip: |a, b| {
        // Shuffles work within each half: the quarters are out of order.
        let [even, odd] = [_mm256_shuffle_ps::<0b10_00_10_00>(a, b), _mm256_shuffle_ps::<0b11_01_11_01>(a, b)];
        [even, odd].map(|v| {
            let quarters = _mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v));
            Self(_mm256_castpd_ps(quarters))
        })
    },
    zip: |even, odd| {
        let [low, high] = [_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd)];
        [
            Self(_mm256_permute2f128_ps::<0x20>(low, high)),
            Self(_mm256_permute2f128_ps::<0x31>(low, high)),
        ]
    }
);

single!(
    F32x16(__m512), 16, _mm512_set1_epi32, _mm512_add_epi32, _mm512_and_si512, _mm512_or_si512,
    _mm512_slli_epi32, _mm512_srli_epi32, _mm512_castps_si512, _mm512_castsi512_ps,
    halves: __m256i,
    |from: *const u16, part| match part {
        Part::Whole => _mm256_loadu_si256(from.cast()),
        Part::First(n) => _mm256_maskz_loadu_epi16(mask(n) as u16, from.cast()),
    },
    |bits, to: *mut u16, part| match part {
        Part::Whole => _mm256_storeu_si256(to.cast(), bits),
        Part::First(n) => _mm256_mask_storeu_epi16(to.cast(), mask(n) as u16, bits),
    },
    _mm256_stream_si256, _mm512_cvtph_ps, _mm512_cvtps_ph,
    words: __m512i,
    |from: *const u16, part| match part {
        Part::Whole => _mm512_loadu_si512(from.cast()),
        Part::First(n) => _mm512_maskz_loadu_epi16(mask(n), from.cast()),
    },
    |bits, to: *mut u16, part| match part {
        Part::Whole => _mm512_storeu_si512(to.cast(), bits),
        Part::First(n) => _mm512_mask_storeu_epi16(to.cast(), mask(n), bits),
    },
    _mm512_stream_si512,
    if_nan: |v, nan, number| {
        _mm512_mask_blend_epi32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), number, nan)
    },
    unzip: |a, b| {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        [even, odd].map(|order| Self(_mm512_permutex2var_ps(a, order, b)))
    },
    zip: |even, odd| {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        [low, high].map(|order| Self(_mm512_permutex2var_ps(even, order, odd)))
    }
);
