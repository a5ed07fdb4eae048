// Means and centred sums of a plane, merged from thread to warp to block to plane.
#pragma once
#include "span.cuh"

// A sum or mean and what rounding it left out, so that `high + rest` has twice the digits: at a mean
// of 1e4 an f32 is off by up to 5e-4, which is 5 % of a deviation of 1e-2.
template <typename A> struct Pair {
    A high, rest;

    __device__ Pair plus(A by) const {
        const A step = rest + by, sum = high + step;
        return {sum, step - (sum - high)};
    }

    __device__ A to(const Pair &other) const {
        return (other.high - high) + (other.rest - rest);
    }
};

// n values, their mean, and m2 = sum((x - mean)^2).
template <typename A> struct Moments {
    A n;
    Pair<A> mean;
    A m2;
};

// The moments of x, the mean of g, and cross = sum((x - mean) * (g - g mean)).
template <typename A> struct CoMoments {
    Moments<A> x;
    Pair<A> g;
    A cross;
};

// Chan, Golub and LeVeque's update, with b after a. Either may be empty; an empty a must hand on b
// as it is, since the way from a mean of 0 to that of b has no room for its `rest`.
template <typename A> __device__ A share(const Moments<A> &a, const Moments<A> &b) {
    return b.n / (a.n + b.n);
}

template <typename A>
__device__ Moments<A> merge(const Moments<A> &a, const Moments<A> &b, A part) {
    const A delta = a.mean.to(b.mean);
    return {a.n + b.n, a.mean.plus(delta * part), a.m2 + b.m2 + delta * delta * a.n * part};
}

template <typename A> __device__ Moments<A> merge(const Moments<A> &a, const Moments<A> &b) {
    if (a.n == 0) return b;
    return merge(a, b, share(a, b));
}

template <typename A> __device__ CoMoments<A> merge(const CoMoments<A> &a, const CoMoments<A> &b) {
    if (a.x.n == 0) return b;
    const A part = share(a.x, b.x), delta = a.g.to(b.g);
    return {merge(a.x, b.x, part), a.g.plus(delta * part),
            a.cross + b.cross + a.x.mean.to(b.x.mean) * delta * a.x.n * part};
}

template <typename M> __device__ M from_lane(const M &m, int lane_mask) {
    static_assert(sizeof(M) % sizeof(int) == 0, "shuffled word by word");
    M out;
#pragma unroll
    for (int i = 0; i < sizeof(M) / sizeof(int); ++i) {
        reinterpret_cast<int *>(&out)[i] =
            __shfl_xor_sync(0xffffffff, reinterpret_cast<const int *>(&m)[i], lane_mask);
    }
    return out;
}

// The merge of all lanes, in every lane. Both lanes of a pair merge the lower one first, so that
// all lanes end up with the same bits.
template <typename M> __device__ M warp_merge(M m) {
#pragma unroll
    for (int mask = 1; mask < WARP; mask *= 2) {
        const M other = from_lane(m, mask);
        m = threadIdx.x & mask ? merge(other, m) : merge(m, other);
    }
    return m;
}

// The merge of all threads, in every thread: one barrier, then each warp merges the warps' results
// for itself. Called once a kernel.
template <typename M> __device__ M block_merge(M m) {
    __shared__ M of_warp[MAX_THREADS / WARP];
    const int lane = threadIdx.x % WARP;
    m = warp_merge(m);
    if (lane == 0) of_warp[threadIdx.x / WARP] = m;
    __syncthreads();
    m = lane < blockDim.x / WARP ? of_warp[lane] : M{};
    return warp_merge(m);
}

// The merge of a plane's parts, in every lane of the warp, in an order that `parts` alone decides.
template <typename M> __device__ M merge_parts(const M *of_plane, int parts) {
    M m{};
    for (int i = threadIdx.x % WARP; i < parts; i += WARP) m = merge(m, of_plane[i]);
    return warp_merge(m);
}

// The moments of the elements that a thread holds: `vectors[k]` is vector `first + k * step`.
template <typename T, int N>
__device__ Moments<Acc<T>> measure(const Vector<T> (&x)[N], const Window<T> &window, int first,
                                   int step) {
    using A = Acc<T>;
    A n = 0, sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        window.each(first + k * step, [&](int j) { sum += widen(x[k].v[j]), n += 1; });
    }
    const A inverse = n > 0 ? 1 / n : 0, mean = sum * inverse;
    A off = 0, square = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        window.each(first + k * step, [&](int j) {
            const A d = widen(x[k].v[j]) - mean;
            off += d;
            square += d * d;
        });
    }
    const A rest = off * inverse;
    return {n, {mean, rest}, square - off * rest};
}

template <typename T, int N>
__device__ CoMoments<Acc<T>> measure(const Vector<T> (&x)[N], const Vector<T> (&g)[N],
                                     const Window<T> &window, int first, int step) {
    using A = Acc<T>;
    A n = 0, sum = 0, g_sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        window.each(first + k * step, [&](int j) {
            sum += widen(x[k].v[j]), g_sum += widen(g[k].v[j]), n += 1;
        });
    }
    const A inverse = n > 0 ? 1 / n : 0, mean = sum * inverse, g_mean = g_sum * inverse;
    A off = 0, square = 0, g_off = 0, cross = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        window.each(first + k * step, [&](int j) {
            const A d = widen(x[k].v[j]) - mean, e = widen(g[k].v[j]) - g_mean;
            off += d, g_off += e;
            square += d * d, cross += d * e;
        });
    }
    const A rest = off * inverse, g_rest = g_off * inverse;
    return {{n, {mean, rest}, square - off * rest}, {g_mean, g_rest}, cross - off * g_rest};
}

template <typename A> __device__ A rstd(const Moments<A> &m, double eps) {
    return 1 / sqrt(m.m2 / m.n + A(eps));
}
