// Planes that are shared by blocks, or that share their statistics with others.
#include "multi_pass.cuh"

// `chunks.length` vectors of a plane, for a team of threads. They are counted from the 16-byte boundary
// at or before the plane, so that all parts but the first start on one.
struct Chunk {
    static constexpr int PLANES = 1;

    const Call &call;
    long long id;  // through all planes
    int plane, first, step;
    long long start;  // in elements of the plane
    Run<T> run;

    __device__ Chunk(const Call &call, const Chunks &chunks)
        : call(call),
          id((long long)blockIdx.x * (SPLIT_THREADS / chunks.team) + threadIdx.x / chunks.team),
          plane(id / chunks.count), first(threadIdx.x % chunks.team), step(chunks.team),
          run(nullptr, 0) {
        const T *data = ::at<T>(call.x, call.shape, plane);
        const long long length = (long long)chunks.length * PER_VECTOR<T>;
        const int before = reinterpret_cast<size_t>(data) / sizeof(T) % PER_VECTOR<T>;
        const long long begin = id % chunks.count * length - before;
        start = max(0LL, begin);
        run = {data + start, (int)max(0LL, min(call.shape.spatial, begin + length) - start)};
    }

    // Where a warp is a team, the last ones of the grid may have nothing to do.
    __device__ bool exists() const { return plane < call.shape.planes; }

    __device__ T *at(const Tensor &tensor) const {
        return ::at<T>(tensor, call.shape, plane, start);
    }

    __device__ PerElement<T> per_element() const { return {call, plane, start}; }

    template <typename C> __device__ OfPlane<C> of(const Padded<C> *all) const {
        return {all == nullptr ? C{} : all[plane].get()};
    }

    // Calls f(fragment) for the elements of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        int single = run.single(first), i = first;
        do {
            f(Fragment<T, SPLIT_VECTORS>{run, i, step, {single}});
            single = -1, i += step * SPLIT_VECTORS;
        } while (i < run.vectors);
    }

    template <typename M> __device__ void put(const M (&m)[PLANES], Padded<M> *parts) const {
        const M merged = step == WARP ? warp_merge(m[0]) : block_merge(m[0]);
        if (first == 0) parts[id].put(merged);
    }
};

MULTI_PASS_KERNELS(split, Chunk)
