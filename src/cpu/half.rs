//! Conversions between f32 and the half types without branches, which become vector code where a
//! processor has no instruction for them. The half crate's f16 is a call that the instruction set
//! around it does not reach into.

#[inline(always)]
pub fn widen_f16(bits: u16) -> f32 {
    const HIDDEN: u32 = 113 << 23; // 2^-14, the smallest normal f16
    let bits = bits as u32;
    let magnitude = (bits & 0x7fff) << 13;
    // The exponent moves from a bias of 15 to one of 127, or to all ones for inf and NaN.
    let special = if magnitude >= 0x7c00 << 13 {
        112 << 23
    } else {
        0
    };
    let normal = magnitude + (112 << 23) + special;
    // A subnormal has no hidden bit: give it one and take it off again as a number.
    let subnormal = f32::from_bits(magnitude + HIDDEN) - f32::from_bits(HIDDEN);
    let is_subnormal = magnitude < 1 << 23;
    let unsigned = if is_subnormal {
        subnormal.to_bits()
    } else {
        normal
    };
    f32::from_bits(unsigned | (bits & 0x8000) << 16)
}

#[inline(always)]
pub fn narrow_f16(wide: f32) -> u16 {
    const OVERFLOW: u32 = (127 + 16) << 23; // 65536
    const NORMAL: u32 = 113 << 23; // 2^-14
    /// Added to a number below 2^-14, 0.5 leaves its f16 bits in the last bits of the sum.
    const HALF: u32 = 126 << 23;
    let bits = wide.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_add(0xfff + odd).wrapping_sub(112 << 23) >> 13;
    let sum = f32::from_bits(magnitude) + f32::from_bits(HALF);
    let subnormal = sum.to_bits().wrapping_sub(HALF);
    let is_nan = magnitude > 0x7f80_0000;
    let special = if is_nan {
        0x7e00 | (magnitude >> 13 & 0x3ff)
    } else {
        0x7c00
    };
    let finite = if magnitude < NORMAL {
        subnormal
    } else {
        normal
    };
    let unsigned = if magnitude < OVERFLOW {
        finite
    } else {
        special
    };
    (unsigned | (bits >> 16 & 0x8000)) as u16
}

#[inline(always)]
pub fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

#[inline(always)]
pub fn narrow_bf16(wide: f32) -> u16 {
    let bits = wide.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // A NaN whose payload sits in the lost bits must not round to infinity.
    let quiet = (bits >> 16) | 0x40;
    (if wide.is_nan() { quiet } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use crate::cpu::element::Element;
    use crate::cpu::simd::{Isa, Simd, SimdJob};
    use crate::cpu::vector::{Part, Vector};
    use ::half::{bf16, f16};

    /// Converts `from` to `to`, vector by vector.
    struct Convert<'a, F, T>(&'a [F], &'a mut [T]);

    impl<F: Element<Acc = f32>, T: Element<Acc = f32>> SimdJob for Convert<'_, F, T> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            let Self(from, to) = self;
            let mut wide = [0f32; 32];
            for (from, to) in from.chunks(32).zip(to.chunks_mut(32)) {
                // SAFETY: the slices have as many elements as the parts say, and the job runs on a
                // processor with the instructions of `S`.
                unsafe {
                    for (start, part) in parts(from.len(), F::Register::<S>::LEN) {
                        let v = F::load::<S>(from[start..].as_ptr(), part);
                        v.store(wide[start..].as_mut_ptr(), part);
                    }
                    for (start, part) in parts(to.len(), T::Register::<S>::LEN) {
                        let v = Vector::load(wide[start..].as_ptr(), part);
                        T::store::<S>(v, to[start..].as_mut_ptr(), part);
                    }
                }
            }
        }
    }

    /// Where registers of `width` begin in `len` elements.
    fn parts(len: usize, width: usize) -> impl Iterator<Item = (usize, Part)> {
        (0..len).step_by(width).map(move |start| match len - start {
            left if left < width => (start, Part::First(left)),
            _ => (start, Part::Whole),
        })
    }

    /// Every high part of an f32 with the low parts where rounding turns; an odd number of them.
    fn samples() -> Vec<f32> {
        let lows = [
            0, 1, 0xfff, 0x1000, 0x1001, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff,
        ];
        (0..=u16::MAX as u32)
            .flat_map(|high| lows.map(|low| f32::from_bits(high << 16 | low)))
            .skip(1)
            .collect()
    }

    #[test]
    fn narrowing_agrees_with_the_half_crate() {
        let wide = samples();
        for isa in Isa::available() {
            let mut narrow = vec![f16::ZERO; wide.len()];
            isa.run(Convert(&wide, &mut narrow));
            for (w, n) in wide.iter().zip(narrow) {
                let want = f16::from_f32_const(*w);
                assert_eq!(n.to_bits(), want.to_bits(), "{isa:?}: f16 of {w:e}");
            }
            let mut narrow = vec![bf16::ZERO; wide.len()];
            isa.run(Convert(&wide, &mut narrow));
            for (w, n) in wide.iter().zip(narrow) {
                let want = bf16::from_f32(*w);
                assert_eq!(n.to_bits(), want.to_bits(), "{isa:?}: bf16 of {w:e}");
            }
        }
    }

    #[test]
    fn widening_agrees_with_the_half_crate() {
        for isa in Isa::available() {
            let narrow: Vec<f16> = (0..u16::MAX).map(f16::from_bits).collect();
            let mut wide = vec![0f32; narrow.len()];
            isa.run(Convert(&narrow, &mut wide));
            for (n, w) in narrow.iter().zip(wide) {
                // Hardware makes a signalling NaN a quiet one.
                let want = n.to_f32_const();
                let same = w.to_bits() == want.to_bits() || w.is_nan() && want.is_nan();
                assert!(same, "{isa:?}: f16 {:#x}", n.to_bits());
            }
            let narrow: Vec<bf16> = (0..u16::MAX).map(bf16::from_bits).collect();
            let mut wide = vec![0f32; narrow.len()];
            isa.run(Convert(&narrow, &mut wide));
            for (n, w) in narrow.iter().zip(wide) {
                assert_eq!(w.to_bits(), (n.to_bits() as u32) << 16, "{isa:?}");
            }
        }
    }
}
