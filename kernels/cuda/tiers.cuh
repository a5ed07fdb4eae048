// Who computes a plane on chip.
#pragma once
#include "pointwise.cuh"
#include "shared.cuh"

// The blocks of so many threads that a multiprocessor has at once: 64 registers a thread; not in f64, nor
// where more has to be kept.
constexpr int blocks_at_least(int threads) {
    return PLAIN && sizeof(ELEMENT) < 8 ? 2 * MAX_THREADS / threads : 1;
}

enum class Tier { Lanes, Block, Shared, Cluster };

// Of kernels that keep N vectors of two tensors. Four lanes have four single elements of each, and eight
// vectors are twice as many: fewer blocks have the registers for that.
template <int N, Tier TIER, int LANES = WARP> constexpr int blocks_of_two(int threads) {
    const int most = blocks_at_least(threads);
    return N == 8 ? (most * 5 + 7) / 8 : LANES == 4 ? (most * 3 + 3) / 4 : most;
}

// The plane of this thread (or group of planes), its place among the threads of the plane, and their
// number: LANES of a warp, a block, or the blocks of a cluster.
template <Tier OF, int LANES = WARP> struct Team {
    static constexpr Tier TIER = OF;
    static constexpr int WARPS = MAX_THREADS / WARP;
    // Elements beside the vectors of a run are for each thread: they are less than two vectors.
    template <typename T> static constexpr int SINGLES = (2 * PER_VECTOR<T> - 1) / LANES + 1;

    int plane, first, step;

    __device__ Team() {
        if (TIER == Tier::Cluster) {
            plane = blockIdx.x / blocks();
            first = blockIdx.x % blocks() * blockDim.x + threadIdx.x;
            step = blocks() * blockDim.x;
            arrive();  // with nothing to show for it
        } else if (TIER == Tier::Lanes) {
            plane = blockIdx.x * (WARPS_PER_BLOCK * WARP / LANES) + threadIdx.x / LANES;
            first = threadIdx.x % LANES;
            step = LANES;
        } else {
            plane = blockIdx.x;
            first = threadIdx.x;
            step = blockDim.x;
        }
    }

    // False for lanes without a plane, which the last warp may have. They go on with nothing, since
    // the others wait for them.
    __device__ bool exists(int planes) const { return TIER != Tier::Lanes || plane < planes; }

    // Nobody may write to a block that has not started. Called once, before the first sum.
    __device__ void await_start() const {
        if (TIER == Tier::Cluster) wait();
    }

    // Replaces each of K numbers by its sum over the threads of the plane. TURN counts the calls of
    // a kernel: each uses memory of its own, so that a barrier a call is enough.
    template <int TURN, int K, typename A> __device__ void sum(A (&v)[K]) const {
        warp_sum<TIER == Tier::Lanes ? LANES : WARP>(v);
        if (TIER == Tier::Lanes) return;
        __shared__ A of_warp[K][WARPS];
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        if (lane == 0) {
#pragma unroll
            for (int i = 0; i < K; ++i) of_warp[i][warp] = v[i];
        }
        __syncthreads();
        sum_of(of_warp, blockDim.x / WARP, v);
        if (TIER != Tier::Cluster) return;
        __shared__ A of_block[K][MAX_CLUSTER];
        if (warp == 0) {
            if (lane < blocks()) {
#pragma unroll
                for (int i = 0; i < K; ++i) *in_block(&of_block[i][rank()], lane) = v[i];
            }
            // In one warp: with each arrival it would be a barrier of all the memory for all of them.
            release();
        }
        arrive();
        wait();
        sum_of(of_block, blocks(), v);
    }

    // The sum of so many numbers each, at most MOST, which every MOST lanes of a warp compute.
    template <int K, int MOST, typename A>
    static __device__ void sum_of(const A (&parts)[K][MOST], int count, A (&v)[K]) {
        static_assert(WARP % MOST == 0, "as many lanes");
        const int lane = threadIdx.x % MOST;
#pragma unroll
        for (int i = 0; i < K; ++i) v[i] = lane < count ? parts[i][lane] : 0;
        warp_sum<MOST>(v);
    }

    // The blocks of a cluster.
    static __device__ int blocks() {
#if __CUDA_ARCH__ >= 900
        if (TIER == Tier::Cluster) return __clusterSizeInBlocks();
#endif
        return 1;
    }

    // The place of this one among them.
    static __device__ int rank() {
#if __CUDA_ARCH__ >= 900
        if (TIER == Tier::Cluster) return __clusterRelativeBlockRank();
#endif
        return 0;
    }

    // Makes the writes of this thread visible to those that wait for its next step.
    static __device__ void release() {
#if __CUDA_ARCH__ >= 900
        asm volatile("fence.acq_rel.cluster;" ::: "memory");
#endif
    }

    // The two halves of the barrier of a cluster. A thread that has written something for others
    // has to release it first.
    static __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
        __cluster_barrier_arrive_relaxed();
#endif
    }
    static __device__ void wait() {
#if __CUDA_ARCH__ >= 900
        __cluster_barrier_wait();
#endif
    }

    // The variable in another block of the cluster.
    template <typename A> static __device__ A *in_block(A *variable, int rank) {
#if __CUDA_ARCH__ >= 900
        return static_cast<A *>(__cluster_map_shared_rank(variable, rank));
#else
        return variable;
#endif
    }
};

// What a thread of a team has of a run: N vectors in registers, and in the tier that has shared memory all
// others in ROWS rows of it.
template <typename Team, typename T, int N, int ROWS = 1, int S = 1>
using FragmentOf = std::conditional_t<Team::TIER == Tier::Shared, SharedFragment<T, N, ROWS>, Fragment<T, N, S>>;

// The rows of x, and of dy and the gradient of the normalized elements that takes its place.
template <typename T> constexpr int GRADIENT_ROWS = 1 + sizeof(Grad<T>) / VECTOR_BYTES;

// That gradient, which `of(k, place)` makes of dy: with nothing beside the normalization, dy itself.
template <typename H, typename X, typename F>
__device__ __forceinline__ auto pulled_back(const H &fragment, const X &dy, F of) {
    if constexpr (PLAIN) {
        return dy;
    } else {
        return fragment.map(of);
    }
}

// The share of this thread in `size` elements of x that its team shares.
template <int N, int ROWS = 1, typename Team, typename T>
__device__ auto fragment_of(const T *x, int size, const Team &team) {
    constexpr int SINGLES = Team::template SINGLES<T>;
    const Run<T> run(x, size);
    FragmentOf<Team, T, N, ROWS, SINGLES> fragment{run, team.first, team.step};
#pragma unroll
    for (int j = 0; j < SINGLES; ++j) fragment.single[j] = run.single(team.first + j * team.step);
    return fragment;
}

// The moments of the n elements of a plane, in two sums over its threads: the mean is known before
// anything is squared. A share of the mean is summed instead of x, which cannot overflow.
template <int TURN, typename Team, typename H, typename A, typename X>
__device__ Moments<A> measure(const Team &team, const H &fragment, A n, const X &x) {
    const A inverse = 1 / n;
    A mean[1] = {};
    fragment.values(0, [&](A x) { mean[0] += x * inverse; }, x);
    team.template sum<TURN>(mean);
    A sums[2] = {};
    const auto add = [&](A x) {
        const A d = x - mean[0];
        sums[0] += d;
        sums[1] += d * d;
    };
    fragment.values(0, add, x);
    team.template sum<TURN + 1>(sums);
    const A rest = sums[0] * inverse;
    return {n, {mean[0], rest}, not_below_0(sums[1] - sums[0] * rest)};
}

template <int TURN, typename Team, typename H, typename A, typename X, typename G>
__device__ CoMoments<A> measure(const Team &team, const H &fragment, A n, const X &x, const G &g) {
    const A inverse = 1 / n;
    A means[2] = {};
    const auto add_shares = [&](A x, A g) {
        means[0] += x * inverse;
        means[1] += g * inverse;
    };
    fragment.values(0, add_shares, x, g);
    team.template sum<TURN>(means);
    A sums[4] = {};
    const auto add = [&](A x, A g) {
        const A d = x - means[0], e = g - means[1];
        sums[0] += d, sums[1] += e;
        sums[2] += d * d, sums[3] += d * e;
    };
    fragment.values(0, add, x, g);
    team.template sum<TURN + 1>(sums);
    const A rest = sums[0] * inverse, g_rest = sums[1] * inverse;
    return {{n, {means[0], rest}, not_below_0(sums[2] - sums[0] * rest)},
            {means[1], g_rest},
            sums[3] - sums[0] * g_rest};
}
