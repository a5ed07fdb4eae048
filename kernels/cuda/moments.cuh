// Means and centred sums of a plane, merged from thread to warp to block to plane.
#pragma once
#include "call.cuh"
#include "../shared/moments.h"

// 0 for a sum of squares that rounding made negative. NaN stays NaN.
template <typename A> __device__ A not_below_0(A m2) { return m2 < 0 ? A(0) : m2; }

// Replaces each of K numbers by its sum over LANES neighbours of a warp, with the same bits in all.
template <int LANES, int K, typename A> __device__ void warp_sum(A (&v)[K]) {
#pragma unroll
    for (int mask = 1; mask < LANES; mask *= 2) {
#pragma unroll
        for (int i = 0; i < K; ++i) v[i] += __shfl_xor_sync(0xffffffff, v[i], mask);
    }
}

template <typename M> __device__ M from_lane(const M &m, int lane_mask) {
    static_assert(sizeof(M) % sizeof(int) == 0, "shuffled word by word");
    M out;
#pragma unroll
    for (int i = 0; i < sizeof(M) / sizeof(int); ++i) {
        reinterpret_cast<int *>(&out)[i] =
            __shfl_xor_sync(0xffffffff, reinterpret_cast<const int *>(&m)[i], lane_mask);
    }
    return out;
}

// Word by word: a choice between two structs would be one between their places in local memory.
template <typename M> __device__ M choose(bool first, const M &a, const M &b) {
    M out;
#pragma unroll
    for (int i = 0; i < sizeof(M) / sizeof(int); ++i) {
        reinterpret_cast<int *>(&out)[i] = first ? reinterpret_cast<const int *>(&a)[i]
                                                 : reinterpret_cast<const int *>(&b)[i];
    }
    return out;
}

// The merge of the lanes whose places differ by multiples of `step`, a power of two, in each of them.
// Both lanes of a pair merge the lower one first, so that all end up with the same bits.
template <typename M> __device__ M warp_merge(M m, int step = 1) {
#pragma unroll
    for (int mask = 1; mask < WARP; mask *= 2) {
        if (mask < step) continue;
        const M other = from_lane(m, mask);
        const bool behind = threadIdx.x & mask;
        m = merge(choose(behind, other, m), choose(behind, m, other));
    }
    return m;
}

// The merge of every `step`th of `count` moments from the `first` one on, of which `m_of(i)` is the i-th.
template <typename F> __device__ auto merge_some(int first, int step, int count, F m_of) {
    decltype(m_of(0)) m{};
    for (int i = first; i < count; i += step) m = merge(m, m_of(i));
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
    const A inverse = n > 0 ? 1 / n : 0, mean = sum * inverse;
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
    const A inverse = n > 0 ? 1 / n : 0, mean = sum * inverse, g_mean = g_sum * inverse;
    A off = 0, square = 0, g_off = 0, cross = 0;
    each([&](A x, A g) {
        const A d = x - mean, e = g - g_mean;
        off += d, g_off += e;
        square += d * d, cross += d * e;
    });
    const A rest = off * inverse, g_rest = g_off * inverse;
    return {{n, {mean, rest}, square - off * rest}, {g_mean, g_rest}, cross - off * g_rest};
}
