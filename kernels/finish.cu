// From the moments of parts of planes to the coefficients of every plane, the statistics, and the
// gradients of the parameters. A warp has a set of planes; all sums are taken in f64 and in an order
// that the shape alone decides. Compiled for each ELEMENT.
#include "rule.cuh"

using T = ELEMENT;
using A = Acc<T>;
using D = double;  // a few operations for each plane

__device__ Pair<D> wide(const Pair<float> &p) { return {(D)p.high + p.rest, 0}; }
__device__ Pair<D> wide(const Pair<double> &p) { return p; }
__device__ Moments<D> wide(const Moments<A> &m) { return {m.n, wide(m.mean), m.m2}; }

// The same sum, with a high part that A holds.
__device__ Pair<D> split_for_a(const Pair<D> &p) {
    const D high = (A)p.high;
    return {high, (p.high - high) + p.rest};
}

// The set of this warp: `size` neighbouring planes from `first` on.
struct Set {
    int index, first, size, lane;

    __device__ explicit Set(const Shape &shape)
        : index(blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP), first(index * shape.group),
          size(shape.group), lane(threadIdx.x % WARP) {}

    __device__ bool exists(const Shape &shape) const { return index < shape.planes / size; }
};

// The statistics of a plane: those that are given, or those of its set, which `moments_of(i)` has
// for each of `parts` parts.
struct Statistics {
    const Call &call;
    bool given;
    Norm<D> of_set;

    template <typename F>
    __device__ Statistics(const Call &call, int lane, int parts, F moments_of)
        : call(call), given(call.mean.data != nullptr), of_set(0, 1) {
        if (given) return;
        Moments<D> m{};
        for (int i = lane; i < parts; i += WARP) m = merge(m, wide(moments_of(i)));
        m = warp_merge(m);
        m.mean = split_for_a(m.mean);
        of_set = Norm<D>(call.rule, m);
    }

    __device__ Norm<D> of(int plane) const {
        if (!given) return of_set;
        return {load<T>(call.mean, plane, 0), load<T>(call.rstd, plane, 1)};
    }
};

__device__ void put(const Call &call, const Set &set, const Statistics &statistics,
                    Stored<Affine<A>> *affines) {
    for (int i = set.lane; i < set.size; i += WARP) {
        const int plane = set.first + i;
        const D weight = weight_of<T, D>(call, plane), bias = load<T>(call.bias, plane, 0);
        affines[plane].put(Affine<D>(call.rule, statistics.of(plane), weight, bias));
    }
}

extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_finish(Call call, Cut cut, const Stored<Moments<A>> *parts, Stored<Affine<A>> *affines) {
    const Set set(call.shape);
    if (!set.exists(call.shape)) return;
    const auto *of_set = parts + (long long)set.first * cut.chunks;
    const Statistics statistics(call, set.lane, set.size * cut.chunks,
                                [&](int i) { return of_set[i].get(); });
    put(call, set, statistics, affines);
}

// The mean of each plane, and behind all of them the second statistic. The sets are single planes.
extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_stats(Call call, Cut cut, const Stored<Moments<A>> *parts, A *out) {
    const Set set(call.shape);
    if (!set.exists(call.shape)) return;
    const auto *of_set = parts + (long long)set.first * cut.chunks;
    const Statistics statistics(call, set.lane, cut.chunks, [&](int i) { return of_set[i].get(); });
    const Norm<D> norm = statistics.of(set.first);
    if (set.lane != 0) return;
    out[set.first] = norm.mean.high + norm.mean.rest;
    out[call.shape.planes + set.first] = norm.second(call.rule.second);
}

__device__ D warp_sum(D v, int lanes = WARP) {
    for (int mask = 1; mask < lanes; mask *= 2) v += __shfl_xor_sync(0xffffffff, v, mask);
    return v;
}

// `parts` is null where nothing has to be summed: with given statistics and no parameter's gradient.
// `cut.team` lanes, a power of two, share the parts of a plane. `gradients` and `affines` are null
// where nobody wants them.
extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_finish_grad(Call call, Cut cut, const Stored<CoMoments<A>> *parts, Stored<Gradient<A>> *gradients,
                   Stored<Affine<A>> *affines) {
    const Set set(call.shape);
    if (!set.exists(call.shape)) return;
    const auto *of_set = parts + (long long)set.first * cut.chunks;
    const Statistics statistics(call, set.lane, set.size * cut.chunks,
                                [&](int i) { return of_set[i].get().x; });

    if (affines != nullptr) put(call, set, statistics, affines);

    // The mean over the set of weight * g, and of weight * g * (x - mean).
    D mean = 0, slope = 0;
    const int in_team = set.lane % cut.team, teams = WARP / cut.team;
    for (int i = 0; i < set.size && parts != nullptr; i += teams) {
        const int plane = set.first + i + set.lane / cut.team;
        const bool there = plane < set.first + set.size;
        const Norm<D> norm = statistics.of(there ? plane : set.first);
        D sum = 0, cross = 0;
        for (int k = in_team; there && k < cut.chunks; k += cut.team) {
            const CoMoments<A> m = parts[(long long)plane * cut.chunks + k].get();
            const Pair<D> g = wide(m.g);
            const D of_part = m.x.n * g.high + m.x.n * g.rest;
            sum += of_part;
            cross += m.cross + of_part * norm.mean.to(wide(m.x.mean));
        }
        sum = warp_sum(sum, cut.team), cross = warp_sum(cross, cut.team);
        if (!there || in_team != 0) continue;
        const D weight = weight_of<T, D>(call, plane);
        put_shares<T>(call, plane, norm, weight, sum, cross);
        mean += weight * sum, slope += weight * cross;
        if (gradients != nullptr) gradients[plane].value.g_mean = sum / call.shape.spatial;
    }
    if (gradients == nullptr) return;
    mean = warp_sum(mean) / call.rule.n, slope = warp_sum(slope) / call.rule.n;
    // The same lanes as above, since they read again what they wrote there.
    for (int i = 0; i < set.size; i += teams) {
        const int plane = set.first + i + set.lane / cut.team;
        if (plane >= set.first + set.size || in_team != 0) continue;
        const D weight = weight_of<T, D>(call, plane);
        // Nothing follows from x or g where the statistics do not.
        const D g_mean = statistics.given ? 0 : gradients[plane].value.g_mean;
        const D excess = statistics.given ? 0 : weight * g_mean - mean;
        gradients[plane].put(
            Gradient<D>(call.rule, statistics.of(plane), weight, g_mean, excess, slope));
    }
}

// What in_sum_params sums, which src/cuda/params.rs fills in, field for field.
constexpr int MAX_PARAMS = 4;
struct ParamSum {
    const void *shares;
    void *out;
    int n, c, columns;
    int is_f32;
};
struct ParamSums {
    ParamSum of[MAX_PARAMS];
    int blocks;
};

// The gradients of up to MAX_PARAMS parameters, each from the planes' shares, `n` of them for each of `c`
// numbers (1 for a parameter per sample). A block has `columns` numbers, a power of two, of one parameter
// side by side, which `blocks` blocks have. Rows of threads sum every so many samples, one row then sums
// the rows, both in ascending order and compensated, so that the roundings of 1e5 samples do not add up.
extern "C" __global__ void __launch_bounds__(PARAM_THREADS) in_sum_params(ParamSums sums) {
    __shared__ Pair<A> of_row[PARAM_THREADS];
    const ParamSum &of = sums.of[blockIdx.x / sums.blocks];
    const A *shares = static_cast<const A *>(of.shares);
    const int rows = PARAM_THREADS / of.columns, row = threadIdx.x / of.columns;
    const int number = blockIdx.x % sums.blocks * of.columns + threadIdx.x % of.columns;
    Pair<A> sum{};
    for (int i = row; i < of.n && number < of.c; i += rows) {
        sum = sum.plus(shares[(long long)i * of.c + number]);
    }
    of_row[threadIdx.x] = sum;
    __syncthreads();
    if (row != 0 || number >= of.c) return;
    for (int i = 1; i < rows; ++i) {
        const Pair<A> other = of_row[i * of.columns + threadIdx.x];
        sum = sum.plus(other.high);
        sum.rest += other.rest;
    }
    const A total = sum.high + sum.rest;
    if (of.is_f32) {
        static_cast<float *>(of.out)[number] = total;
    } else {
        narrow(total, static_cast<T *>(of.out)[number]);
    }
}
