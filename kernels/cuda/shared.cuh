// Planes of which a block keeps in shared memory what its registers have no room for: 64 KB more on a T4,
// 163 on an A100, 99 on an RTX 30 or 40. A thread reads there what it wrote itself, so that no barrier is
// needed.
#pragma once
#include "span.cuh"
#include <utility>

// A vector of a thread behind those in its registers.
struct InShared {
    int index;
};

extern __shared__ uint4 shared_rows[];

// What a thread keeps of a tensor: in registers as K says, and then in shared memory. There each vector
// takes ROWS rows of 16 bytes a thread, of which this tensor has those from the ROW-th on. Neighbouring
// threads are neighbours in a row, which is the fewest waves.
template <typename K, int ROW, int ROWS> struct SharedKept : K {
    using Value = std::decay_t<decltype(std::declval<K>()[0])>;
    using K::operator[];

    static __device__ uint4 *row(InShared k, int i) {
        return shared_rows + (k.index * ROWS + ROW + i) * blockDim.x + threadIdx.x;
    }

    __device__ __forceinline__ Value operator[](InShared k) const {
        Value out;
#pragma unroll
        for (int i = 0; i < sizeof(Value) / VECTOR_BYTES; ++i) reinterpret_cast<uint4 *>(&out)[i] = *row(k, i);
        return out;
    }

    static __device__ __forceinline__ void put(InShared k, const Value &value) {
#pragma unroll
        for (int i = 0; i < sizeof(Value) / VECTOR_BYTES; ++i) {
            *row(k, i) = reinterpret_cast<const uint4 *>(&value)[i];
        }
    }
};

// The part of a run that a thread has: a fragment in its registers, and all vectors behind it as fragments
// that are loaded one after the other into shared memory. Of each vector ROWS rows there are kept: the
// first is that of x, the others are for the second tensor and what is made of it.
template <typename T, int VECTORS, int ROWS> struct SharedFragment : Fragment<T, VECTORS> {
    using Registers = Fragment<T, VECTORS>;
    // The loads of 512 threads at a time: 32 KB in flight.
    using Part = Fragment<T, 4>;

    // Calls f(part, k) for each fragment of the vectors from the k-th in shared memory on. A warp goes on
    // together while its first lane has any.
    template <typename F> __device__ __forceinline__ void parts(F f) const {
        const auto &[run, first, step, single] = static_cast<const Registers &>(*this);
        const int lane = threadIdx.x % WARP;
#pragma unroll 1
        for (int k = 0, i = first + VECTORS * step; i - lane < run.vectors; k += Part::N, i += Part::N * step) {
            f(Part{run, i, step, {-1}}, k);
        }
    }

    // Calls f(k, place) for each vector in shared memory.
    template <typename F> __device__ __forceinline__ void behind(F f) const {
        parts([&](const Part &part, int from) {
            part.vectors([&](int k, const auto &place) { f(InShared{from + k}, place); });
        });
    }

    template <typename F> __device__ __forceinline__ void each(F f) const {
        Registers::each(f);
        behind(f);
    }

    template <typename F, typename... X>
    __device__ __forceinline__ void values(int, F f, const X &...x) const {
        each([&](auto k, const auto &) { zip(f, widen(x[k])...); });
    }

    template <typename F> __device__ __forceinline__ auto map(F f) const {
        using Out = SharedKept<decltype(Registers::map(f)), 1, ROWS>;
        behind([&](InShared k, const auto &place) { Out::put(k, f(k, place)); });
        return Out{Registers::map(f)};
    }

    __device__ __forceinline__ auto load(const T *x) const {
        return keep<0>([&](const auto &part) { return part.load(x); });
    }

    __device__ __forceinline__ auto load_other(const T *other) const {
        return keep<1>([&](const auto &part) { return part.load_other(other); });
    }

    template <typename F> __device__ __forceinline__ void write(T *to, F f) const {
        Registers::write(to, f);
        behind([&](InShared k, const auto &place) { store(to, place, f(k, place)); });
    }

private:
    // What `load` loads of each fragment. The registers come last: they are free for the others until then.
    template <int ROW, typename F> __device__ __forceinline__ auto keep(F load) const {
        const Registers &registers = *this;
        using Out = SharedKept<decltype(load(registers)), ROW, ROWS>;
        parts([&](const Part &part, int from) {
            const auto some = load(part);
            // Without it ptxas stores the first two before it asks for the others.
            __syncwarp();
            part.vectors([&](int k, const auto &) { Out::put({from + k}, some[k]); });
        });
        return Out{load(registers)};
    }
};
