//! What an op does to the planes of a set, and the room it needs for that.

use super::element::{Element, Scratch, CHUNK};
use super::moments::Measure;
use super::operand::Place;
use super::simd::Simd;

/// Numbers that go with the elements of a run: one for all, or one for each.
pub trait Lanes<A>: Copy {
    /// Those of the first `len` elements.
    fn cut(self, len: usize) -> Self;
    fn at(self, i: usize) -> A;
}

/// One number for all elements.
#[derive(Clone, Copy)]
pub struct Splat<A>(pub A);

impl<A: Copy> Lanes<A> for Splat<A> {
    #[inline(always)]
    fn cut(self, _: usize) -> Self {
        self
    }
    #[inline(always)]
    fn at(self, _: usize) -> A {
        self.0
    }
}

impl<A: Copy> Lanes<A> for &[A] {
    #[inline(always)]
    fn cut(self, len: usize) -> Self {
        &self[..len]
    }
    #[inline(always)]
    fn at(self, i: usize) -> A {
        self[i]
    }
}

/// What an op does to the planes of a set, which share their statistics: `I` streams of values are
/// measured by `K` sums, and `F` coefficients of each plane tell how to write its results.
///
/// The measurements of a plane are merged in order, whatever the schedule: the result has the same
/// bits on any number of threads. `load` and `write` get at most [`CHUNK`] elements.
pub trait SetOp<T: Element, const I: usize, const K: usize, const F: usize>: Sync {
    type Measure: Measure<I, K>;
    /// What is left of a plane for the caller.
    type Share: Copy + Default + Send;

    /// How often `finish` is called for a set: twice where what the second round measures depends
    /// on the coefficients of the first.
    fn rounds(&self) -> usize {
        1
    }
    /// Whether the planes are measured before a round, or its measurements are those of nothing.
    fn measures(&self, round: usize) -> bool;
    fn workspace(&self) -> Workspace<T>;

    fn load<'w, S: Simd, V: Lanes<T::Acc>>(
        &'w self,
        round: usize,
        place: Place,
        len: usize,
        coefficients: [V; F],
        ws: &'w mut Workspace<T>,
    ) -> [&'w [T::Acc]; I];

    /// The coefficients and shares of whole sets of planes from `first` on, which no other thread
    /// reads or writes meanwhile.
    fn finish(
        &self,
        round: usize,
        first: usize,
        measures: &[Self::Measure],
        coefficients: &mut [[T::Acc; F]],
        shares: &mut [Self::Share],
    );

    /// Whether there is anything to write.
    fn writes(&self) -> bool;
    /// # Safety
    ///
    /// No other thread has the place, and each is written once.
    unsafe fn write<S: Simd, V: Lanes<T::Acc>>(
        &self,
        place: Place,
        len: usize,
        coefficients: [V; F],
        ws: &mut Workspace<T>,
    );
}

/// Room for a chunk of everything that a pass reads, computes and writes.
pub struct Workspace<T: Element> {
    pub reads: Reads<T>,
    /// A weight per element, read once more.
    pub extras: Scratch<T::Acc>,
    /// [`CHUNK`] gradients of the normalized values; or empty.
    pub g: Vec<T::Acc>,
    pub output: Scratch<T::Acc>,
}

/// Room for what is read, and for the values before the activation.
pub struct Reads<T: Element> {
    pub x: Scratch<T::Acc>,
    pub dy: Scratch<T::Acc>,
    /// Parameters per element, one after the other.
    pub extras: Scratch<T::Acc>,
    pub residual: Scratch<T::Acc>,
    /// [`CHUNK`] values before the activation, then their gradients; or empty.
    pub v: Vec<T::Acc>,
}

impl<T: Element> Workspace<T> {
    pub fn new(values: bool, gradients: bool) -> Self {
        let room = |wanted| vec![T::Acc::default(); if wanted { CHUNK } else { 0 }];
        Self {
            reads: Reads {
                x: T::scratch(),
                dy: T::scratch(),
                extras: T::scratch(),
                residual: T::scratch(),
                v: room(values),
            },
            extras: T::scratch(),
            g: room(gradients),
            output: T::scratch(),
        }
    }
}
