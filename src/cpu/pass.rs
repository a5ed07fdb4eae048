//! A pass over the planes, as the schedules see it.

use super::element::{Element, Register};
use super::moments::Measure;
use super::operand::Span;
use super::simd::Simd;
use super::vector::Part;

/// The most coefficients of a plane.
pub const MAX_COEFFICIENTS: usize = 7;

/// A pass over groups of planes, which share their statistics: `load` and `finish` turn the values
/// of a group into coefficients of its planes, and `write` computes the results with them.
///
/// The measurements of a plane are merged in order, whatever the schedule: the result has the same
/// bits on any number of threads.
///
/// # Safety of the methods
///
/// The results may lie where x does. So the caller of `load`, `finish` or `write` has the elements
/// or the groups to itself: no other thread calls a method for any of them meanwhile, and an element
/// is not loaded after it was written. A span has the elements from `i` on, as many as a register
/// has or as `part` says, and the job runs on a processor with the instructions of `S`.
pub trait GroupPass<T: Element>: Sync {
    type Measure: Measure;
    /// Numbers of a plane, by name; or registers of them, or, channels-last, an array of each over
    /// the channels.
    type Coefficients<V: Copy + Default + Send + Sync>: Copy + Default + Send + Sync;
    /// How many these are, at most [`MAX_COEFFICIENTS`].
    const COEFFICIENTS: usize;
    /// The result for a plane that the caller of the schedule gets.
    type Share: Copy + Default + Send;
    /// The elements of a span in each of the tensors.
    type Tensors<'a>: Copy
    where
        Self: 'a;

    /// The number of times that a group is measured: twice where the second round's values depend
    /// on the coefficients of the first.
    fn rounds(&self) -> usize {
        1
    }

    /// True if a round needs measurements; otherwise it gets those of nothing.
    fn measures(&self, round: usize) -> bool;

    /// True if an element needs nothing but its x and dy: no activation, no inputs per element, no second
    /// result. `load` and `write` are then called as `PLAIN`, but for segments of large planes, and ask no
    /// more: with AVX2 the questions were a third of all instructions on planes of 1,575, a ninth on 49.
    fn is_plain(&self) -> bool;

    /// True if a span may reach over planes: in each tensor one lies behind the other.
    fn are_adjacent(&self) -> bool;

    fn tensors(&self, span: Span) -> Self::Tensors<'_>;

    /// The values to measure from element `i` of a span on: x, and g where the measurements are of
    /// two streams.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`].
    unsafe fn load<S: Simd, const PLAIN: bool>(
        &self,
        round: usize,
        of: &Self::Tensors<'_>,
        i: usize,
        part: Part,
        k: &Self::Coefficients<Register<S, T>>,
    ) -> [Register<S, T>; 2];

    /// Computes the coefficients and shares of whole groups, from plane `first` on.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`].
    unsafe fn finish(
        &self,
        round: usize,
        first: usize,
        measures: &[Self::Measure],
        coefficients: &mut [Self::Coefficients<T::Acc>],
        shares: &mut [Self::Share],
    );

    /// Asks for the line of element `i` of a span, or behind it, of x and dy, and if `to_write` of the
    /// result.
    fn prefetch_line<S: Simd>(&self, of: &Self::Tensors<'_>, i: usize, to_write: bool);

    /// [`prefetch_line`](Self::prefetch_line) for some elements from `i` on.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, of: &Self::Tensors<'_>, i: usize, len: usize, to_write: bool) {
        const LINE: usize = 64;
        // From 0 on, so that nothing but `len` says how many lines there are: it is often a constant.
        for offset in (0..len).step_by(LINE / size_of::<T>()) {
            self.prefetch_line::<S>(of, i + offset, to_write);
        }
    }

    /// True if there is anything to write.
    fn writes(&self) -> bool;

    /// How many elements of a span, from `i` on, to write before whole registers of `lanes` elements can
    /// be streamed; `None` where they are better not.
    fn streams_after(&self, of: &Self::Tensors<'_>, i: usize, lanes: usize) -> Option<usize>;

    /// Writes every result from element `i` of a span on, once; past the caches if it `streams`.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`]. It streams whole registers alone, and only where `streams_after` says.
    unsafe fn write<S: Simd, const PLAIN: bool>(
        &self,
        of: &Self::Tensors<'_>,
        i: usize,
        part: Part,
        k: &Self::Coefficients<Register<S, T>>,
        streams: bool,
    );

    /// `f` of every coefficient, in the order of the fields.
    fn map<V, W>(
        coefficients: Self::Coefficients<V>,
        f: impl FnMut(V) -> W,
    ) -> Self::Coefficients<W>
    where
        V: Copy + Default + Send + Sync,
        W: Copy + Default + Send + Sync;
}
