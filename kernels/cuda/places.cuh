// Tensors whose channels are adjacent, (N, *S, C): each thread has a vector of channels at some places.
#pragma once
#include "pointwise.cuh"

using T = ELEMENT;
using A = Acc<T>;

// N places of a vector of channels in a part of `rows` places: first + k * step of those that there are.
template <int N> struct Places {
    Span<T> span;  // of channels
    int vector, first, rows, step;

    // A value for each of the places.
    template <typename V> struct Of {
        V at[N];
        __device__ V &operator[](int k) { return at[k]; }
        __device__ const V &operator[](int k) const { return at[k]; }
    };
    using X = Of<Vector<T>>;

    __device__ bool has(int k) const { return (unsigned)(first + k * step) < (unsigned)rows; }

    __device__ VectorRef<T> ref(int k) const {
        // Two products, of which the loops keep one: 7 % fewer instructions in a launch that writes bf16.
        return {span, vector, (long long)first * span.end + (long long)step * span.end * k};
    }

    // Makes the compiler forget where the vectors are, as in Fragment.
    __device__ void forget() { ::forget(first); }

    // Calls f(k, site) for each of them.
    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (has(k)) f(k, ref(k));
        }
    }

    // Calls f(x, ...) for each element of a channel of what is kept.
    template <typename F, typename... Kept>
    __device__ __forceinline__ void values(int channel, F f, const Kept &...x) const {
        each([&](int k, const VectorRef<T> &) { f(widen(x[k]).v[channel]...); });
    }

    // The number of places.
    __device__ int count() const {
        int n = 0;
#pragma unroll
        for (int k = 0; k < N; ++k) n += has(k);
        return n;
    }

    // f(k, site) for each of them, 0 where there is nothing.
    template <typename F> __device__ __forceinline__ auto map(F f) const {
        Of<decltype(f(0, VectorRef<T>{}))> out{};
        each([&](int k, const VectorRef<T> &ref) { out[k] = f(k, ref); });
        return out;
    }

    // True if no vector of a tensor needs a branch, so that all are asked for before any is waited for.
    __device__ bool are_whole(const T *tensor) const {
        return is_aligned(tensor) && span.end % PER_VECTOR<T> == 0;
    }

    __device__ __forceinline__ X load(const T *from) const {
        if (!are_whole(from)) return map([&](int, const VectorRef<T> &ref) { return ::load(from, ref); });
        return map([&](int, const VectorRef<T> &ref) { return whole(from + ref.offset()); });
    }

    __device__ X load_other(const T *from) const { return load(from); }

    // Stores f(k, site) of each of them.
    template <typename F> __device__ __forceinline__ void write(T *to, F f) const {
        const bool whole = are_whole(to);
        each([&](int k, const VectorRef<T> &ref) {
            const Vector<T> value = f(k, ref);
            if (whole) {
                put_whole(to + ref.offset(), value);
            } else {
                store(to, ref, value);
            }
        });
    }
};
