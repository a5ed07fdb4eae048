//! The arguments of a launch as bytes.

use super::launch::{Arg, Launch};
use super::{Gpu, abi};

/// The bytes of a launch's first argument and of its chunks, which are buffers 0 and 1 on Metal; or of the two
/// calls of AdaIN.
pub fn arguments<'a, G: Gpu<Real = f32>>(launch: &'a Launch<'_, G>) -> [&'a [u8]; 2] {
    let chunks = launch.chunks.bytes();
    match &launch.arg {
        Arg::Call(call) => [call.bytes(), chunks],
        Arg::AdaIn([content, style]) => [content.bytes(), style.bytes()],
        // One of them: Gpu::SUMS_PER_LAUNCH.
        Arg::Sums(sums) => [sums[0].bytes(), chunks],
    }
}

/// The bytes of a struct.
///
/// # Safety
///
/// No byte of the struct is padding.
unsafe trait Bytes: Copy {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `self` is valid for reads of its size for as long as it is borrowed, and all of its
        // bytes are initialised since none is padding.
        unsafe { std::slice::from_raw_parts((self as *const Self).cast(), size_of::<Self>()) }
    }
}

const SPEC_F32: usize = 7 * 4 + 4 * 4;
const FIELDS_F32: usize = 8 + 4 * 4 + SPEC_F32 + 4 + 8 * 24 + 4 * 16 + 4 * 8;
const _: () = assert!(size_of::<abi::CallArg<f32>>() == FIELDS_F32);
// SAFETY: its fields, filler included, take all of its size, as asserted above; so do theirs, each of
// which is a multiple of its alignment.
unsafe impl Bytes for abi::CallArg<f32> {}
// SAFETY: three numbers of four bytes take the 12 that abi.rs asserts.
unsafe impl Bytes for abi::ChunksArg {}
// SAFETY: two numbers of eight bytes and four of four take the 32 that abi.rs asserts.
unsafe impl Bytes for abi::ParamSum {}
