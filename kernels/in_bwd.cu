// The gradients of y = xhat * weight + bias, with xhat = (x - mean) * rstd:
//
//   dx      = weight * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))
//   dweight = sum(dy * xhat)
//   dbias   = sum(dy)
//
// mean(dy * xhat) is rstd / S * sum((x - mean) * (dy - mean(dy))), the `cross` of the co-moments,
// so one sweep over x and dy gives all that dx needs, the moments of x included: nothing is saved
// by the forward pass. On chip 2 reads and 1 write, split 4 reads and 1 write.
#include "tiers.cuh"

// dx = ((dy - dy_mean) - (x - mean) * slope) * scale + shift; what the rounded means leave out is
// part of `shift`.
template <typename T> struct Gradient {
    using A = Acc<T>;
    A mean, dy_mean, slope, scale, shift;

    __device__ Gradient(const CoMoments<A> &m, A weight, A rstd)
        : mean(m.x.mean.high), dy_mean(m.g.high), slope(rstd * rstd * (m.cross / m.x.n)),
          scale(rstd * weight), shift((m.x.mean.rest * slope - m.g.rest) * scale) {}

    __device__ Vector<T> operator()(const Vector<T> &x, const Vector<T> &dy) const {
        Vector<T> dx;
#pragma unroll
        for (int j = 0; j < PER_VECTOR<T>; ++j) {
            const A value = (widen(dy.v[j]) - dy_mean) - (widen(x.v[j]) - mean) * slope;
            narrow(value * scale + shift, dx.v[j]);
        }
        return dx;
    }
};

// Where the gradients go; null for those that nobody wants. Those of weight and bias are a
// plane's share each.
template <typename T> struct Output {
    T *dx;
    Acc<T> *dweight, *dbias;

    __device__ void params(int plane, const CoMoments<Acc<T>> &m, Acc<T> rstd) const {
        if (dweight != nullptr) dweight[plane] = rstd * m.cross;
        if (dbias != nullptr) dbias[plane] = m.x.n * m.g.high + m.x.n * m.g.rest;
    }
};

template <typename T, Tier TIER, int N>
__device__ void backward(const Input &input, const Input &grad, const Output<T> &output,
                         const Param &weight, const Shape &shape) {
    const Team<TIER> team;
    if (team.plane >= shape.planes) return;  // a whole warp; blocks are as many as planes
    const Acc<T> w = load<T>(weight, team.plane, 1);
    const T *data = plane_of<T>(input, shape, team.plane);
    const auto window = Window<T>::at(data, shape.spatial);
    const Access<const T> from(data, window);
    const Access<const T> from_grad(plane_of<T>(grad, shape, team.plane), window);

    Vector<T> x[N] = {}, dy[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const int vector = team.first + k * team.step;
        if (vector < window.vectors()) {
            x[k] = load(from, window, vector);
            dy[k] = load(from_grad, window, vector);
        }
    }
    const auto m = team.merged(measure(x, dy, window, team.first, team.step));
    const Acc<T> r = rstd(m.x, shape.eps);
    if (team.first == 0) output.params(team.plane, m, r);
    if (output.dx == nullptr) return;
    const Gradient<T> gradient(m, w, r);
    const Access<T> to(output.dx + team.plane * shape.spatial, window);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const int vector = team.first + k * team.step;
        if (vector < window.vectors()) store(to, window, vector, gradient(x[k], dy[k]));
    }
}

template <typename T>
__device__ void split_comoments(const Input &input, const Input &grad, CoMoments<Acc<T>> *parts,
                                const Shape &shape, int chunks, int chunk_vectors) {
    const auto chunk = Chunk::of<T>(input, shape, chunks, chunk_vectors);
    const T *data = plane_of<T>(input, shape, chunk.plane) + chunk.start;
    const auto window = Window<T>::at(data, chunk.size);
    const Access<const T> from(data, window);
    const Access<const T> from_grad(plane_of<T>(grad, shape, chunk.plane) + chunk.start, window);

    CoMoments<Acc<T>> m{};
    const int step = SPLIT_THREADS, vectors = window.vectors();
    for (int first = threadIdx.x; first < vectors; first += step * SPLIT_VECTORS) {
        Vector<T> x[SPLIT_VECTORS] = {}, dy[SPLIT_VECTORS] = {};
#pragma unroll
        for (int k = 0; k < SPLIT_VECTORS; ++k) {
            if (first + k * step < vectors) {
                x[k] = load(from, window, first + k * step);
                dy[k] = load(from_grad, window, first + k * step);
            }
        }
        m = merge(m, measure(x, dy, window, first, step));
    }
    m = block_merge(m);
    if (threadIdx.x == 0) parts[blockIdx.x] = m;
}

template <typename T>
__device__ void split_backward(const Input &input, const Input &grad, const Output<T> &output,
                               const Param &weight, const Shape &shape,
                               const CoMoments<Acc<T>> *parts, int chunks, int chunk_vectors) {
    const auto chunk = Chunk::of<T>(input, shape, chunks, chunk_vectors);
    const Acc<T> w = load<T>(weight, chunk.plane, 1);
    const auto m = merge_parts(parts + (long long)chunk.plane * chunks, chunks);
    const Acc<T> r = rstd(m.x, shape.eps);
    if (chunk.index == 0 && threadIdx.x == 0) output.params(chunk.plane, m, r);
    if (output.dx == nullptr) return;

    const Gradient<T> gradient(m, w, r);
    const T *data = plane_of<T>(input, shape, chunk.plane) + chunk.start;
    const auto window = Window<T>::at(data, chunk.size);
    const Access<const T> from(data, window);
    const Access<const T> from_grad(plane_of<T>(grad, shape, chunk.plane) + chunk.start, window);
    const Access<T> to(output.dx + chunk.plane * shape.spatial + chunk.start, window);
#pragma unroll UNROLL
    for (int vector = threadIdx.x; vector < window.vectors(); vector += SPLIT_THREADS) {
        store(to, window, vector,
              gradient(load(from, window, vector), load(from_grad, window, vector)));
    }
}

// The gradient of a parameter from the planes' shares: a thread a channel, n in ascending order, so
// that the same input gives the same bits, and compensated, so that the roundings of 1e5 samples do
// not add up. `n` is 1 for a parameter per sample.
template <typename T>
__device__ void sum_params(const Acc<T> *shares, void *out, int n, int c, int is_f32) {
    const int channel = blockIdx.x * PARAM_THREADS + threadIdx.x;
    if (channel >= c) return;
    Pair<Acc<T>> sum{};
    for (int i = 0; i < n; ++i) sum = sum.plus(shares[(long long)i * c + channel]);
    const Acc<T> total = sum.high + sum.rest;
    if (is_f32) {
        static_cast<float *>(out)[channel] = total;
    } else {
        narrow(total, static_cast<T *>(out)[channel]);
    }
}

#define BACKWARD(TIER, NAME, THREADS, T, TYPE, N)                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) in_bwd_##NAME##N##_##TYPE(               \
        Input x, Input dy, Output<T> out, Param weight, Shape shape) {                             \
        backward<T, Tier::TIER, N>(x, dy, out, weight, shape);                                     \
    }

#define ENTRIES(T, TYPE)                                                                           \
    BACKWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 1)                                        \
    BACKWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 2)                                        \
    BACKWARD(Warp, warp, WARP *WARPS_PER_BLOCK, T, TYPE, 4)                                        \
    BACKWARD(Block, block, MAX_THREADS, T, TYPE, 1)                                                \
    BACKWARD(Block, block, MAX_THREADS, T, TYPE, 2)                                                \
    BACKWARD(Block, block, MAX_THREADS, T, TYPE, 4)                                                \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS)                                    \
        in_split_comoments_##TYPE(Input x, Input dy, CoMoments<Acc<T>> *parts, Shape shape,        \
                                  int chunks, int chunk_vectors) {                                 \
        split_comoments<T>(x, dy, parts, shape, chunks, chunk_vectors);                            \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(SPLIT_THREADS) in_bwd_split_##TYPE(               \
        Input x, Input dy, Output<T> out, Param weight, Shape shape,                               \
        const CoMoments<Acc<T>> *parts, int chunks, int chunk_vectors) {                           \
        split_backward<T>(x, dy, out, weight, shape, parts, chunks, chunk_vectors);                \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(PARAM_THREADS) in_sum_params_##TYPE(              \
        const Acc<T> *shares, void *out, int n, int c, int is_f32) {                               \
        sum_params<T>(shares, out, n, c, is_f32);                                                  \
    }

ENTRIES(float, f32)
ENTRIES(__half, f16)
ENTRIES(__nv_bfloat16, bf16)
ENTRIES(double, f64)
