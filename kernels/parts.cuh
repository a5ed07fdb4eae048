// What is done with parts of planes, whichever way they are cut (split.cu, channels_last.cu): one
// launch measures the parts, the next (finish.cu) makes every plane's coefficients of them, and the
// last one maps the elements.
//
// A `Part` is what a thread has of one. `SUMS` is how many planes it is of; `at` leads to its elements
// in a tensor, `some` goes through them, as many at a time as are loaded at once, `of` has the
// coefficients of its planes, and `put` merges what the threads of a part have measured.
#pragma once
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;

__device__ A &count(Moments<A> &m) { return m.n; }
__device__ A &count(CoMoments<A> &m) { return m.x.n; }

// Merges what `measured(s)` is of the s-th plane to what there is of each.
template <typename M, int SUMS, typename F> __device__ void merge_to(M (&all)[SUMS], F measured) {
    const A n = count(all[0]);  // that of all, which the compiler does not see
#pragma unroll
    for (int s = 0; s < SUMS; ++s) {
        count(all[s]) = n;
        all[s] = merge(all[s], measured(s));
    }
}

// The moments of what is `held` of the s-th plane.
template <typename H, typename X> __device__ Moments<A> measure(const H &held, const X &x, int s) {
    return moments<A>(held.count(), [&](auto f) { held.values(s, f, x); });
}

template <typename H, typename X, typename G>
__device__ CoMoments<A> measure(const H &held, const X &x, const G &g, int s) {
    return comoments<A>(held.count(), [&](auto f) { held.values(s, f, x, g); });
}

template <typename Part>
__device__ void moments_of(const Call &call, const Cut &cut, Stored<Moments<A>> *parts) {
    const Part part(call, cut);
    if (!part.exists()) return;
    const T *from = part.at(call.x);
    Moments<A> m[Part::SUMS] = {};
    part.some([&](const auto &held) {
        const auto x = held.load(from);
        merge_to(m, [&](int s) { return measure(held, x, s); });
    });
    part.put(m, parts);
}

template <typename Part>
__device__ void comoments_of(const Call &call, const Cut &cut, const Stored<Affine<A>> *affines,
                             Stored<CoMoments<A>> *parts) {
    const Part part(call, cut);
    if (!part.exists()) return;
    const T *from = part.at(call.x), *from_dy = part.at(call.dy);
    const auto beside = part.beside().reads();
    const auto affine = part.of(affines);
    CoMoments<A> m[Part::SUMS] = {};
    part.some([&](const auto &held) {
        const auto x = held.load(from), dy = held.load_beside(from_dy);
        const auto g = held.map([&](auto k, const auto &place) {
            return upstream(x[k], dy[k], affine, call.rule, beside, place);
        });
        merge_to(m, [&](int s) { return measure(held, x, g, s); });
    });
    part.put(m, parts);
}

template <typename Part>
__device__ void write(const Call &call, const Cut &cut, const Stored<Affine<A>> *affines) {
    const Part part(call, cut);
    if (!part.exists()) return;
    const T *from = part.at(call.x);
    T *to = part.at(call.out);
    const auto beside = part.beside();
    const auto affine = part.of(affines);
    part.some([&](const auto &held) {
        const auto x = held.load(from);
        held.store(to, held.map([&](auto k, const auto &place) {
            return output(x[k], affine, call.rule, beside, place);
        }));
    });
}

template <typename Part>
__device__ void write_grad(const Call &call, const Cut &cut, const Stored<Affine<A>> *affines,
                           const Stored<Gradient<A>> *gradients) {
    const Part part(call, cut);
    if (!part.exists()) return;
    const T *from = part.at(call.x), *from_dy = part.at(call.dy);
    T *to = part.at(call.out);
    const auto beside = part.beside();
    const auto affine = part.of(affines);
    const auto gradient = part.of(gradients);
    part.some([&](const auto &held) {
        const auto x = held.load(from), dy = held.load_beside(from_dy);
        const auto dx = held.map([&](auto k, const auto &place) {
            const auto g = upstream(x[k], dy[k], affine, call.rule, beside, place);
            return input_gradient(x[k], g, gradient);
        });
        if (to != nullptr) held.store(to, dx);
    });
}

// The kernels of a way to cut planes. `affines` and `gradients` may be null.
#define KERNELS_OF_PARTS(NAME, PART)                                                               \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS) in_##NAME##_moments(               \
        Call call, Cut cut, Stored<Moments<A>> *parts) {                                           \
        moments_of<PART>(call, cut, parts);                                                        \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS) in_##NAME##_comoments(             \
        Call call, Cut cut, const Stored<Affine<A>> *affines, Stored<CoMoments<A>> *parts) {       \
        comoments_of<PART>(call, cut, affines, parts);                                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)                                    \
        in_##NAME##_write(Call call, Cut cut, const Stored<Affine<A>> *affines) {                  \
        write<PART>(call, cut, affines);                                                           \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)                                    \
        in_##NAME##_write_grad(Call call, Cut cut, const Stored<Affine<A>> *affines,               \
                               const Stored<Gradient<A>> *gradients) {                             \
        write_grad<PART>(call, cut, affines, gradients);                                           \
    }
