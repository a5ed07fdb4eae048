// Planes that are shared by blocks, or that share their statistics with others.
#include "parts.cuh"

// `cut.chunk` vectors of a plane, for a team of threads. They are counted from the 16-byte boundary
// at or before the plane, so that all parts but the first start on one.
struct Chunk {
    static constexpr int SUMS = 1;
    using Held = ::Held<T, SPLIT_VECTORS>;

    const Call &call;
    long long id;  // through all planes
    int plane, first, step;
    long long start;  // in elements of the plane
    Window<T> window;

    __device__ Chunk(const Call &call, const Cut &cut)
        : call(call),
          id((long long)blockIdx.x * (SPLIT_THREADS / cut.team) + threadIdx.x / cut.team),
          plane(id / cut.chunks), first(threadIdx.x % cut.team), step(cut.team) {
        if (!exists()) return;
        const T *data = ::at<T>(call.x, call.shape, plane);
        const long long length = (long long)cut.chunk * PER_VECTOR<T>;
        const long long begin = id % cut.chunks * length - Window<T>::at(data, 0).head;
        start = max(0LL, begin);
        const int head = start - begin;  // the plane's in its first part, else 0
        const long long end = min(call.shape.spatial, begin + length);
        window = {head, head + (int)max(0LL, end - start)};
    }

    // Where a warp is a team, the last ones of the grid may have nothing to do.
    __device__ bool exists() const { return plane < call.shape.planes; }

    __device__ T *at(const Tensor &tensor) const {
        return ::at<T>(tensor, call.shape, plane, start);
    }

    __device__ Beside<T> beside() const { return {call, plane, start}; }

    template <typename C> __device__ OfPlane<C> of(const Stored<C> *all) const {
        return {all == nullptr ? C{} : all[plane].get()};
    }

    // Calls f(held) for the vectors of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        for (int i = first; i < window.vectors(); i += step * SPLIT_VECTORS) {
            f(Held{window, i, step});
        }
    }

    // Calls f(site) for each of them.
    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll 1
        for (int i = first; i < window.vectors(); i += step) f(Site<T>{window, i, 0});
    }

    template <typename M> __device__ void put(const M (&m)[SUMS], Stored<M> *parts) const {
        const M merged = step == WARP ? warp_merge(m[0]) : block_merge(m[0]);
        if (first == 0) parts[id].put(merged);
    }
};

KERNELS_OF_PARTS(split, Chunk)
