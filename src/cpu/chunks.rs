//! Spans of a plane, whose elements have the same coefficients, chunk by chunk.

use super::element::{Element, CHUNK};
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

/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn measure<S: Simd, T: Element, P: GroupPass<T>>(
    pass: &P,
    round: usize,
    span: Span,
    coefficients: P::Coefficients<T::Acc>,
    mut shifts: [T::Acc; 2],
    scratch: &mut Scratch<T>,
) -> P::Measure {
    let (mut total, mut at) = (P::Measure::default(), 0);
    while at < span.len {
        let chunk = span.part(at, CHUNK.min(span.len - at));
        // SAFETY: promised by the caller.
        let streams = unsafe { pass.load::<S, _>(round, chunk, coefficients, scratch) };
        total = total.merge(&sums::measure::<S, _, _>(streams, shifts));
        shifts = sums::narrow(total.means());
        at += CHUNK;
    }
    total
}

/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn write<S: Simd, T: Element, P: GroupPass<T>>(
    pass: &P,
    span: Span,
    coefficients: P::Coefficients<T::Acc>,
    scratch: &mut Scratch<T>,
) {
    // From the end: what was measured last is still in a cache.
    let mut end = span.len;
    while end > 0 {
        let at = (end - 1) / CHUNK * CHUNK;
        // SAFETY: promised by the caller.
        unsafe { pass.write::<S, _>(span.part(at, end - at), coefficients, scratch) }
        end = at;
    }
}
