// Who computes a plane, and which part of it.
#pragma once
#include "moments.cuh"

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

constexpr int UNROLL = SPLIT_VECTORS;  // a pragma takes a constant, but no macro

// The part of a plane that a block of the split tier has: `chunk` vectors, counted from the
// 16-byte boundary at or before the plane, so that all parts but the first start on one.
struct Chunk {
    int plane, index;
    long long start;  // in elements of the plane
    int size;

    template <typename T>
    static __device__ Chunk of(const Input &x, const Shape &shape, int chunks, int vectors) {
        const int plane = blockIdx.x / chunks, index = blockIdx.x % chunks;
        const int head = Window<T>::at(plane_of<T>(x, shape, plane), 0).head;
        const long long length = (long long)vectors * PER_VECTOR<T>, begin = index * length - head;
        const long long start = max(0LL, begin), end = min(shape.spatial, begin + length);
        return {plane, index, start, (int)max(0LL, end - start)};
    }
};
