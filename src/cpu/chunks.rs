//! Spans of a plane, whose elements have the same coefficients, chunk by chunk.

use super::element::{CHUNK, Element};
use super::moments::Measure;
use super::operand::Span;
use super::pass::{GroupPass, Scratch};
use super::simd::Simd;
use super::sums;

/// Values near the means of the streams, from the start of the span.
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn shifts_of<S: Simd, T: Element, P: GroupPass<T>>(
    pass: &P,
    round: usize,
    span: Span,
    coefficients: P::Coefficients<T::Acc>,
    scratch: &mut Scratch<T>,
) -> [T::Acc; 2] {
    let start = span.part(0, sums::for_shift(span.len.min(CHUNK)));
    // SAFETY: promised by the caller.
    let streams = unsafe { pass.load::<S, _>(round, start, coefficients, scratch) };
    sums::means::<_, P::Measure>(streams)
}

/// The measurements of a span, which has one element at least.
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn measure<S: Simd, T: Element, P: GroupPass<T>>(
    pass: &P,
    round: usize,
    mut span: Span,
    coefficients: P::Coefficients<T::Acc>,
    mut shifts: [T::Acc; 2],
    scratch: &mut Scratch<T>,
) -> P::Measure {
    let mut total = P::Measure::default();
    loop {
        let chunk = span.part(0, CHUNK.min(span.len));
        // SAFETY: promised by the caller.
        let streams = unsafe { pass.load::<S, _>(round, chunk, coefficients, scratch) };
        total = total.merge(&sums::measure::<S, _, _>(streams, shifts));
        span = span.part(chunk.len, span.len - chunk.len);
        if span.len == 0 {
            return total;
        }
        shifts = sums::narrow(total.means());
    }
}

/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn write<S: Simd, T: Element, P: GroupPass<T>>(
    pass: &P,
    mut span: Span,
    coefficients: P::Coefficients<T::Acc>,
    scratch: &mut Scratch<T>,
) {
    // From the end: what was measured last is still in a cache.
    while span.len > 0 {
        let len = (span.len - 1) % CHUNK + 1;
        span.len -= len;
        // SAFETY: promised by the caller.
        unsafe { pass.write::<S, _>(span.part(span.len, len), coefficients, scratch) }
    }
}
