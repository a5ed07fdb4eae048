//! Sums against two passes in f64, on every instruction set.

use super::*;
use crate::cpu::moments::CoMoments;
use crate::cpu::operand::{Reader, Span};
use crate::cpu::simd::{Isa, SimdJob};
use ::half::bf16;

/// Measures two streams and writes nothing.
struct Streams<'a, T>([&'a [T]; 2]);

impl<T: Element> GroupPass<T> for Streams<'_, T> {
    type Measure = CoMoments;
    type Coefficients<V: Copy + Default + Send + Sync> = ();
    const COEFFICIENTS: usize = 0;
    type Share = ();
    type Tensors<'a>
        = [Reader<'a, T>; 2]
    where
        Self: 'a;

    fn measures(&self, _: usize) -> bool {
        true
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn are_adjacent(&self) -> bool {
        false
    }

    fn tensors(&self, span: Span) -> [Reader<'_, T>; 2] {
        self.0
            .map(|stream| Reader::new(&stream[span.start..][..span.len]))
    }

    #[inline(always)]
    unsafe fn load<S: Simd, const PLAIN: bool>(
        &self,
        _: usize,
        of: &[Reader<'_, T>; 2],
        i: usize,
        part: Part,
        _: &(),
    ) -> [Register<S, T>; 2] {
        // SAFETY: promised by the caller.
        unsafe { [of[0].at::<S>(i, part), of[1].at::<S>(i, part)] }
    }

    unsafe fn finish(&self, _: usize, _: usize, _: &[CoMoments], _: &mut [()], _: &mut [()]) {}

    fn prefetch_line<S: Simd>(&self, _: &[Reader<'_, T>; 2], _: usize, _: bool) {}

    fn writes(&self) -> bool {
        false
    }

    fn streams_after(&self, _: &[Reader<'_, T>; 2], _: usize, _: usize) -> Option<usize> {
        None
    }

    unsafe fn write<S: Simd, const PLAIN: bool>(
        &self,
        _: &[Reader<'_, T>; 2],
        _: usize,
        _: Part,
        _: &(),
        _: bool,
    ) {
    }

    fn map<V, W>(_: (), _: impl FnMut(V) -> W) {}
}

struct Measured<'a, T>(&'a Streams<'a, T>);

impl<T: Element> SimdJob for Measured<'_, T> {
    type Output = CoMoments;

    #[inline(always)]
    fn run<S: Simd>(self) -> CoMoments {
        let Self(streams) = self;
        let (plane, start, len) = (0, 0, streams.0[0].len());
        let tensors = &streams.tensors(Span { plane, start, len });
        // SAFETY: nothing writes the streams.
        unsafe { measure::<S, T, _, true>(streams, 0, tensors, [0, len], ()) }
    }
}

fn agrees<T: Element>(x: &[T], g: &[T]) {
    let len = x.len();
    let mean = |v: &[T]| v.iter().map(|v| v.to_f64()).sum::<f64>() / len as f64;
    let (x_mean, g_mean) = (mean(x), mean(g));
    let (mut m2, mut cross) = (0., 0.);
    for (x, g) in x.iter().zip(g) {
        m2 += (x.to_f64() - x_mean).powi(2);
        cross += (x.to_f64() - x_mean) * (g.to_f64() - g_mean);
    }
    let spread = (m2 / len as f64).sqrt();
    for isa in Isa::available() {
        let got = isa.run(Measured(&Streams([x, g])));
        let close = |got: f64, want: f64, scale: f64| {
            let off = (got - want).abs();
            assert!(
                off <= 1e-6 * scale,
                "{isa:?} {:?} {len}: {got} {want}",
                T::DTYPE
            );
        };
        close(got.x.n, len as f64, 0.);
        close(got.x.mean, x_mean, spread);
        close(got.x.m2, m2, m2);
        close(got.g_mean, g_mean, 1.);
        close(got.cross, cross, len as f64 * spread);
    }
}

#[test]
fn every_instruction_set_agrees_with_two_passes_in_f64() {
    let noise = |i: usize| (i * 7919 % 1009) as f64 / 504. - 1.;
    // A mean 1e6 deviations from 0, and a start that is far from it.
    let x = |i: usize| 1e4 + 1e-2 * noise(i) + if i < 100 { 1. } else { 0. };
    let g = |i: usize| noise(3 * i + 1) - 5.;
    let odd = 5 * CHUNK + 77;
    for len in (1..140).chain([255, 1023, CHUNK - 1, CHUNK, CHUNK + 1, odd]) {
        let of = |f: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..len).map(f).collect() };
        let (x, g) = (of(&x), of(&g));
        let single = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        let half = |v: &[f64]| v.iter().map(|&v| bf16::from_f64(v)).collect::<Vec<_>>();
        agrees(&x, &g);
        agrees(&single(&x), &single(&g));
        agrees(&half(&g), &half(&of(&noise)));
    }
}
