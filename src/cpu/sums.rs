//! Sums over chunks, in lanes that become vector code.

use super::element::Acc;
use super::moments::Measure;
use super::simd::{Simd, SimdJob};
use std::marker::PhantomData;

/// Partial sums side by side: two AVX-512, four AVX2 or eight NEON registers of f32, enough to
/// hide the latency of an addition and few enough that four sums fit the register file.
const LANES: usize = 32;

/// The number of values at the start of a chunk of `len` whose mean is the shift: an eighth.
///
/// The square of its distance from the chunk's mean is at most 7 times the chunk's variance
/// (7/8 and 1/8 apart by any distance vary by 7/64 of its square at least), so cancelling it costs
/// the variance 3 bits at the very worst, and an eighth of the work of the exact mean.
#[inline(always)]
pub fn for_shift(len: usize) -> usize {
    len.min(len.div_ceil(8).next_multiple_of(LANES))
}

/// The means of the streams.
#[inline(always)]
pub fn means<A: Acc, M: Measure>(streams: [&[A]; 2]) -> [A; 2] {
    let mut means = [A::default(); 2];
    for i in 0..M::STREAMS {
        means[i] = mean(streams[i]);
    }
    means
}

#[inline(always)]
fn mean<A: Acc>(values: &[A]) -> A {
    let mut sums = [A::default(); LANES];
    let (tiles, rest) = values.as_chunks::<LANES>();
    for tile in tiles {
        for lane in 0..LANES {
            sums[lane] += tile[lane];
        }
    }
    if !rest.is_empty() {
        let mut last = [A::default(); LANES];
        last[..rest.len()].copy_from_slice(rest);
        for lane in 0..LANES {
            sums[lane] += last[lane];
        }
    }
    Acc::from_f64(pairwise(&sums).to_f64() * (1. / values.len() as f64))
}

/// The measurements of a chunk of the streams, given shifts near their means.
#[inline(always)]
pub fn measure<S: Simd, A: Acc, M: Measure>(streams: [&[A]; 2], shifts: [A; 2]) -> M {
    let measure = PhantomData;
    S::call(Sums {
        streams,
        shifts,
        measure,
    })
}

/// Sums in [`LANES`] lanes, which are then added pairwise: a job of its own, compiled once for f32 and
/// once for f64.
struct Sums<'a, A, M> {
    streams: [&'a [A]; 2],
    shifts: [A; 2],
    measure: PhantomData<M>,
}

impl<A: Acc, M: Measure> SimdJob for Sums<'_, A, M> {
    type Output = M;

    #[inline(always)]
    fn run<S: Simd>(self) -> M {
        let (mut streams, shifts) = (self.streams, self.shifts);
        let len = streams[0].len();
        for stream in &mut streams[..M::STREAMS] {
            *stream = &stream[..len];
        }
        let mut sums = [[A::default(); LANES]; 4];
        let none = [A::default(); LANES];
        let mut tile = [&none; 2];
        for t in 0..len / LANES {
            for i in 0..M::STREAMS {
                tile[i] = &streams[i].as_chunks().0[t];
            }
            add_tile::<S, A, M>(&mut sums, tile, shifts);
        }
        let rest = len % LANES;
        if rest > 0 {
            // Lanes without an element hold the shift itself and so add nothing.
            let mut last = [[A::default(); LANES]; 2];
            for i in 0..M::STREAMS {
                last[i] = [shifts[i]; LANES];
                last[i][..rest].copy_from_slice(&streams[i][len - rest..]);
            }
            add_tile::<S, A, M>(&mut sums, last.each_ref(), shifts);
        }
        let mut totals = [0.; 4];
        for k in 0..2 * M::STREAMS {
            totals[k] = pairwise(&sums[k]).to_f64();
        }
        M::from_sums(len as f64, wide(shifts), totals)
    }
}

#[inline(always)]
fn add_tile<S: Simd, A: Acc, M: Measure>(
    sums: &mut [[A; LANES]; 4],
    [x, g]: [&[A; LANES]; 2],
    [x_shift, g_shift]: [A; 2],
) {
    let [s, ss, t, st] = sums;
    for i in 0..LANES {
        let (d, e) = (x[i] - x_shift, g[i] - g_shift);
        let next = M::step::<S, A>([s[i], ss[i], t[i], st[i]], [d, e]);
        [s[i], ss[i]] = [next[0], next[1]];
        if M::STREAMS == 2 {
            [t[i], st[i]] = [next[2], next[3]];
        }
    }
}

/// Adds one value of each stream to the sums of every lane, each lane with shifts of its own.
#[inline(always)]
pub fn add_row<S: Simd, A: Acc, M: Measure>(
    sums: &mut [Vec<A>; 4],
    shifts: &[Vec<A>; 2],
    row: [&[A]; 2],
) {
    // Slices of one length, so that the loop is free of checks and becomes vector code.
    let len = row[0].len();
    let [s, ss, t, st] = sums;
    let (s, ss) = (&mut s[..len], &mut ss[..len]);
    let (t, st) = (&mut t[..len], &mut st[..len]);
    let (x, x_shift) = (&row[0][..len], &shifts[0][..len]);
    let (mut g, mut g_shift) = (x, x_shift);
    if M::STREAMS == 2 {
        (g, g_shift) = (&row[1][..len], &shifts[1][..len]);
    }
    for i in 0..len {
        let (d, e) = (x[i] - x_shift[i], g[i] - g_shift[i]);
        let next = M::step::<S, A>([s[i], ss[i], t[i], st[i]], [d, e]);
        [s[i], ss[i]] = [next[0], next[1]];
        if M::STREAMS == 2 {
            [t[i], st[i]] = [next[2], next[3]];
        }
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

/// The sum of all lanes, halves added to halves.
#[inline(always)]
fn pairwise<A: Acc>(lanes: &[A; LANES]) -> A {
    macro_rules! halve {
        ($lanes:ident, $width:literal) => {{
            let mut half = [A::default(); $width];
            for lane in 0..$width {
                half[lane] = $lanes[lane] + $lanes[lane + $width];
            }
            half
        }};
    }
    let lanes = halve!(lanes, 16);
    let lanes = halve!(lanes, 8);
    // In memory, so that LLVM adds 4 lanes of this sum at a time. Otherwise it pairs each lane with
    // one of another sum, a shuffle for each: of 7x7 planes the gradients' four sums took 108 to 152
    // instructions a plane, with this some 32.
    let lanes = std::hint::black_box(halve!(lanes, 4));
    let lanes = halve!(lanes, 2);
    lanes[0] + lanes[1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::element::CHUNK;
    use crate::cpu::moments::CoMoments;
    use crate::cpu::simd::Isa;

    struct Of<'a>(&'a [f32], &'a [f32]);

    impl SimdJob for Of<'_> {
        type Output = CoMoments;

        #[inline(always)]
        fn run<S: Simd>(self) -> CoMoments {
            let start = for_shift(self.0.len().min(CHUNK));
            let mut shifts = means::<_, CoMoments>([&self.0[..start], &self.1[..start]]);
            let mut total = CoMoments::default();
            for (x, g) in self.0.chunks(CHUNK).zip(self.1.chunks(CHUNK)) {
                total = total.merge(&measure::<S, _, _>([x, g], shifts));
                shifts = narrow(total.means());
            }
            total
        }
    }

    /// A mean 1e6 deviations from 0, and a start that is far from it.
    fn samples(len: usize) -> (Vec<f32>, Vec<f32>) {
        let noise = |i: usize| (i * 7919 % 1009) as f32 / 504. - 1.;
        let x = (0..len).map(|i| 1e4 + 1e-2 * noise(i) + if i < 100 { 1. } else { 0. });
        let g = (0..len).map(|i| noise(3 * i + 1) - 5.);
        (x.collect(), g.collect())
    }

    #[test]
    fn every_instruction_set_agrees_with_two_passes_in_f64() {
        for len in [1, 2, 31, 32, 33, 255, CHUNK - 1, CHUNK + 1, 5 * CHUNK + 77] {
            let (x, g) = samples(len);
            let mean = |v: &[f32]| v.iter().map(|&v| v as f64).sum::<f64>() / len as f64;
            let (x_mean, g_mean) = (mean(&x), mean(&g));
            let (mut m2, mut cross) = (0., 0.);
            for (&x, &g) in x.iter().zip(&g) {
                m2 += (x as f64 - x_mean).powi(2);
                cross += (x as f64 - x_mean) * (g as f64 - g_mean);
            }
            for isa in Isa::available() {
                let got = isa.run(Of(&x, &g));
                let spread = (m2 / len as f64).sqrt();
                let close = |got: f64, want: f64, scale: f64| {
                    assert!(
                        (got - want).abs() <= 1e-6 * scale,
                        "{isa:?} {len}: {got} {want}"
                    );
                };
                close(got.x.n, len as f64, 0.);
                close(got.x.mean, x_mean, spread);
                close(got.x.m2, m2, m2);
                close(got.g_mean, g_mean, 1.);
                close(got.cross, cross, len as f64 * spread);
            }
        }
    }
}
