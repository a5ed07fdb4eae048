// Element types, and elements side by side as 16-byte vectors.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

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

// The bits of a bf16 in the upper half: to nearest, ties to even, every NaN to one. Devices before 8.0 have
// no instruction for it, and cuda_bf16.h takes more of others instead.
__device__ __forceinline__ unsigned bf16_bits(float v) {
    const unsigned bits = __float_as_uint(v), up = bits + 0x7fff + (bits >> 16 & 1);
    return v != v ? 0x7fff0000 : up;
}

__device__ __forceinline__ void narrow(float v, __nv_bfloat16 &out) {
#if __CUDA_ARCH__ >= 800
    out = __float2bfloat16_rn(v);
#else
    out = __ushort_as_bfloat16(bf16_bits(v) >> 16);
#endif
}

template <typename T> constexpr int PER_VECTOR = VECTOR_BYTES / sizeof(T);

// L elements that lie beside each other: a vector, or one. Pairs of a half type are kept in words:
// as elements each would take a register of its own.
template <typename T, int L = PER_VECTOR<T>> struct alignas(L * sizeof(T)) Vector {
    static constexpr bool PAIRS = sizeof(T) == 2 && L > 1;
    using Word = std::conditional_t<PAIRS, unsigned, T>;

    Word words[PAIRS ? L / 2 : L];

    __device__ __forceinline__ T get(int j) const {
        if constexpr (PAIRS) {
            const unsigned short bits = words[j / 2] >> j % 2 * 16;
            return reinterpret_cast<const T &>(bits);
        } else {
            return words[j];
        }
    }

    __device__ __forceinline__ void set(int j, T x) {
        if constexpr (PAIRS) {
            const unsigned bits = reinterpret_cast<const unsigned short &>(x), shift = j % 2 * 16;
            words[j / 2] = (words[j / 2] & ~(0xffffu << shift)) | bits << shift;
        } else {
            words[j] = x;
        }
    }
};

// The elements of a vector before they are rounded to their type.
template <typename T, int L = PER_VECTOR<T>> struct Wide { Acc<T> v[L]; };

// A pair at once: half as many instructions.
__device__ __forceinline__ float2 widen_pair(unsigned pair, __half) {
    return __half22float2(reinterpret_cast<const __half2 &>(pair));
}
__device__ __forceinline__ float2 widen_pair(unsigned pair, __nv_bfloat16) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000)};
}

__device__ __forceinline__ unsigned narrow_pair(float a, float b, __half) {
    const __half2 pair = __floats2half2_rn(a, b);
    return reinterpret_cast<const unsigned &>(pair);
}
__device__ __forceinline__ unsigned narrow_pair(float a, float b, __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return reinterpret_cast<const unsigned &>(pair);
#else
    return __byte_perm(bf16_bits(a), bf16_bits(b), 0x7632);
#endif
}

template <typename T, int L> __device__ __forceinline__ Wide<T, L> widen(const Vector<T, L> &x) {
    Wide<T, L> out;
    if constexpr (Vector<T, L>::PAIRS) {
#pragma unroll
        for (int j = 0; j < L; j += 2) {
            const float2 pair = widen_pair(x.words[j / 2], T{});
            out.v[j] = pair.x, out.v[j + 1] = pair.y;
        }
    } else {
#pragma unroll
        for (int j = 0; j < L; ++j) out.v[j] = widen(x.words[j]);
    }
    return out;
}

template <typename T, int L>
__device__ __forceinline__ const Wide<T, L> &widen(const Wide<T, L> &x) { return x; }

// Calls f(x, ...) for each place of vectors.
template <typename F, typename T, int L, typename... More>
__device__ __forceinline__ void zip(F f, const Wide<T, L> &x, const More &...more) {
#pragma unroll
    for (int j = 0; j < L; ++j) f(x.v[j], more.v[j]...);
}

template <typename T, int L> __device__ __forceinline__ Vector<T, L> narrow(const Wide<T, L> &x) {
    Vector<T, L> out;
    if constexpr (Vector<T, L>::PAIRS) {
#pragma unroll
        for (int j = 0; j < L; j += 2) out.words[j / 2] = narrow_pair(x.v[j], x.v[j + 1], T{});
    } else {
#pragma unroll
        for (int j = 0; j < L; ++j) narrow(x.v[j], out.words[j]);
    }
    return out;
}

// True if a vector can be accessed as a whole.
template <typename T> __device__ __forceinline__ bool is_aligned(const T *at) {
    return reinterpret_cast<size_t>(at) % VECTOR_BYTES == 0;
}

template <typename T> __device__ __forceinline__ Vector<T> whole(const T *at) {
    Vector<T> out;
    *reinterpret_cast<uint4 *>(&out) = *reinterpret_cast<const uint4 *>(at);
    return out;
}

template <typename T> __device__ __forceinline__ void put_whole(T *at, const Vector<T> &value) {
    *reinterpret_cast<uint4 *>(at) = *reinterpret_cast<const uint4 *>(&value);
}

// L elements of a run from one on.
template <int L> struct At {
    int offset;
};

template <typename T, int L>
__device__ __forceinline__ Vector<T, L> one_by_one(const T *from, const At<L> &place) {
    Vector<T, L> out{};
#pragma unroll
    for (int j = 0; j < L; ++j) out.set(j, from[place.offset + j]);
    return out;
}

template <typename T, int L>
__device__ __forceinline__ void put_one_by_one(T *to, const At<L> &place, const Vector<T, L> &value) {
#pragma unroll
    for (int j = 0; j < L; ++j) to[place.offset + j] = value.get(j);
}

template <typename T, int L>
__device__ __forceinline__ Vector<T, L> load(const T *from, const At<L> &place) {
    if constexpr (L > 1) {
        if (is_aligned(from + place.offset)) return whole(from + place.offset);
    }
    return one_by_one(from, place);
}

template <typename T, int L>
__device__ __forceinline__ void store(T *to, const At<L> &place, const Vector<T, L> &value) {
    if constexpr (L > 1) {
        if (is_aligned(to + place.offset)) return put_whole(to + place.offset, value);
    }
    put_one_by_one(to, place, value);
}

// Makes the compiler forget what it computed of a value: rather than keep that for the next time, in
// registers that it has not, it computes it again. With this the gradients of groups take 64 registers, 96
// without.
__device__ __forceinline__ void forget(unsigned &v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void forget(int &v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void forget(float &v) { asm volatile("" : "+f"(v)); }
__device__ __forceinline__ void forget(double &v) { asm volatile("" : "+d"(v)); }

template <typename T, int L> __device__ __forceinline__ void forget(Vector<T, L> &x) {
#pragma unroll
    for (auto &word : x.words) forget(word);
}
template <typename T, int L> __device__ __forceinline__ void forget(Wide<T, L> &x) {
#pragma unroll
    for (auto &v : x.v) forget(v);
}
