// The work on parts of planes, whichever way they are cut (split.cu, channels_last.cu): one
// launch measures the parts, the next (finish.cu) makes every plane's coefficients of them, and the
// last one maps the elements. Where a group has few parts, the last one makes the coefficients itself.
//
// A `Part` is what a thread has of one. `PLANES` is how many planes it is of; `at` leads to its elements
// in a tensor, `some` goes through them, as many at a time as are loaded at once, `of` has the
// coefficients of its planes, `affine` those of the forward pass, and `put` merges what the threads of a
// part have measured.
#pragma once
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;

// Each launch over the elements goes the opposite way of the one before it, `back` from the last block and
// the last elements of a part on: it starts with what the L2 still has of the other's end. By reasoning,
// not timed: with the 50 MB of an H200, half of them for what is written, a quarter of 100 MB.
__device__ int block_of(bool back) { return back ? gridDim.x - 1 - blockIdx.x : blockIdx.x; }

// True if the gradients take a launch more, which measures x before the others.
__device__ bool has_activation(const Call &call) {
    return !PLAIN && call.spec.activation != Activation::None;
}

__device__ A &count(Moments<A> &m) { return m.n; }
__device__ A &count(CoMoments<A> &m) { return m.x.n; }

// Merges what `measured(s)` is of the s-th plane to what there is of each.
template <typename M, int PLANES, typename F> __device__ void merge_to(M (&all)[PLANES], F measured) {
    const A n = count(all[0]);  // that of all, which the compiler does not see
#pragma unroll
    for (int s = 0; s < PLANES; ++s) {
        count(all[s]) = n;
        all[s] = merge(all[s], measured(s));
    }
}

// The moments of what is in `fragment` of the s-th plane.
template <typename H, typename X> __device__ Moments<A> measure(const H &fragment, const X &x, int s) {
    return moments<A>(fragment.count(), [&](auto f) { fragment.values(s, f, x); });
}

template <typename H, typename X, typename G>
__device__ CoMoments<A> measure(const H &fragment, const X &x, const G &g, int s) {
    return comoments<A>(fragment.count(), [&](auto f) { fragment.values(s, f, x, g); });
}

template <typename Part>
__device__ void moments_of(const Call &call, const Chunks &chunks, Padded<Moments<A>> *parts) {
    const Part part(call, chunks, false);
    if (!part.exists()) return;
    const T *from = part.at(call.x);
    Moments<A> m[Part::PLANES] = {};
    part.some([&](const auto &fragment) {
        const auto x = fragment.load(from);
        merge_to(m, [&](int s) { return measure(fragment, x, s); });
    });
    part.put(m, parts);
}

template <typename Part>
__device__ void comoments_of(const Call &call, const Chunks &chunks, const Padded<Affine<A>> *affines,
                             Padded<CoMoments<A>> *parts) {
    const Part part(call, chunks, has_activation(call));
    if (!part.exists()) return;
    const T *from = part.at(call.x), *from_dy = part.at(call.dy);
    const auto per_element = part.per_element().reads();
    const auto affine = part.of(affines);
    CoMoments<A> m[Part::PLANES] = {};
    part.some([&](const auto &fragment) {
        const auto x = fragment.load(from), dy = fragment.load_other(from_dy);
        const auto g = fragment.map([&](auto k, const auto &place) {
            return normalized_grad(x[k], dy[k], affine, call.spec, per_element, place);
        });
        const auto merge_what = [&](const auto &of) {
            merge_to(m, [&](int s) { return measure(of, x, g, s); });
        };
        if constexpr (PLAIN) {
            merge_what(fragment);
        } else {
            // To keep where the vectors are takes up to 239 registers and, on sm_120, more than there are: 186 and
            // 126 if that is computed again.
            auto again = fragment;
            again.forget();
            merge_what(again);
        }
    });
    part.put(m, parts);
}

template <typename Part>
__device__ void write(const Call &call, const Chunks &chunks, const Padded<Affine<A>> *affines,
                      const Padded<Moments<A>> *parts) {
    const Part part(call, chunks, true);
    if (!part.exists()) return;
    const T *from = part.at(call.x);
    T *to = part.at(call.out);
    const auto per_element = part.per_element();
    const auto affine = part.affine(affines, parts);
    part.some([&](const auto &fragment) {
        const auto x = fragment.load(from);
        fragment.write(to, [&](auto k, const auto &place) {
            return output(x[k], affine, call.spec, per_element, place);
        });
    });
}

template <typename Part>
__device__ void write_grad(const Call &call, const Chunks &chunks, const Padded<Affine<A>> *affines,
                           const Padded<Gradient<A>> *gradients) {
    const Part part(call, chunks, !has_activation(call));
    if (!part.exists()) return;
    const T *from = part.at(call.x), *from_dy = part.at(call.dy);
    T *to = part.at(call.out);
    const auto per_element = part.per_element();
    const auto affine = part.of(affines);
    const auto gradient = part.of(gradients);
    part.some([&](const auto &fragment) {
        const auto x = fragment.load(from), dy = fragment.load_other(from_dy);
        const auto dx = fragment.map([&](auto k, const auto &place) {
            const auto g = normalized_grad(x[k], dy[k], affine, call.spec, per_element, place);
            return input_gradient(x[k], g, gradient);
        });
        if (to != nullptr) fragment.write(to, [&](auto k, const auto &) { return dx[k]; });
    });
}

// With all the registers that there are: to have a block more, ptxas would spill 4 bytes in f64 and 12 in f16.
constexpr int PART_BLOCKS = sizeof(A) == 8 || std::is_same_v<T, __half>;

// The kernels of a way to cut planes. `affines` and `gradients` may be null, and so may `parts` where
// there are affines, or statistics are given.
#define MULTI_PASS_KERNEL(NAME)                                                                    \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS, PART_BLOCKS) NAME
#define MULTI_PASS_KERNELS(NAME, PART)                                                             \
    MULTI_PASS_KERNEL(in_##NAME##_moments)                                                         \
    (Call call, Chunks chunks, Padded<Moments<A>> *parts) {                                        \
        moments_of<PART>(call, chunks, parts);                                                     \
    }                                                                                              \
    MULTI_PASS_KERNEL(in_##NAME##_comoments)                                                       \
    (Call call, Chunks chunks, const Padded<Affine<A>> *affines, Padded<CoMoments<A>> *parts) {    \
        comoments_of<PART>(call, chunks, affines, parts);                                          \
    }                                                                                              \
    MULTI_PASS_KERNEL(in_##NAME##_write)                                                           \
    (Call call, Chunks chunks, const Padded<Affine<A>> *affines, const Padded<Moments<A>> *parts) {\
        write<PART>(call, chunks, affines, parts);                                                 \
    }                                                                                              \
    MULTI_PASS_KERNEL(in_##NAME##_write_grad)                                                      \
    (Call call, Chunks chunks, const Padded<Affine<A>> *affines,                                   \
     const Padded<Gradient<A>> *gradients) {                                                       \
        write_grad<PART>(call, chunks, affines, gradients);                                        \
    }
