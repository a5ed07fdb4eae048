// y = (x - mean) * rstd * weight + bias, over planes of S elements.
//
// The warp and block tiers read a plane once, into registers, and write it once. The split tier
// measures parts of planes in one launch and merges and writes in the next: two reads, one write.
#include "tiers.cuh"

// y = (x - mean) * scale + shift; what `mean` leaves out of the mean is part of `shift`.
template <typename T> struct Affine {
    using A = Acc<T>;
    A mean, scale, shift;

    __device__ Affine(const Moments<A> &m, A weight, A bias, double eps)
        : mean(m.mean.high), scale(rstd(m, eps) * weight), shift(bias - m.mean.rest * scale) {}

    __device__ Vector<T> operator()(const Vector<T> &x) const {
        Vector<T> y;
#pragma unroll
        for (int j = 0; j < PER_VECTOR<T>; ++j) {
            narrow((widen(x.v[j]) - mean) * scale + shift, y.v[j]);
        }
        return y;
    }
};

template <typename T, Tier TIER, int N>
__device__ void forward(const Input &input, T *output, const Param &weight, const Param &bias,
                        const Shape &shape) {
    const Team<TIER> team;
    if (team.plane >= shape.planes) return;  // a whole warp; blocks are as many as planes
    const Acc<T> w = load<T>(weight, team.plane, 1), b = load<T>(bias, team.plane, 0);
    const T *data = plane_of<T>(input, shape, team.plane);
    const auto window = Window<T>::at(data, shape.spatial);
    const Access<const T> from(data, window);
    const Access<T> to(output + team.plane * shape.spatial, window);

    Vector<T> x[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const int vector = team.first + k * team.step;
        if (vector < window.vectors()) x[k] = load(from, window, vector);
    }
    const auto moments = team.merged(measure(x, window, team.first, team.step));
    const Affine<T> affine(moments, w, b, shape.eps);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const int vector = team.first + k * team.step;
        if (vector < window.vectors()) store(to, window, vector, affine(x[k]));
    }
}

template <typename T>
__device__ void split_moments(const Input &input, Moments<Acc<T>> *parts, const Shape &shape,
                              int chunks, int chunk_vectors) {
    const auto chunk = Chunk::of<T>(input, shape, chunks, chunk_vectors);
    const T *data = plane_of<T>(input, shape, chunk.plane) + chunk.start;
    const auto window = Window<T>::at(data, chunk.size);
    const Access<const T> from(data, window);

    Moments<Acc<T>> m{};
    const int step = SPLIT_THREADS, vectors = window.vectors();
    for (int first = threadIdx.x; first < vectors; first += step * SPLIT_VECTORS) {
        Vector<T> x[SPLIT_VECTORS] = {};
#pragma unroll
        for (int k = 0; k < SPLIT_VECTORS; ++k) {
            if (first + k * step < vectors) x[k] = load(from, window, first + k * step);
        }
        m = merge(m, measure(x, window, first, step));
    }
    m = block_merge(m);
    if (threadIdx.x == 0) parts[blockIdx.x] = m;
}

template <typename T>
__device__ void split_forward(const Input &input, T *output, const Param &weight, const Param &bias,
                              const Shape &shape, const Moments<Acc<T>> *parts, int chunks,
                              int chunk_vectors) {
    const auto chunk = Chunk::of<T>(input, shape, chunks, chunk_vectors);
    const Acc<T> w = load<T>(weight, chunk.plane, 1), b = load<T>(bias, chunk.plane, 0);
    const auto m = merge_parts(parts + (long long)chunk.plane * chunks, chunks);
    const Affine<T> affine(m, w, b, shape.eps);

    const T *data = plane_of<T>(input, shape, chunk.plane) + chunk.start;
    const auto window = Window<T>::at(data, chunk.size);
    const Access<const T> from(data, window);
    const Access<T> to(output + chunk.plane * shape.spatial + chunk.start, window);
#pragma unroll UNROLL
    for (int vector = threadIdx.x; vector < window.vectors(); vector += SPLIT_THREADS) {
        store(to, window, vector, affine(load(from, window, vector)));
    }
}

// The mean and the biased variance of each plane, from the moments of its parts: a warp a plane.
template <typename A>
__device__ void stats(const Moments<A> *parts, A *out, int planes, int chunks) {
    const Team<Tier::Warp> team;
    if (team.plane >= planes) return;
    const auto m = merge_parts(parts + (long long)team.plane * chunks, chunks);
    if (team.first == 0) {
        out[team.plane] = m.mean.high + m.mean.rest;
        out[planes + team.plane] = m.m2 / m.n;
    }
}

#define FORWARD(TIER, NAME, THREADS, T, TYPE, N)                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS) in_fwd_##NAME##N##_##TYPE(               \
        Input x, T *y, Param weight, Param bias, Shape shape) {                                    \
        forward<T, Tier::TIER, N>(x, y, weight, bias, shape);                                      \
    }

#define ENTRIES(T, TYPE)                                                                           \
    FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 1)                                         \
    FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 2)                                         \
    FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 4)                                         \
    FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 8)                                         \
    FORWARD(Block, block, MAX_THREADS, T, TYPE, 2)                                                 \
    FORWARD(Block, block, MAX_THREADS, T, TYPE, 4)                                                 \
    FORWARD(Block, block, MAX_THREADS, T, TYPE, 8)                                                 \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)                                    \
        in_split_moments_##TYPE(Input x, Moments<Acc<T>> *parts, Shape shape, int chunks,          \
                                int chunk_vectors) {                                               \
        split_moments<T>(x, parts, shape, chunks, chunk_vectors);                                  \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS) in_fwd_split_##TYPE(               \
        Input x, T *y, Param weight, Param bias, Shape shape, const Moments<Acc<T>> *parts,        \
        int chunks, int chunk_vectors) {                                                           \
        split_forward<T>(x, y, weight, bias, shape, parts, chunks, chunk_vectors);                 \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK) in_stats_##TYPE(           \
        const Moments<Acc<T>> *parts, Acc<T> *out, int planes, int chunks) {                       \
        stats(parts, out, planes, chunks);                                                         \
    }

ENTRIES(float, f32)
ENTRIES(__half, f16)
ENTRIES(__nv_bfloat16, bf16)
ENTRIES(double, f64)
