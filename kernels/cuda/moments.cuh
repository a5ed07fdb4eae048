// Means and centred sums of a plane, merged from thread to warp to block to plane.
#pragma once
#include "call.cuh"

// 1 / n of a count, to the last bit as a division has it. That would take 6 registers more, for the call
// of a slow case that a count never is.
__device__ float reciprocal(float n) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(n));
    return fma(fma(-n, r, 1.f), r, r);
}
__device__ double reciprocal(double n) { return 1 / n; }

#include "../shared/moments.h"

// 0 for a sum of squares that rounding made negative. NaN stays NaN.
template <typename A> __device__ A not_below_0(A m2) { return m2 < 0 ? A(0) : m2; }

// The lanes of a warp whose places differ by multiples of `step` below `end`, both powers of two.
struct Lanes {
    int step = 1, end = WARP;

    // Replaces each of K numbers by its sum over the lanes, with the same bits in all.
    template <int K, typename A> __device__ void sum(A (&v)[K]) const {
#pragma unroll
        for (int mask = 1; mask < WARP; mask *= 2) {
            if (mask < step || mask >= end) continue;
#pragma unroll
            for (int i = 0; i < K; ++i) v[i] += __shfl_xor_sync(0xffffffff, v[i], mask);
        }
    }

    // What the lowest of them has.
    template <typename A> __device__ Pair<A> lowest(const Pair<A> &p) const {
        const int lane = threadIdx.x % WARP & ~(end - step);
        return {__shfl_sync(0xffffffff, p.high, lane), __shfl_sync(0xffffffff, p.rest, lane)};
    }
};

template <int LANES, int K, typename A> __device__ void warp_sum(A (&v)[K]) {
    Lanes{1, LANES}.sum(v);
}

// The share of a lane in the values of all, of which there are n.
template <typename A> __device__ A share_of(A of_lane, A n) { return n > 0 ? of_lane * reciprocal(n) : 0; }

// The merge of the lanes, with the same bits in each of them. The means come first, by the way from that
// of the lowest lane, then what is about them: 85 instructions in the listing for co-moments in f32, 400
// as a tree of `merge`. Nothing cancels. The lowest lane has values where any has.
template <typename A> __device__ Moments<A> warp_merge(const Moments<A> &m, const Lanes &lanes = {}) {
    A n[] = {m.n};
    lanes.sum(n);
    const Pair<A> from = lanes.lowest(m.mean);
    A way[] = {share_of(m.n, n[0]) * from.to(m.mean)};
    lanes.sum(way);
    const Pair<A> mean = from.plus(way[0]);
    const A d = mean.to(m.mean);
    A about[] = {m.m2 + m.n * d * d};
    lanes.sum(about);
    return {n[0], mean, about[0]};
}

template <typename A>
__device__ CoMoments<A> warp_merge(const CoMoments<A> &m, const Lanes &lanes = {}) {
    A n[] = {m.x.n};
    lanes.sum(n);
    const A share = share_of(m.x.n, n[0]);
    const Pair<A> from = lanes.lowest(m.x.mean), from_g = lanes.lowest(m.g);
    A way[] = {share * from.to(m.x.mean), share * from_g.to(m.g)};
    lanes.sum(way);
    const Pair<A> mean = from.plus(way[0]), g = from_g.plus(way[1]);
    const A d = mean.to(m.x.mean), e = g.to(m.g);
    A about[] = {m.x.m2 + m.x.n * d * d, m.cross + m.x.n * d * e};
    lanes.sum(about);
    return {{n[0], mean, about[0]}, g, about[1]};
}

// The merge of every `step`th of `count` moments from the `first` one on, of which `m_of(i)` is the i-th.
template <typename F> __device__ auto merge_some(int first, int step, int count, F m_of) {
    decltype(m_of(0)) m{};
    if (first < count) m = m_of(first);
    for (int i = first + step; i < count; i += step) m = merge(m, m_of(i));
    return m;
}

// The merge of all threads, in every thread: one barrier, then each warp merges the warps' results
// for itself. Called once a kernel for each M.
template <typename M> __device__ M block_merge(M m) {
    __shared__ M of_warp[MAX_THREADS / WARP];
    const int lane = threadIdx.x % WARP;
    m = warp_merge(m);
    if (lane == 0) of_warp[threadIdx.x / WARP] = m;
    __syncthreads();
    m = lane < blockDim.x / WARP ? of_warp[lane] : M{};
    return warp_merge(m);
}

// The moments of n values: `each(f)` calls f(x) with every one of them, the same each time.
template <typename A, typename Each> __device__ Moments<A> moments(A n, Each each) {
    A sum = 0;
    each([&](A x) { sum += x; });
    const A inverse = n > 0 ? reciprocal(n) : 0, mean = sum * inverse;
    A off = 0, square = 0;
    each([&](A x) {
        const A d = x - mean;
        off += d;
        square += d * d;
    });
    const A rest = off * inverse;
    return {n, {mean, rest}, square - off * rest};
}

// The co-moments of pairs: `each(f)` calls f(x, g).
template <typename A, typename Each> __device__ CoMoments<A> comoments(A n, Each each) {
    A sum = 0, g_sum = 0;
    each([&](A x, A g) { sum += x, g_sum += g; });
    const A inverse = n > 0 ? reciprocal(n) : 0, mean = sum * inverse, g_mean = g_sum * inverse;
    A off = 0, square = 0, g_off = 0, cross = 0;
    each([&](A x, A g) {
        const A d = x - mean, e = g - g_mean;
        off += d, g_off += e;
        square += d * d, cross += d * e;
    });
    const A rest = off * inverse, g_rest = g_off * inverse;
    return {{n, {mean, rest}, square - off * rest}, {g_mean, g_rest}, cross - off * g_rest};
}
