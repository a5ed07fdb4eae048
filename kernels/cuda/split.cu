// Planes that are shared by blocks, or that share their statistics with others.
#include "multi_pass.cuh"

// `chunks.length` vectors of a plane, for a team of threads. They are counted from the 16-byte boundary
// at or before the plane, so that all parts but the first start on one.
struct Chunk {
    static constexpr int PLANES = 1;

    const Call &call;
    const Chunks &chunks;
    bool back;
    long long id;  // through all planes
    Plane plane;
    int first, step;
    long long start;  // in elements of the plane
    Run<T> run;

    __device__ Chunk(const Call &call, const Chunks &chunks, bool back)
        : call(call), chunks(chunks), back(back),
          id((long long)block_of(back) * (SPLIT_THREADS / chunks.team) + threadIdx.x / chunks.team),
          plane(call.shape, id / chunks.count), first(threadIdx.x % chunks.team), step(chunks.team),
          run(nullptr, 0) {
        const T *data = ::at<T>(call.x, plane);
        const long long length = (long long)chunks.length * PER_VECTOR<T>;
        const int before = reinterpret_cast<size_t>(data) / sizeof(T) % PER_VECTOR<T>;
        const long long begin = id % chunks.count * length - before;
        start = max(0LL, begin);
        run = {data + start, (int)max(0LL, min(call.shape.spatial, begin + length) - start)};
    }

    // Where a warp is a team, the last ones of the grid may have nothing to do.
    __device__ bool exists() const { return plane.index < call.shape.planes; }

    __device__ T *at(const Tensor &tensor) const {
        return ::at<T>(tensor, plane, start);
    }

    __device__ PerElement<T> per_element() const { return {call, plane, start}; }

    template <typename C> __device__ OfPlane<C> of(const Padded<C> *all) const {
        return {all == nullptr ? C{} : all[plane.index].get()};
    }

    // Without affines: of the statistics that are given, or that the team merges from the parts of the
    // group.
    __device__ OfPlane<Affine<A>> affine(const Padded<Affine<A>> *affines,
                                         const Padded<Moments<A>> *parts) const {
        if (affines != nullptr) return of(affines);
        if (call.mean.origin != nullptr) {
            return {affine_of<T, A>(call, plane, given_stats<T, A>(call, plane))};
        }
        const int size = call.shape.channels_per_group;
        const auto *of_group = parts + (long long)(plane.index / size * size) * chunks.count;
        const auto part = [&](int i) { return of_group[i].get(); };
        const Moments<A> m = merged(merge_some(first, step, size * chunks.count, part));
        return {affine_of<T, A>(call, plane, Stats<A>(call.spec, m))};
    }

    // Calls f(fragment) for the elements of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        // Of a part of less than a vector the first threads have the elements: the lowest lane has to have
        // one where any has (warp_merge).
        const int behind = run.head == 0 && run.size < PER_VECTOR<T> ? PER_VECTOR<T> : 0;
        int single = run.single(first + behind), i = back ? run.vectors - 1 - first : first;
        const int by = back ? -step : step;
        do {
            f(Fragment<T, SPLIT_VECTORS>{run, i, by, {single}});
            single = -1, i += by * SPLIT_VECTORS;
        } while (run.has(i));
    }

    // The merge of what the threads of the team have, in each of them.
    template <typename M> __device__ M merged(const M &m) const {
        return step == WARP ? warp_merge(m) : block_merge(m);
    }

    template <typename M> __device__ void put(const M (&m)[PLANES], Padded<M> *parts) const {
        const M all = merged(m[0]);
        if (first == 0) parts[id].put(all);
    }
};

MULTI_PASS_KERNELS(split, Chunk)
