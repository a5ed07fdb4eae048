//! Runs of adjacent elements with the same coefficients, chunk by chunk.

use super::element::{Acc, Element, CHUNK};
use super::moments::Measure;
use super::operand::Place;
use super::set_op::{SetOp, Splat, Workspace};
use super::simd::{Kernel, Simd};
use super::sums::{for_shift, means, measure, narrow};
use std::ops::Range;

/// Adjacent elements with the same coefficients.
pub struct Run<A, const F: usize> {
    place: Place,
    len: usize,
    coefficients: [Splat<A>; F],
}

impl<A: Acc, const F: usize> Run<A, F> {
    #[inline(always)]
    pub fn of_plane(plane: usize, at: Range<usize>, coefficients: [A; F]) -> Self {
        let len = at.len();
        let place = Place::Plane {
            plane,
            at: at.start,
        };
        Self {
            place,
            len,
            coefficients: coefficients.map(Splat),
        }
    }

    /// Values near the means of the streams at the start of the run.
    #[inline(always)]
    pub fn shift<S, T, O, const I: usize, const K: usize>(
        &self,
        op: &O,
        round: usize,
        ws: &mut Workspace<T>,
    ) -> [T::Acc; I]
    where
        S: Simd,
        T: Element<Acc = A>,
        O: SetOp<T, I, K, F>,
    {
        let len = for_shift(self.len.min(CHUNK));
        means(op.load::<S, _>(round, self.place, len, self.coefficients, ws))
    }

    #[inline(always)]
    pub fn measure<S, T, O, const I: usize, const K: usize>(
        &self,
        op: &O,
        round: usize,
        mut shifts: [T::Acc; I],
        ws: &mut Workspace<T>,
    ) -> O::Measure
    where
        S: Simd,
        T: Element<Acc = A>,
        O: SetOp<T, I, K, F>,
    {
        let mut total = O::Measure::default();
        for at in (0..self.len).step_by(CHUNK) {
            let (place, len) = (self.place.plus(at), CHUNK.min(self.len - at));
            let streams = op.load::<S, _>(round, place, len, self.coefficients, ws);
            total = total.merge(&measure::<S, A, O::Measure, I, K>(streams, shifts));
            shifts = narrow(total.means());
        }
        total
    }

    /// # Safety
    ///
    /// As [`SetOp::write`].
    #[inline(always)]
    pub unsafe fn write<S, T, O, const I: usize, const K: usize>(
        &self,
        op: &O,
        ws: &mut Workspace<T>,
    ) where
        S: Simd,
        T: Element<Acc = A>,
        O: SetOp<T, I, K, F>,
    {
        // From the end: what was measured last is still in a cache.
        let mut end = self.len;
        while end > 0 {
            let at = (end - 1) / CHUNK * CHUNK;
            let (place, len) = (self.place.plus(at), end - at);
            end = at;
            // SAFETY: promised by the caller.
            unsafe { op.write::<S, _>(place, len, self.coefficients, ws) }
        }
    }
}

pub struct MeasureRun<'a, T: Element, O, const I: usize, const K: usize, const F: usize> {
    pub op: &'a O,
    pub round: usize,
    pub run: Run<T::Acc, F>,
    pub ws: &'a mut Workspace<T>,
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel for MeasureRun<'_, T, O, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = O::Measure;

    #[inline(always)]
    fn run<S: Simd>(self) -> O::Measure {
        let (op, round, ws) = (self.op, self.round, self.ws);
        let shifts = self.run.shift::<S, T, O, I, K>(op, round, ws);
        self.run.measure::<S, T, O, I, K>(op, round, shifts, ws)
    }
}

pub struct WriteRun<'a, T: Element, O, const I: usize, const K: usize, const F: usize> {
    pub op: &'a O,
    pub run: Run<T::Acc, F>,
    pub ws: &'a mut Workspace<T>,
}

impl<T, O, const I: usize, const K: usize, const F: usize> Kernel for WriteRun<'_, T, O, I, K, F>
where
    T: Element,
    O: SetOp<T, I, K, F>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: each segment is the job of one thread.
        unsafe { self.run.write::<S, T, O, I, K>(self.op, self.ws) }
    }
}
