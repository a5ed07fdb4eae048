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

    // Calls f(k, j) for each element of them.
    template <typename F> __device__ __forceinline__ void elements(F f) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            window.each(first + k * step, [&](int j) { f(k, j); });
        }
    }

    __device__ Moments<Acc<T>> measure(const Vector<T> (&x)[N]) const {
        return moments<Acc<T>>([&](auto f) {
            elements([&](int k, int j) { f(widen(x[k].v[j])); });
        });
    }

    __device__ CoMoments<Acc<T>> measure(const Vector<T> (&x)[N],
                                            const Upstream<T> (&g)[N]) const {
        return comoments<Acc<T>>([&](auto f) {
            elements([&](int k, int j) { f(widen(x[k].v[j]), widen(g[k].v[j])); });
        });
    }
};
