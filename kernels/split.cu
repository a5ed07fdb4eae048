// Planes that are shared by blocks, or that share their statistics with others: one launch measures
// parts of planes, the next (finish.cu) makes every plane's coefficients of them, and the last one
// maps the elements.
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;

// The part of a plane that a team of threads has: `cut.chunk` vectors, counted from the 16-byte
// boundary at or before the plane, so that all parts but the first start on one.
struct Chunk {
    long long id;  // through all planes
    int plane, first, step;
    long long start;  // in elements of the plane
    Window<T> window;

    __device__ Chunk(const Call &call, const Cut &cut)
        : id((long long)blockIdx.x * (SPLIT_THREADS / cut.team) + threadIdx.x / cut.team),
          plane(id / cut.chunks), first(threadIdx.x % cut.team), step(cut.team) {
        if (!exists(call)) return;
        const T *data = at<T>(call.x, call.shape, plane);
        const long long length = (long long)cut.chunk * PER_VECTOR<T>;
        const long long begin = id % cut.chunks * length - Window<T>::at(data, 0).head;
        start = max(0LL, begin);
        const long long end = min(call.shape.spatial, begin + length);
        window = Window<T>::at(data + start, max(0LL, end - start));
    }

    // Where a warp is a team, the last ones of the grid may have nothing to do.
    __device__ bool exists(const Call &call) const { return plane < call.shape.planes; }

    template <typename M> __device__ void put(M m, Stored<M> *parts) const {
        m = step == WARP ? warp_merge(m) : block_merge(m);
        if (first == 0) parts[id].put(m);
    }

    // Calls f(held) for the vectors of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        for (int i = first; i < window.vectors(); i += step * SPLIT_VECTORS) {
            f(Held<T, SPLIT_VECTORS>{window, i, step});
        }
    }

    // Calls f(site) for each of them.
    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll 1
        for (int i = first; i < window.vectors(); i += step) f(Site<T>{window, i, 0});
    }
};

__device__ OfPlane<Affine<A>> affine_of(const Stored<Affine<A>> *affine, int plane) {
    return {affine == nullptr ? Affine<A>{} : affine[plane].get()};
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_split_moments(Call call, Cut cut, Stored<Moments<A>> *parts) {
    const Chunk chunk(call, cut);
    if (!chunk.exists(call)) return;
    const T *from = at<T>(call.x, call.shape, chunk.plane, chunk.start);
    Moments<A> m{};
    chunk.some([&](const auto &held) {
        Vector<T> x[SPLIT_VECTORS] = {};
        held.each([&](int k, const Site<T> &site) { x[k] = load(from, site); });
        m = merge(m, held.measure(x));
    });
    chunk.put(m, parts);
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_split_comoments(Call call, Cut cut, const Stored<Affine<A>> *affines, Stored<CoMoments<A>> *parts) {
    const Chunk chunk(call, cut);
    if (!chunk.exists(call)) return;
    const T *from = at<T>(call.x, call.shape, chunk.plane, chunk.start);
    const T *from_dy = at<T>(call.dy, call.shape, chunk.plane, chunk.start);
    const auto beside = Beside<T>(call, chunk.plane, chunk.start).reads();
    const auto affine = affine_of(affines, chunk.plane);
    CoMoments<A> m{};
    chunk.some([&](const auto &held) {
        Vector<T> x[SPLIT_VECTORS] = {}, dy[SPLIT_VECTORS] = {};
        held.each([&](int k, const Site<T> &site) {
            x[k] = load(from, site);
            dy[k] = load(from_dy, site);
        });
        Upstream<T> g[SPLIT_VECTORS] = {};
        held.each([&](int k, const Site<T> &site) {
            g[k] = upstream(x[k], dy[k], affine, call.rule, beside, site);
        });
        m = merge(m, held.measure(x, g));
    });
    chunk.put(m, parts);
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_split_write(Call call, Cut cut, const Stored<Affine<A>> *affines) {
    const Chunk chunk(call, cut);
    if (!chunk.exists(call)) return;
    const T *from = at<T>(call.x, call.shape, chunk.plane, chunk.start);
    T *to = at<T>(call.out, call.shape, chunk.plane, chunk.start);
    const Beside<T> beside(call, chunk.plane, chunk.start);
    const auto affine = affine_of(affines, chunk.plane);
    chunk.each([&](const Site<T> &site) {
        store(to, site, output(load(from, site), affine, call.rule, beside, site));
    });
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_split_write_grad(Call call, Cut cut, const Stored<Affine<A>> *affines,
                        const Stored<Gradient<A>> *gradients) {
    const Chunk chunk(call, cut);
    if (!chunk.exists(call)) return;
    const T *from = at<T>(call.x, call.shape, chunk.plane, chunk.start);
    const T *from_dy = at<T>(call.dy, call.shape, chunk.plane, chunk.start);
    T *to = at<T>(call.out, call.shape, chunk.plane, chunk.start);
    const Beside<T> beside(call, chunk.plane, chunk.start);
    const auto affine = affine_of(affines, chunk.plane);
    const OfPlane<Gradient<A>> gradient{to == nullptr ? Gradient<A>{} : gradients[chunk.plane].get()};
    chunk.each([&](const Site<T> &site) {
        const Vector<T> x = load(from, site), dy = load(from_dy, site);
        const auto g = upstream(x, dy, affine, call.rule, beside, site);
        if (to != nullptr) store(to, site, input_gradient(x, g, gradient));
    });
}
