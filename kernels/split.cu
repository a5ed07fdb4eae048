// Planes that are shared by blocks, or that share their statistics with others.
#include "parts.cuh"

// `cut.chunk` vectors of a plane, for a team of threads. They are counted from the 16-byte boundary
// at or before the plane, so that all parts but the first start on one.
struct Chunk {
    static constexpr int SUMS = 1;

    const Call &call;
    long long id;  // through all planes
    int plane, first, step;
    long long start;  // in elements of the plane
    Run<T> run;

    __device__ Chunk(const Call &call, const Cut &cut)
        : call(call),
          id((long long)blockIdx.x * (SPLIT_THREADS / cut.team) + threadIdx.x / cut.team),
          plane(id / cut.chunks), first(threadIdx.x % cut.team), step(cut.team),
          run(nullptr, 0) {
        const T *data = ::at<T>(call.x, call.shape, plane);
        const long long length = (long long)cut.chunk * PER_VECTOR<T>;
        const int before = reinterpret_cast<size_t>(data) / sizeof(T) % PER_VECTOR<T>;
        const long long begin = id % cut.chunks * length - before;
        start = max(0LL, begin);
        run = {data + start, (int)max(0LL, min(call.shape.spatial, begin + length) - start)};
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

    // Calls f(held) for the elements of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        int single = run.single(first), i = first;
        do {
            f(Held<T, SPLIT_VECTORS>{run, i, step, {single}});
            single = -1, i += step * SPLIT_VECTORS;
        } while (i < run.vectors);
    }

    template <typename M> __device__ void put(const M (&m)[SUMS], Stored<M> *parts) const {
        const M merged = step == WARP ? warp_merge(m[0]) : block_merge(m[0]);
        if (first == 0) parts[id].put(merged);
    }
};

KERNELS_OF_PARTS(split, Chunk)
