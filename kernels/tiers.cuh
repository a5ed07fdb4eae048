// Who computes a plane on chip.
#pragma once
#include "pointwise.cuh"

// Of the largest block two fit on a multiprocessor, with 64 registers a thread; not in f64, nor
// where more has to be kept.
constexpr int BLOCKS_AT_LEAST = PLAIN && sizeof(ELEMENT) < 8 ? 2 : 1;

enum class Tier { Warp, Block, Cluster };

// The plane of this thread, its place among the threads of the plane, and their number.
template <Tier TIER> struct Team {
    static constexpr int WARPS = (TIER == Tier::Cluster ? MAX_CLUSTER : 1) * MAX_THREADS / WARP;

    int plane, first, step;

    __device__ Team() {
        if (TIER == Tier::Cluster) {
            plane = blockIdx.x / blocks();
            first = blockIdx.x % blocks() * blockDim.x + threadIdx.x;
            step = blocks() * blockDim.x;
            arrive();
        } else if (TIER == Tier::Warp) {
            plane = blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP;
            first = threadIdx.x % WARP;
            step = WARP;
        } else {
            plane = blockIdx.x;
            first = threadIdx.x;
            step = blockDim.x;
        }
    }

    // Nobody may write to a block that has not started. Called once, before the first sum.
    __device__ void await_start() const {
        if (TIER == Tier::Cluster) wait();
    }

    // Replaces each of K numbers by its sum over the threads of the plane. TURN counts the calls of
    // a kernel: each uses memory of its own, so that a barrier a call is enough.
    template <int TURN, int K, typename A> __device__ void sum(A (&v)[K]) const {
        warp_sum(v);
        if (TIER == Tier::Warp) return;
        __shared__ A of_warp[K][WARPS];
        const int lane = threadIdx.x % WARP, warp = first / WARP, warps = step / WARP;
        if (TIER == Tier::Cluster) {
            if (lane < blocks()) {
#pragma unroll
                for (int i = 0; i < K; ++i) *in_block(&of_warp[i][warp], lane) = v[i];
            }
            arrive();
            wait();
        } else {
            if (lane == 0) {
#pragma unroll
                for (int i = 0; i < K; ++i) of_warp[i][warp] = v[i];
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < K; ++i) {
            v[i] = 0;
#pragma unroll
            for (int from = 0; from < WARPS; from += WARP) {
                if (from + lane < warps) v[i] += of_warp[i][from + lane];
            }
        }
        warp_sum(v);
    }

    // The blocks of a cluster.
    static __device__ int blocks() {
#if __CUDA_ARCH__ >= 900
        return __clusterSizeInBlocks();
#else
        return 1;
#endif
    }

    // The two halves of the barrier of a cluster, which orders accesses to the memory of its blocks.
    static __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
        __cluster_barrier_arrive();
#endif
    }
    static __device__ void wait() {
#if __CUDA_ARCH__ >= 900
        __cluster_barrier_wait();
#endif
    }

    // The same variable in another block of the cluster.
    template <typename A> static __device__ A *in_block(A *variable, int rank) {
#if __CUDA_ARCH__ >= 900
        return static_cast<A *>(__cluster_map_shared_rank(variable, rank));
#else
        return variable;
#endif
    }
};

// What this thread has of `size` elements of x that its team shares.
template <typename T, int N, typename Team>
__device__ Held<T, N> held_of(const T *x, int size, const Team &team) {
    const Run<T> run(x, size);
    return {run, team.first, team.step, run.single(team.first)};
}

// The moments of a plane, in two sums over its threads: the mean is known before anything is
// squared. A share of the mean is summed instead of x, which cannot overflow.
template <int TURN, typename Team, typename T, int N, typename X>
__device__ Moments<Acc<T>> measure(const Team &team, const Held<T, N> &held, const X &x) {
    using A = Acc<T>;
    const A n = held.run.size, inverse = 1 / n;
    A mean[1] = {};
    held.values(0, [&](A x) { mean[0] += x * inverse; }, x);
    team.template sum<TURN>(mean);
    A sums[2] = {};
    const auto add = [&](A x) {
        const A d = x - mean[0];
        sums[0] += d;
        sums[1] += d * d;
    };
    held.values(0, add, x);
    team.template sum<TURN + 1>(sums);
    const A rest = sums[0] * inverse;
    return {n, {mean[0], rest}, not_below_0(sums[1] - sums[0] * rest)};
}

template <int TURN, typename Team, typename T, int N, typename X, typename G>
__device__ CoMoments<Acc<T>> measure(const Team &team, const Held<T, N> &held, const X &x,
                                     const G &g) {
    using A = Acc<T>;
    const A n = held.run.size, inverse = 1 / n;
    A means[2] = {};
    const auto add_shares = [&](A x, A g) {
        means[0] += x * inverse;
        means[1] += g * inverse;
    };
    held.values(0, add_shares, x, g);
    team.template sum<TURN>(means);
    A sums[4] = {};
    const auto add = [&](A x, A g) {
        const A d = x - means[0], e = g - means[1];
        sums[0] += d, sums[1] += e;
        sums[2] += d * d, sums[3] += d * e;
    };
    held.values(0, add, x, g);
    team.template sum<TURN + 1>(sums);
    const A rest = sums[0] * inverse, g_rest = sums[1] * inverse;
    return {{n, {means[0], rest}, not_below_0(sums[2] - sums[0] * rest)},
            {means[1], g_rest},
            sums[3] - sums[0] * g_rest};
}
