// Planes seen as vectors, and the part of them that a thread has.
#pragma once
#include "vector.cuh"

// The share of a thread in a run: N whole vectors, and S of the elements that are left beside the vectors,
// by their `Single`. V and E are what it keeps of either.
struct Single {
    int index;
};

template <typename V, typename E, int N, int S> struct Kept {
    V vector[N];
    E element[S];

    __device__ V &operator[](int k) { return vector[k]; }
    __device__ const V &operator[](int k) const { return vector[k]; }
    __device__ E &operator[](Single k) { return element[k.index]; }
    __device__ const E &operator[](Single k) const { return element[k.index]; }
};

template <typename V, typename E, int N, int S> __device__ __forceinline__ void forget(Kept<V, E, N, S> &x) {
#pragma unroll
    for (int k = 0; k < N; ++k) forget(x.vector[k]);
}

// A run of adjacent elements, as whole vectors between 16-byte boundaries and the elements that are
// left at both ends, which the first threads have one by one. Every access of a vector stands alone
// and needs no branch, so that all that a thread reads is asked for before any of it is waited for.
template <typename T> struct Run {
    int size, head, vectors;

    __device__ Run(const T *data, int size) : size(size) {
        const unsigned place = reinterpret_cast<size_t>(data) / sizeof(T);
        head = min(size, (int)(-place % PER_VECTOR<T>));
        vectors = (unsigned)(size - head) / PER_VECTOR<T>;
    }

    // Of whole vectors, between two boundaries.
    __device__ explicit Run(int vectors) : size(vectors * PER_VECTOR<T>), head(0), vectors(vectors) {}

    // Of an i below 0 too.
    __device__ bool has(int i) const { return (unsigned)i < (unsigned)vectors; }

    __device__ At<PER_VECTOR<T>> vector(int i) const { return {head + i * PER_VECTOR<T>}; }

    // The element of the i-th thread that no vector has, or -1.
    __device__ int single(int i) const {
        const int behind = head + (vectors - 1) * PER_VECTOR<T> + i;
        return i < head ? i : i >= PER_VECTOR<T> && behind < size ? behind : -1;
    }
};

// The part of a run that a thread has: the vectors `first + k * step` that there are, and each of `single` that is not
// negative.
template <typename T, int VECTORS, int S = 1> struct Fragment {
    static constexpr int N = VECTORS;

    Run<T> run;
    int first, step, single[S];

    using X = Kept<Vector<T>, Vector<T, 1>, N, S>;

    __device__ bool has(int k) const { return run.has(first + k * step); }

    // Makes the compiler forget where the vectors are: it would rather keep their N places over all sums
    // than compute them again, and have too few registers.
    __device__ void forget() { ::forget(first); }

    // Calls f(k, place) for each vector.
    template <typename F> __device__ __forceinline__ void vectors(F f) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (has(k)) f(k, run.vector(first + k * step));
        }
    }

    // Calls f(k, place) for each single element.
    template <typename F> __device__ __forceinline__ void singles(F f) const {
#pragma unroll
        for (int k = 0; k < S; ++k) {
            if (single[k] >= 0) f(Single{k}, At<1>{single[k]});
        }
    }

    template <typename F> __device__ __forceinline__ void each(F f) const {
        vectors(f);
        singles(f);
    }

    // Calls f(x, ...) for each element of what is kept. All are of one plane, the 0th.
    template <typename F, typename... X>
    __device__ __forceinline__ void values(int, F f, const X &...x) const {
        each([&](auto k, const auto &) { zip(f, widen(x[k])...); });
    }

    // The number of elements.
    __device__ int count() const {
        int n = 0;
        vectors([&](int, const auto &) { n += PER_VECTOR<T>; });
        singles([&](Single, const auto &) { n += 1; });
        return n;
    }

    // f(k, place) for each vector and each element. What there is nothing for nobody reads.
    template <typename F> __device__ __forceinline__ auto map(F f) const {
        using V = decltype(f(0, At<PER_VECTOR<T>>{}));
        Kept<V, decltype(f(Single{}, At<1>{})), N, S> out{};
        each([&](auto k, const auto &place) { out[k] = f(k, place); });
        return out;
    }

    // Loads x, whose boundaries the run was made for.
    __device__ __forceinline__ X load(const T *x) const {
        X out{};
        vectors([&](int k, const auto &place) { out[k] = whole(x + place.offset); });
        singles([&](Single k, const auto &place) { out[k] = one_by_one(x, place); });
        return out;
    }

    // Loads another tensor, whose boundaries may be elsewhere.
    __device__ __forceinline__ X load_other(const T *other) const {
        if (is_aligned(other + run.head)) return load(other);
        return map([&](auto, const auto &place) { return one_by_one(other, place); });
    }

    // Stores f(k, place) of each vector and each element, one after the other: no more than one has to be
    // kept.
    template <typename F> __device__ __forceinline__ void write(T *to, F f) const {
        if (is_aligned(to + run.head)) {
            vectors([&](int k, const auto &place) { put_whole(to + place.offset, f(k, place)); });
            singles([&](Single k, const auto &place) { to[place.offset] = f(k, place).get(0); });
        } else {
            each([&](auto k, const auto &place) { put_one_by_one(to, place, f(k, place)); });
        }
    }
};

// The elements [head, end) of a run of vectors; the first and the last may be there in part. The
// head is in the first one.
template <typename T> struct Span {
    int head, end;

    __device__ int vectors() const { return (unsigned)(end + PER_VECTOR<T> - 1) / PER_VECTOR<T>; }

    __device__ bool whole(int vector) const {
        return (vector > 0 || head == 0) && (vector + 1) * PER_VECTOR<T> <= end;
    }

    // Calls f(j) for each element j of a vector that is in the span.
    template <typename F> __device__ __forceinline__ void each(int vector, F f) const {
        if (whole(vector)) {
#pragma unroll
            for (int j = 0; j < PER_VECTOR<T>; ++j) f(j);
        } else {
#pragma unroll
            for (int j = 0; j < PER_VECTOR<T>; ++j) {
                // Unsigned, there is nothing left to compare where the compiler sees a head of 0, as it
                // does of channels.
                const int i = vector * PER_VECTOR<T> + j;
                if ((unsigned)i >= (unsigned)head && i < end) f(j);
            }
        }
    }
};

// A vector of a span, which starts `ahead` elements behind the pointer that goes with it.
template <typename T> struct VectorRef {
    Span<T> span;
    int vector;
    long long ahead;

    __device__ long long offset() const { return ahead + (vector * PER_VECTOR<T> - span.head); }
};

// Where the 16-byte boundaries of a tensor are not those that the span was made for (one at
// another offset), its elements are accessed one by one.
template <typename T>
__device__ __forceinline__ bool at_once(const T *vector, const VectorRef<T> &ref) {
    return ref.span.whole(ref.vector) && is_aligned(vector);
}

template <typename T>
__device__ __forceinline__ Vector<T> load(const T *from, const VectorRef<T> &ref) {
    Vector<T> out{};
    const T *at = from + ref.offset();
    if (at_once(at, ref)) {
        *reinterpret_cast<uint4 *>(&out) = *reinterpret_cast<const uint4 *>(at);
    } else {
        ref.span.each(ref.vector, [&](int j) { out.set(j, at[j]); });
    }
    return out;
}

template <typename T>
__device__ __forceinline__ void store(T *to, const VectorRef<T> &ref, const Vector<T> &value) {
    T *at = to + ref.offset();
    if (at_once(at, ref)) {
        // By its name: nvcc takes a plain assignment apart in some kernels.
        __stwb(reinterpret_cast<uint4 *>(at), *reinterpret_cast<const uint4 *>(&value));
    } else {
        ref.span.each(ref.vector, [&](int j) { at[j] = value.get(j); });
    }
}

// A struct as one launch leaves it for the next, in whole vectors.
template <typename M> struct alignas(VECTOR_BYTES) Padded {
    M value;

    static constexpr int VECTORS = (sizeof(M) + VECTOR_BYTES - 1) / VECTOR_BYTES;

    __device__ M get() const {
        Padded out;
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            reinterpret_cast<uint4 *>(&out)[i] = __ldg(reinterpret_cast<const uint4 *>(this) + i);
        }
        return out.value;
    }

    __device__ void put(const M &m) {
        Padded in{};
        in.value = m;
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            __stwb(reinterpret_cast<uint4 *>(this) + i, reinterpret_cast<const uint4 *>(&in)[i]);
        }
    }
};
