// What split.cu does, for tensors whose channels are adjacent, (N, *S, C): each thread has a vector
// of channels, and a part of each of their planes is the same places of all of them.
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;
constexpr int CHANNELS = PER_VECTOR<T>;  // of a thread
constexpr int ROWS = 2;  // that a thread loads before it computes

// The channels of a thread and the places that it takes of them. A block has `cut.team` vectors of
// channels side by side, a power of two, and `cut.chunk` places.
struct Columns {
    int channel;          // the first one
    int sample, part;     // the plane of channel 0 is sample * c
    long long row, rows;  // the first place, and the end of the block's
    int step;             // places between two of a thread's
    Window<T> window;     // of channels
    int vector;

    __device__ Columns(const Call &call, const Cut &cut)
        : step(SPLIT_THREADS / cut.team), window{0, call.shape.c} {
        const int blocks = (window.vectors() + cut.team - 1) / cut.team;  // beside each other
        const int rest = blockIdx.x / blocks;
        part = rest % cut.chunks, sample = rest / cut.chunks;
        vector = blockIdx.x % blocks * cut.team + threadIdx.x % cut.team;
        channel = vector * CHANNELS;
        const long long begin = (long long)part * cut.chunk;
        row = begin + threadIdx.x / cut.team;
        rows = min(call.shape.spatial, begin + cut.chunk);
        if (vector >= window.vectors()) rows = 0;  // columns beyond the last channel
    }

    __device__ Site<T> site(long long row) const { return {window, vector, row * window.end}; }

    // Calls f(site_of, count) for some places at a time: site_of(k) is the site of number k < count.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        for (long long first = row; first < rows; first += (long long)step * ROWS) {
            const int count = (rows - first + step - 1) / step;
            f([&](int k) { return site(first + (long long)k * step); }, count);
        }
    }

    // Calls f(site) for each of them.
    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll 1
        for (long long at = row; at < rows; at += step) f(site(at));
    }

    __device__ int plane() const { return sample * window.end; }

    // The coefficients of the channels; `all` may be null.
    template <typename C> __device__ OfChannels<C, CHANNELS> of(const Stored<C> *all) const {
        OfChannels<C, CHANNELS> out{};
#pragma unroll
        for (int j = 0; j < CHANNELS; ++j) {
            if (all != nullptr && channel + j < window.end) out.each[j] = all[plane() + channel + j].get();
        }
        return out;
    }
};

// Merges what the threads of a column have of each channel, and puts it where split.cu would.
template <typename M>
__device__ void put(const Columns &at, const Cut &cut, M (&m)[CHANNELS], Stored<M> *parts) {
    constexpr int WARPS = SPLIT_THREADS / WARP;
    __shared__ M of_warp[WARPS][MAX_COLUMNS * CHANNELS];
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < CHANNELS; ++j) {
        const M merged = warp_merge(m[j], cut.team);
        if (lane < cut.team) of_warp[threadIdx.x / WARP][lane * CHANNELS + j] = merged;
    }
    __syncthreads();
    const int i = threadIdx.x, channel = at.channel - threadIdx.x % cut.team * CHANNELS + i;
    if (i >= cut.team * CHANNELS || channel >= at.window.end) return;
    M total = of_warp[0][i];
    for (int warp = 1; warp < WARPS; ++warp) total = merge(total, of_warp[warp][i]);
    parts[(long long)(at.plane() + channel) * cut.chunks + at.part].put(total);
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_columns_moments(Call call, Cut cut, Stored<Moments<A>> *parts) {
    const Columns columns(call, cut);
    const T *from = at<T>(call.x, call.shape, columns.plane());
    Moments<A> m[CHANNELS] = {};
    columns.some([&](auto site, int count) {
        Vector<T> x[ROWS] = {};
#pragma unroll
        for (int k = 0; k < ROWS; ++k) {
            if (k < count) x[k] = load(from, site(k));
        }
        const A n = m[0].n;  // that of all, which the compiler does not see
#pragma unroll
        for (int j = 0; j < CHANNELS; ++j) {
            m[j].n = n;
            m[j] = merge(m[j], moments<A>([&](auto f) {
#pragma unroll
                             for (int k = 0; k < ROWS; ++k) {
                                 if (k < count) f(widen(x[k].v[j]));
                             }
                         }));
        }
    });
    put(columns, cut, m, parts);
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_columns_comoments(Call call, Cut cut, const Stored<Affine<A>> *affines, Stored<CoMoments<A>> *parts) {
    const Columns columns(call, cut);
    const T *from = at<T>(call.x, call.shape, columns.plane());
    const T *from_dy = at<T>(call.dy, call.shape, columns.plane());
    const auto beside = Beside<T>(call, columns.plane()).reads();
    const auto affine = columns.of(affines);
    CoMoments<A> m[CHANNELS] = {};
    columns.some([&](auto site, int count) {
        Vector<T> x[ROWS] = {};
        Upstream<T> g[ROWS] = {};
#pragma unroll
        for (int k = 0; k < ROWS; ++k) {
            if (k >= count) continue;
            x[k] = load(from, site(k));
            const Vector<T> dy = load(from_dy, site(k));
            g[k] = upstream(x[k], dy, affine, call.rule, beside, site(k));
        }
        const A n = m[0].x.n;  // that of all, which the compiler does not see
#pragma unroll
        for (int j = 0; j < CHANNELS; ++j) {
            m[j].x.n = n;
            m[j] = merge(m[j], comoments<A>([&](auto f) {
#pragma unroll
                             for (int k = 0; k < ROWS; ++k) {
                                 if (k < count) f(widen(x[k].v[j]), widen(g[k].v[j]));
                             }
                         }));
        }
    });
    put(columns, cut, m, parts);
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_columns_write(Call call, Cut cut, const Stored<Affine<A>> *affines) {
    const Columns columns(call, cut);
    const T *from = at<T>(call.x, call.shape, columns.plane());
    T *to = at<T>(call.out, call.shape, columns.plane());
    const Beside<T> beside(call, columns.plane());
    const auto affine = columns.of(affines);
    columns.each([&](const Site<T> &site) {
        store(to, site, output(load(from, site), affine, call.rule, beside, site));
    });
}

extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)
    in_columns_write_grad(Call call, Cut cut, const Stored<Affine<A>> *affines,
                          const Stored<Gradient<A>> *gradients) {
    const Columns columns(call, cut);
    const T *from = at<T>(call.x, call.shape, columns.plane());
    const T *from_dy = at<T>(call.dy, call.shape, columns.plane());
    T *to = at<T>(call.out, call.shape, columns.plane());
    const Beside<T> beside(call, columns.plane());
    const auto affine = columns.of(affines);
    const auto gradient = columns.of(gradients);
    columns.each([&](const Site<T> &site) {
        const Vector<T> x = load(from, site), dy = load(from_dy, site);
        const auto g = upstream(x, dy, affine, call.rule, beside, site);
        if (to != nullptr) store(to, site, input_gradient(x, g, gradient));
    });
}
