//! A span whose elements have the same coefficients, in registers: its sums, chunk by chunk, and
//! its results.

use super::element::{Acc, Element, Register};
use super::moments::Measure;
use super::pass::GroupPass;
use super::simd::Simd;
use super::vector::{Part, Vector};

/// Elements summed in their accumulator's type, before sums are merged in f64: 64 to a lane, or fewer.
const CHUNK: usize = 2048;

/// Lanes of f32 for each sum. Squares of equal distances, where the shift is far from the mean, are
/// rounded the same way each time: with 16, 2,047 elements had an error of 2.5e-6 of their variance.
const LANES: usize = 32;

/// How many bytes before x and dy are summed their lines are asked for: a processor's own prefetching ends
/// with a page of 4 KiB. Forward, 32x256x56x56 in bf16 took 5.5 ms without and takes 3.6; planes of 8x8 in f32,
/// 2^24 elements, 10.2 and 7.4.
const AHEAD: usize = 4096;

/// The most registers summed side by side, to hide the latency of an addition.
const UNROLL: usize = 4;

/// Registers of each stream that are summed side by side: two streams have twice as many sums.
#[inline(always)]
fn unroll<S: Simd, T: Element, M: Measure>() -> usize {
    let for_latency = UNROLL / M::STREAMS / Register::<S, T>::REGISTERS;
    for_latency
        .max(LANES / Register::<S, T>::LEN)
        .clamp(1, UNROLL)
}

/// The coefficients of a plane in registers.
#[inline(always)]
fn splat<S: Simd, T: Element, P: GroupPass<T>>(
    k: P::Coefficients<T::Acc>,
) -> P::Coefficients<Register<S, T>> {
    P::map(k, Register::<S, T>::splat)
}

/// The measurements of a span, which has one element at least.
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn measure<S: Simd, T: Element, P: GroupPass<T>, const PLAIN: bool>(
    pass: &P,
    round: usize,
    tensors: &P::Tensors<'_>,
    range: [usize; 2],
    k: P::Coefficients<T::Acc>,
) -> P::Measure {
    // SAFETY: promised by the caller.
    unsafe {
        if range[1] - range[0] <= short_len::<S, T>() {
            return measure_short::<S, T, P, PLAIN>(pass, round, tensors, range, k);
        }
        let shifts = shifts_of::<S, T, P, PLAIN>(pass, round, tensors, range, k);
        measure_about::<S, T, P, PLAIN>(pass, round, tensors, range, k, shifts)
    }
}

/// Values near the means of the streams, for a span of more than [`short_len`] elements: the means of an
/// eighth of its first chunk, in whole registers.
///
/// The square of their distance from the chunk's mean is at most 7 times the chunk's variance
/// (7/8 and 1/8 apart by any distance vary by 7/64 of its square at least), so cancelling it costs
/// the variance 3 bits at the very worst, and an eighth of the work of the exact mean.
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn shifts_of<S: Simd, T: Element, P: GroupPass<T>, const PLAIN: bool>(
    pass: &P,
    round: usize,
    tensors: &P::Tensors<'_>,
    [start, end]: [usize; 2],
    k: P::Coefficients<T::Acc>,
) -> [T::Acc; 2] {
    let (width, k) = (Register::<S, T>::LEN, splat::<S, T, P>(k));
    let eighth = (end - start).min(CHUNK).div_ceil(8);
    let len = eighth.next_multiple_of(short_len::<S, T>());
    let mut sums = [[Register::<S, T>::default(); 2]; UNROLL];
    let mut at = start;
    while at < start + len {
        for sums in &mut sums {
            // SAFETY: promised by the caller.
            let streams = unsafe { pass.load::<S, PLAIN>(round, tensors, at, Part::Whole, &k) };
            for i in 0..P::Measure::STREAMS {
                sums[i] = sums[i] + streams[i];
            }
            at += width;
        }
    }
    let mut means = [T::Acc::default(); 2];
    for (mean, sum) in means
        .iter_mut()
        .zip(total::<S, T, _>(&sums, UNROLL, P::Measure::STREAMS))
    {
        *mean = T::Acc::from_f64(sum * (1. / len as f64));
    }
    means
}

/// The most elements of [`measure_short`].
#[inline(always)]
pub fn short_len<S: Simd, T: Element>() -> usize {
    UNROLL * Register::<S, T>::LEN
}

/// The measurements of a span of at most [`short_len`] elements, which stay in registers from their mean
/// to the sums about it.
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn measure_short<S: Simd, T: Element, P: GroupPass<T>, const PLAIN: bool>(
    pass: &P,
    round: usize,
    tensors: &P::Tensors<'_>,
    [start, end]: [usize; 2],
    k: P::Coefficients<T::Acc>,
) -> P::Measure {
    let (width, streams) = (Register::<S, T>::LEN, P::Measure::STREAMS);
    let (zero, k) = (Register::<S, T>::default(), splat::<S, T, P>(k));
    let len = end - start;
    let (whole, rest) = (len / width, len % width);
    let mut values = [[zero; 2]; UNROLL];
    pass.prefetch::<S>(
        tensors,
        start + AHEAD / streams / size_of::<T>(),
        len,
        false,
    );
    for (lane, values) in values.iter_mut().enumerate() {
        if lane < whole {
            // SAFETY: promised by the caller, so here and below.
            *values = unsafe {
                pass.load::<S, PLAIN>(round, tensors, start + lane * width, Part::Whole, &k)
            };
        } else if lane == whole && rest > 0 {
            let part = Part::First(rest);
            // SAFETY: as above.
            let [x, g] =
                unsafe { pass.load::<S, PLAIN>(round, tensors, start + lane * width, part, &k) };
            *values = [x.first(rest, zero), g.first(rest, zero)];
        }
    }
    let mut shifts = [T::Acc::default(); 2];
    for (shift, sum) in shifts
        .iter_mut()
        .zip(total::<S, T, _>(&values, UNROLL, streams))
    {
        *shift = T::Acc::from_f64(sum * (1. / len as f64));
    }
    let about = shifts.map(Register::<S, T>::splat);
    let mut sums = [[zero; 4]; UNROLL];
    for (lane, (sums, [x, g])) in sums.iter_mut().zip(values).enumerate() {
        let [x, g] = [x - about[0], g - about[1]];
        if lane < whole {
            *sums = P::Measure::step(*sums, [x, g]);
        } else if lane == whole && rest > 0 {
            *sums = P::Measure::step(*sums, [x.first(rest, zero), g.first(rest, zero)]);
        }
    }
    let totals = total::<S, T, _>(&sums, UNROLL, 2 * streams);
    P::Measure::from_sums(len as f64, wide(shifts), totals)
}

/// The measurements of a span about numbers [near its means](shifts_of).
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn measure_about<S: Simd, T: Element, P: GroupPass<T>, const PLAIN: bool>(
    pass: &P,
    round: usize,
    tensors: &P::Tensors<'_>,
    [mut start, end]: [usize; 2],
    k: P::Coefficients<T::Acc>,
    mut shifts: [T::Acc; 2],
) -> P::Measure {
    let k = splat::<S, T, P>(k);
    let mut total = P::Measure::default();
    loop {
        let next = end.min(start + CHUNK);
        // SAFETY: promised by the caller.
        let sums =
            unsafe { sums_of::<S, T, P, PLAIN>(pass, round, tensors, [start, next], &k, shifts) };
        let chunk = P::Measure::from_sums((next - start) as f64, wide(shifts), sums);
        total = total.merge(&chunk);
        start = next;
        if start == end {
            return total;
        }
        shifts = narrow(total.means());
    }
}

/// The sums of the elements of a span from `start` to `end`.
///
/// # Safety
///
/// See [`GroupPass`], for these elements.
#[inline(always)]
unsafe fn sums_of<S: Simd, T: Element, P: GroupPass<T>, const PLAIN: bool>(
    pass: &P,
    round: usize,
    tensors: &P::Tensors<'_>,
    [start, end]: [usize; 2],
    k: &P::Coefficients<Register<S, T>>,
    shifts: [T::Acc; 2],
) -> [f64; 4] {
    let (width, streams) = (Register::<S, T>::LEN, P::Measure::STREAMS);
    let unroll = unroll::<S, T, P::Measure>();
    let shifts = shifts.map(Register::<S, T>::splat);
    let mut sums = [[Register::<S, T>::default(); 4]; UNROLL];
    let mut at = start;
    while at + unroll * width <= end {
        let ahead = at + AHEAD / streams / size_of::<T>();
        pass.prefetch::<S>(tensors, ahead, unroll * width, false);
        for (lane, sums) in sums.iter_mut().enumerate().take(unroll) {
            let (at, part) = (at + lane * width, Part::Whole);
            // SAFETY: promised by the caller, so here and below.
            let values = unsafe { pass.load::<S, PLAIN>(round, tensors, at, part, k) };
            *sums = P::Measure::step(*sums, [values[0] - shifts[0], values[1] - shifts[1]]);
        }
        at += unroll * width;
    }
    for (lane, sums) in sums.iter_mut().enumerate().take(unroll) {
        let at = at + lane * width;
        if at + width <= end {
            // SAFETY: as above.
            let values = unsafe { pass.load::<S, PLAIN>(round, tensors, at, Part::Whole, k) };
            *sums = P::Measure::step(*sums, [values[0] - shifts[0], values[1] - shifts[1]]);
        } else if at < end {
            let n = end - at;
            // SAFETY: as above.
            let [x, g] = unsafe { pass.load::<S, PLAIN>(round, tensors, at, Part::First(n), k) };
            // Lanes without an element have the shift itself and so add nothing.
            let [x, g] = [x.first(n, shifts[0]), g.first(n, shifts[1])];
            *sums = P::Measure::step(*sums, [x - shifts[0], g - shifts[1]]);
        }
    }
    total::<S, T, _>(&sums, unroll, 2 * streams)
}

/// The sums over registers and lanes of the first `used` numbers of arrays, the first `unroll` of them.
#[inline(always)]
fn total<S: Simd, T: Element, const N: usize>(
    of: &[[Register<S, T>; N]; UNROLL],
    unroll: usize,
    used: usize,
) -> [f64; 4] {
    let mut sums = [Register::<S, T>::default(); 4];
    for i in 0..used {
        sums[i] = match unroll {
            4 => (of[0][i] + of[1][i]) + (of[2][i] + of[3][i]),
            2 => of[0][i] + of[1][i],
            _ => of[0][i],
        };
    }
    Vector::sums(sums)
}

/// Elements written one after the other, before those ahead of them.
const BLOCK: usize = 8192;

/// Writes the results of a span, block by block from its end: what was measured last is still in a
/// cache. The caller has the [fence](Simd::fence) after the last span of its job.
///
/// # Safety
///
/// See [`GroupPass`], for the whole span.
#[inline(always)]
pub unsafe fn write<S: Simd, T: Element, P: GroupPass<T>, const PLAIN: bool>(
    pass: &P,
    tensors: &P::Tensors<'_>,
    [start, mut end]: [usize; 2],
    k: P::Coefficients<T::Acc>,
) {
    let (width, k) = (Register::<S, T>::LEN, splat::<S, T, P>(k));
    let streams_after = pass.streams_after(tensors, start, width);
    while end > start {
        let mut at = start + (end - 1 - start) / BLOCK * BLOCK;
        let next = at;
        if let Some(head) = streams_after.filter(|head| at + head <= end) {
            if head > 0 {
                // SAFETY: promised by the caller, so here and below.
                unsafe { pass.write::<S, PLAIN>(tensors, at, Part::First(head), &k, false) };
            }
            at += head;
            while at + width <= end {
                // SAFETY: as above; a block is a multiple of a register.
                unsafe { pass.write::<S, PLAIN>(tensors, at, Part::Whole, &k, true) };
                at += width;
            }
        }
        while at + width <= end {
            // SAFETY: as above.
            unsafe { pass.write::<S, PLAIN>(tensors, at, Part::Whole, &k, false) };
            at += width;
        }
        if at < end {
            // SAFETY: as above.
            unsafe { pass.write::<S, PLAIN>(tensors, at, Part::First(end - at), &k, false) };
        }
        end = next;
    }
}

#[inline(always)]
pub fn wide<A: Acc>([x, g]: [A; 2]) -> [f64; 2] {
    [x.to_f64(), g.to_f64()]
}

#[inline(always)]
pub fn narrow<A: Acc>([x, g]: [f64; 2]) -> [A; 2] {
    [A::from_f64(x), A::from_f64(g)]
}

#[cfg(test)]
mod tests;
