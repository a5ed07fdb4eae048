//! A pass over the planes, as the schedules see it.

use super::element::{Acc, CHUNK, Element};
use super::moments::Measure;
use super::operand::Span;
use super::simd::Simd;
use std::mem::MaybeUninit;

/// A coefficient of adjacent elements: one number for all, or one for each.
pub trait Lanes<A>: Copy + Default + Send + Sync {
    /// The coefficient of the first `len` elements.
    fn cut(self, len: usize) -> Self;
    fn at(self, i: usize) -> A;
}

impl<A: Acc> Lanes<A> for A {
    #[inline(always)]
    fn cut(self, _: usize) -> Self {
        self
    }

    #[inline(always)]
    fn at(self, _: usize) -> A {
        self
    }
}

impl<A: Acc> Lanes<A> for &[A] {
    #[inline(always)]
    fn cut(self, len: usize) -> Self {
        &self[..len]
    }

    #[inline(always)]
    fn at(self, i: usize) -> A {
        self[i]
    }
}

/// A pass over groups of planes, which share their statistics: `load` and `finish` turn the values
/// of a group into coefficients of its planes, and `write` computes the results with them.
///
/// The measurements of a plane are merged in order, whatever the schedule: the result has the same
/// bits on any number of threads.
///
/// # Safety of the methods
///
/// The results may lie where x does. So the caller of `load`, `finish` or `write` has the span or
/// the groups to itself: no other thread calls a method for any of their elements meanwhile, and
/// nothing that `load` has returned for them is in use when `finish` or `write` is called. A span
/// has [`CHUNK`] elements at most.
pub trait GroupPass<T: Element>: Sync {
    type Measure: Measure;
    /// Numbers of a plane, by name; channels-last, an array of each over the channels.
    type Coefficients<V: Lanes<T::Acc>>: Copy + Default + Send + Sync;
    /// The result for a plane that the caller of the schedule gets.
    type Share: Copy + Default + Send;

    /// The number of times that a group is measured: twice where the second round's values depend
    /// on the coefficients of the first.
    fn rounds(&self) -> usize {
        1
    }

    /// True if a round needs measurements; otherwise it gets those of nothing.
    fn measures(&self, round: usize) -> bool;

    fn scratch(&self) -> Scratch<T>;

    /// The values to measure: x, and g where the measurements are of two streams.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`].
    unsafe fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        round: usize,
        span: Span,
        coefficients: Self::Coefficients<V>,
        scratch: &'w mut Scratch<T>,
    ) -> [&'w [T::Acc]; 2];

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

    /// True if there is anything to write.
    fn writes(&self) -> bool;

    /// Writes every result of the span, once.
    ///
    /// # Safety
    ///
    /// See [`GroupPass`].
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        span: Span,
        coefficients: Self::Coefficients<V>,
        scratch: &mut Scratch<T>,
    );

    /// `f` of every coefficient, in the order of the fields.
    fn map<V: Lanes<T::Acc>, W: Lanes<T::Acc>>(
        coefficients: Self::Coefficients<V>,
        f: impl FnMut(V) -> W,
    ) -> Self::Coefficients<W>;
}

/// Memory to convert a chunk of a weight per element, of a bias per element and of the residual in.
pub type Converted<T> = [Vec<MaybeUninit<<T as Element>::Acc>>; 3];

/// A thread's memory for one chunk of each tensor, to convert or compute it in.
pub struct Scratch<T: Element> {
    pub x: Vec<MaybeUninit<T::Acc>>,
    pub dy: Vec<MaybeUninit<T::Acc>>,
    pub params: Converted<T>,
    /// Values before the activation, then their gradients.
    pub v: Vec<MaybeUninit<T::Acc>>,
    /// Gradients of the normalized values.
    pub g: Vec<MaybeUninit<T::Acc>>,
    pub output: Vec<MaybeUninit<T::Acc>>,
}

impl<T: Element> Scratch<T> {
    /// Memory to convert in; `v` and `g`, in which every type computes, are empty.
    pub fn new() -> Self {
        Self {
            x: T::scratch(),
            dy: T::scratch(),
            params: [(); 3].map(|_| T::scratch()),
            v: Vec::new(),
            g: Vec::new(),
            output: T::scratch(),
        }
    }
}

/// Memory for one chunk to compute in.
pub fn chunk_of<A: Copy>() -> Vec<MaybeUninit<A>> {
    vec![MaybeUninit::uninit(); CHUNK]
}
