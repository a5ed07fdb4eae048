//! Fused instance normalization for candle.
