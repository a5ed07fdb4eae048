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

// The structs below are filled in by src/cuda/memory.rs, field for field.

// An input of any strides over N and C; the elements of a plane are adjacent.
struct Input {
    const void *data;
    long long stride_n, stride_c;
};

// A weight or bias: plane p takes element p % period. `data` is null where there is none.
struct Param {
    const void *data;
    int period;
    int is_f32;  // f32 beside an x of a half type
};

struct Shape {
    long long spatial;
    int planes, c;
    double eps;
};

template <typename T> __device__ Acc<T> load(const Param &param, int plane, Acc<T> absent) {
    if (param.data == nullptr) return absent;
    const int i = plane % param.period;
    if (param.is_f32) return static_cast<const float *>(param.data)[i];
    return widen(static_cast<const T *>(param.data)[i]);
}

template <typename T> __device__ const T *plane_of(const Input &x, const Shape &shape, int plane) {
    const long long n = plane / shape.c, c = plane % shape.c;
    return static_cast<const T *>(x.data) + n * x.stride_n + c * x.stride_c;
}

template <typename T> constexpr int PER_VECTOR = VECTOR_BYTES / sizeof(T);

template <typename T> struct alignas(VECTOR_BYTES) Vector { T v[PER_VECTOR<T>]; };

// The elements [head, end) of a run of vectors; the first and the last may be there in part.
template <typename T> struct Window {
    int head, end;

    // `size` elements from `data` on, counted from the 16-byte boundary at or before it.
    static __device__ Window at(const T *data, int size) {
        const int head = reinterpret_cast<size_t>(data) % VECTOR_BYTES / sizeof(T);
        return {head, head + size};
    }

    __device__ int vectors() const { return (end + PER_VECTOR<T> - 1) / PER_VECTOR<T>; }

    __device__ bool whole(int vector) const {
        return vector * PER_VECTOR<T> >= head && (vector + 1) * PER_VECTOR<T> <= end;
    }

    // Calls f(j) for each element j of a vector that is in the window.
    template <typename F> __device__ __forceinline__ void each(int vector, F f) const {
        if (whole(vector)) {
#pragma unroll
            for (int j = 0; j < PER_VECTOR<T>; ++j) f(j);
        } else {
#pragma unroll
            for (int j = 0; j < PER_VECTOR<T>; ++j) {
                const int i = vector * PER_VECTOR<T> + j;
                if (i >= head && i < end) f(j);
            }
        }
    }
};

// One side of a pass over a window. Where its 16-byte boundaries are not those that the window
// was made for (an input at another offset), its elements are accessed one by one.
template <typename T> struct Access {
    T *base;
    bool aligned;

    template <typename W>
    __device__ Access(T *data, const W &window)
        : base(data - window.head),
          aligned(reinterpret_cast<size_t>(data - window.head) % VECTOR_BYTES == 0) {}
};

template <typename T>
__device__ __forceinline__ Vector<T> load(const Access<const T> &from, const Window<T> &window,
                                          int vector) {
    Vector<T> out;
    const T *at = from.base + vector * PER_VECTOR<T>;
    if (from.aligned && window.whole(vector)) {
        *reinterpret_cast<uint4 *>(&out) = *reinterpret_cast<const uint4 *>(at);
    } else {
        window.each(vector, [&](int j) { out.v[j] = at[j]; });
    }
    return out;
}

template <typename T>
__device__ __forceinline__ void store(const Access<T> &to, const Window<T> &window, int vector,
                                      const Vector<T> &value) {
    T *at = to.base + vector * PER_VECTOR<T>;
    if (to.aligned && window.whole(vector)) {
        *reinterpret_cast<uint4 *>(at) = *reinterpret_cast<const uint4 *>(&value);
    } else {
        window.each(vector, [&](int j) { at[j] = value.v[j]; });
    }
}
