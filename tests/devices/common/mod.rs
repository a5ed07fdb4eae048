//! Helpers of these tests.

pub mod reference;

pub use testing::*;
