// Who computes a plane on chip.
#pragma once
#include "pointwise.cuh"

enum class Tier { Warp, Block };

// The plane of this thread, its place among the threads of the plane, and their number.
template <Tier TIER> struct Team {
    int plane, first, step;

    __device__ Team() {
        if (TIER == Tier::Warp) {
            plane = blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP;
            first = threadIdx.x % WARP;
            step = WARP;
        } else {
            plane = blockIdx.x;
            first = threadIdx.x;
            step = blockDim.x;
        }
    }

    template <typename M> __device__ M merged(const M &m) const {
        return TIER == Tier::Warp ? warp_merge(m) : block_merge(m);
    }
};

// The vectors of a plane that a thread keeps: number k is `first + k * step` of the window.
template <typename T, int N> struct Held {
    static constexpr int COUNT = N;

    Window<T> window;
    int first, step;

    // Calls f(k, site) for each of them.
    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const int vector = first + k * step;
            if (vector < window.vectors()) f(k, Site<T>{window, vector, 0});
        }
    }

    // Calls f(k, j) for each element of them, which are all of one plane.
    template <typename F> __device__ __forceinline__ void elements(int, F f) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            window.each(first + k * step, [&](int j) { f(k, j); });
        }
    }
};

// The moments of what is `held` of the s-th of its planes.
template <typename T, int N, typename H>
__device__ Moments<Acc<T>> measure(const H &held, const Vector<T> (&x)[N], int s = 0) {
    return moments<Acc<T>>([&](auto f) {
        held.elements(s, [&](int k, int j) { f(widen(x[k].v[j])); });
    });
}

template <typename T, int N, typename G, typename H>
__device__ CoMoments<Acc<T>> measure(const H &held, const Vector<T> (&x)[N], const G (&g)[N],
                                     int s = 0) {
    return comoments<Acc<T>>([&](auto f) {
        held.elements(s, [&](int k, int j) { f(widen(x[k].v[j]), widen(g[k].v[j])); });
    });
}
