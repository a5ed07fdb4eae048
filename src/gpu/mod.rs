//! The GPU backends: launches of the kernels in `kernels/`.
//!
//! Buffers, launches and their order are decided here for any [`Gpu`], so that the tests run the same
//! launches where there is no GPU. [`cuda`] and [`metal`] know the devices of candle. Nothing waits
//! for a device, copies to it, or looks anything up by name after the first call.

mod abi;
mod adain;
mod bwd;
#[cfg(any(feature = "metal", test))]
mod bytes;
mod call;
#[cfg(any(feature = "cuda", test))]
pub mod cuda;
mod fwd;
mod launch;
#[cfg(any(feature = "metal", test))]
pub mod metal;
mod multi_pass;
mod params;
mod workspace;

use crate::plan::Caps;
use candle_core::{DType, Result};
use launch::Launch;

/// A device that runs kernels, and its memory: a device of candle, or its stand-in in the tests.
pub trait Gpu: Sized {
    /// Elements of one dtype.
    type Storage;
    /// The type of the numbers of a normalization.
    type Real: abi::Real;

    /// The most parameters whose gradients one launch sums.
    const SUMS_PER_LAUNCH: usize;

    /// An error for a dtype without kernels.
    fn check(_dtype: DType) -> Result<()> {
        Ok(())
    }

    fn dtype(storage: &Self::Storage) -> DType;

    /// The properties that decide a plan.
    fn caps(&self) -> Caps;

    /// Bytes by which a storage starts behind a multiple of
    /// [`VECTOR_BYTES`](crate::tuning::VECTOR_BYTES): 0 for memory that the device allocates.
    fn misalignment(&self, _storage: &Self::Storage) -> Result<usize> {
        Ok(0)
    }

    /// Elements of any value, which the launches that follow write.
    fn alloc(&self, dtype: DType, len: usize) -> Result<Self::Storage>;

    fn zeros(&self, dtype: DType, len: usize) -> Result<Self::Storage>;

    /// Runs after all launches before it.
    ///
    /// # Safety
    ///
    /// The kernel's buffers are among the launch's, are written only where it says so, and hold what
    /// the kernel accesses with this argument and this many threads.
    unsafe fn launch(&self, launch: Launch<Self>) -> Result<()>;
}

/// The functions of a backend for candle's storages, on the device that `$of` makes of x.
#[cfg(any(feature = "cuda", feature = "metal"))]
macro_rules! entries {
    ($storage:ty, $of:path) => {
        pub fn forward(
            x: View<$storage>,
            extras: &Extras<View<$storage>>,
            spec: &NormSpec,
        ) -> Result<$storage> {
            fwd::forward(&$of(x.0)?, x, extras, spec)
        }

        pub fn forward_in_place(
            x: &mut $storage,
            layout: &Layout,
            extras: &Extras<View<$storage>>,
            spec: &NormSpec,
        ) -> Result<()> {
            fwd::forward_in_place(&$of(x)?, x, layout, extras, spec)
        }

        pub fn stats(x: View<$storage>, spec: &NormSpec, stat: ScaleStat) -> Result<$storage> {
            fwd::stats(&$of(x.0)?, x, spec, stat)
        }

        pub fn adain(
            content: View<$storage>,
            spec: &NormSpec,
            style: View<$storage>,
            of_style: &NormSpec,
            stat: ScaleStat,
        ) -> Result<Option<$storage>> {
            adain::adain(&$of(content.0)?, content, spec, style, of_style, stat)
        }

        pub fn backward(
            x: View<$storage>,
            extras: &Extras<View<$storage>>,
            dy: View<$storage>,
            spec: &NormSpec,
            wanted: &GradMask,
        ) -> Result<Gradients<$storage>> {
            bwd::backward(&$of(x.0)?, x, extras, dy, spec, wanted)
        }
    };
}
#[cfg(any(feature = "cuda", feature = "metal"))]
use entries;
