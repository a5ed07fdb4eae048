//! Helpers of these tests.

pub mod network;

pub use testing::*;
