// Element types, and planes seen as 16-byte vectors.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Sums of the half types and of f32 are kept in f32, those of f64 in f64.
template <typename T> struct AccOf { using type = float; };
template <> struct AccOf<double> { using type = double; };
template <typename T> using Acc = typename AccOf<T>::type;

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(__half v) { return __half2float(v); }
__device__ __forceinline__ float widen(__nv_bfloat16 v) { return __bfloat162float(v); }

__device__ __forceinline__ void narrow(float v, float &out) { out = v; }
__device__ __forceinline__ void narrow(double v, double &out) { out = v; }
__device__ __forceinline__ void narrow(float v, __half &out) { out = __float2half_rn(v); }
__device__ __forceinline__ void narrow(float v, __nv_bfloat16 &out) { out = __float2bfloat16_rn(v); }

template <typename T> constexpr int PER_VECTOR = VECTOR_BYTES / sizeof(T);

template <typename T> struct alignas(VECTOR_BYTES) Vector { T v[PER_VECTOR<T>]; };

// The elements of a vector before they are rounded to its type.
template <typename T> struct Wide { Acc<T> v[PER_VECTOR<T>]; };

template <typename T> __device__ __forceinline__ Wide<T> widen(const Vector<T> &x) {
    Wide<T> out;
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) out.v[j] = widen(x.v[j]);
    return out;
}

template <typename T> __device__ __forceinline__ Vector<T> narrow(const Wide<T> &x) {
    Vector<T> out;
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) narrow(x.v[j], out.v[j]);
    return out;
}

// The elements [head, end) of a run of vectors; the first and the last may be there in part. The
// head is in the first one.
template <typename T> struct Window {
    int head, end;

    // `size` elements from `data` on, counted from the 16-byte boundary at or before it.
    static __device__ Window at(const T *data, int size) {
        const int head = reinterpret_cast<size_t>(data) % VECTOR_BYTES / sizeof(T);
        return {head, head + size};
    }

    __device__ int vectors() const { return (unsigned)(end + PER_VECTOR<T> - 1) / PER_VECTOR<T>; }

    __device__ bool whole(int vector) const {
        return (vector > 0 || head == 0) && (vector + 1) * PER_VECTOR<T> <= end;
    }

    // Calls f(j) for each element j of a vector that is in the window.
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

// A vector of a window, which starts `ahead` elements behind the pointer that goes with it.
template <typename T> struct Site {
    Window<T> window;
    int vector;
    long long ahead;

    __device__ long long offset() const { return ahead + (vector * PER_VECTOR<T> - window.head); }
};

// Where the 16-byte boundaries of a tensor are not those that the window was made for (one at
// another offset), its elements are accessed one by one.
template <typename T>
__device__ __forceinline__ bool at_once(const T *vector, const Site<T> &site) {
    return site.window.whole(site.vector) && reinterpret_cast<size_t>(vector) % VECTOR_BYTES == 0;
}

template <typename T>
__device__ __forceinline__ Vector<T> load(const T *from, const Site<T> &site) {
    Vector<T> out;
    const T *at = from + site.offset();
    if (at_once(at, site)) {
        *reinterpret_cast<uint4 *>(&out) = *reinterpret_cast<const uint4 *>(at);
    } else {
        site.window.each(site.vector, [&](int j) { out.v[j] = at[j]; });
    }
    return out;
}

template <typename T>
__device__ __forceinline__ void store(T *to, const Site<T> &site, const Vector<T> &value) {
    T *at = to + site.offset();
    if (at_once(at, site)) {
        // By its name: nvcc takes a plain assignment apart in some kernels.
        __stwb(reinterpret_cast<uint4 *>(at), *reinterpret_cast<const uint4 *>(&value));
    } else {
        site.window.each(site.vector, [&](int j) { at[j] = value.v[j]; });
    }
}

// A struct as one launch leaves it for the next, in whole vectors.
template <typename M> struct alignas(VECTOR_BYTES) Stored {
    M value;

    static constexpr int VECTORS = (sizeof(M) + VECTOR_BYTES - 1) / VECTOR_BYTES;

    __device__ M get() const {
        Stored out;
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            reinterpret_cast<uint4 *>(&out)[i] = __ldg(reinterpret_cast<const uint4 *>(this) + i);
        }
        return out.value;
    }

    __device__ void put(const M &m) {
        Stored in{};
        in.value = m;
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            __stwb(reinterpret_cast<uint4 *>(this) + i, reinterpret_cast<const uint4 *>(&in)[i]);
        }
    }
};
