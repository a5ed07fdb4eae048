//! The element types of tensors, and the type that each is computed in.

use std::mem::MaybeUninit;

use candle_core::WithDType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::vector::Acc;

/// An element of a tensor.
pub trait Element: WithDType {
    /// The type that convolutions of it compute in.
    type Acc: Acc + Element<Acc = Self::Acc>;

    /// `from` in that type: itself where it has it, else converted into `buffer`, which is as long.
    fn widen<'a>(from: &'a [Self], buffer: &'a mut [Self::Acc]) -> &'a [Self::Acc];

    /// Rounds to nearest even, and writes all of `to`. Both slices are of one length.
    fn narrow(from: &[Self::Acc], to: &mut [MaybeUninit<Self>]);
}

macro_rules! same {
    ($type:ty) => {
        impl Element for $type {
            type Acc = Self;

            fn widen<'a>(from: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                from
            }

            fn narrow(from: &[Self], to: &mut [MaybeUninit<Self>]) {
                for (from, to) in from.iter().zip(to) {
                    to.write(*from);
                }
            }
        }
    };
}
same!(f32);
same!(f64);

impl Element for f16 {
    type Acc = f32;

    fn widen<'a>(from: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        from.convert_to_f32_slice(buffer);
        buffer
    }

    fn narrow(from: &[f32], to: &mut [MaybeUninit<Self>]) {
        for (from, to) in from.chunks(64).zip(to.chunks_mut(64)) {
            let mut part = [Self::ZERO; 64];
            let part = &mut part[..from.len()];
            part.convert_from_f32_slice(from);
            for (from, to) in part.iter().zip(to) {
                to.write(*from);
            }
        }
    }
}

impl Element for bf16 {
    type Acc = f32;

    // Not the crate's conversions, which look for NaN one by one: plain loops become vectors.
    fn widen<'a>(from: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        for (from, to) in from.iter().zip(&mut *buffer) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
        buffer
    }

    fn narrow(from: &[f32], to: &mut [MaybeUninit<Self>]) {
        for (from, to) in from.iter().zip(to) {
            let bits = from.to_bits();
            let odd = bits >> 16 & 1;
            let rounded = (bits.wrapping_add(0x7fff + odd)) >> 16;
            let quiet = bits >> 16 | 0x40;
            let rounded = if from.is_nan() { quiet } else { rounded };
            to.write(Self::from_bits(rounded as u16));
        }
    }
}
