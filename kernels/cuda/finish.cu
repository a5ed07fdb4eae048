// From the moments of parts of planes to the coefficients of every plane, the statistics, and the
// gradients of the parameters. A warp has a group of planes; all sums are taken in f64 and in an order
// that the shape alone decides. Compiled for each ELEMENT.
#include "coefficients.cuh"

using T = ELEMENT;
using A = Acc<T>;
using D = double;  // a few operations for each plane

__device__ Pair<D> wide(const Pair<float> &p) { return {(D)p.high + p.rest, 0}; }
__device__ Pair<D> wide(const Pair<double> &p) { return p; }
__device__ Moments<D> wide(const Moments<A> &m) { return {m.n, wide(m.mean), m.m2}; }

// The pair with its high part rounded to A; the sum is the same.
__device__ Pair<D> split_for_a(const Pair<D> &p) {
    const D high = A(p.high);
    return {high, (p.high - high) + p.rest};
}

// The group of this warp: `size` neighbouring planes from `first` on.
struct Group {
    int index, first, size, lane;

    __device__ explicit Group(const Shape &shape)
        : index(blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP),
          first(index * shape.channels_per_group), size(shape.channels_per_group),
          lane(threadIdx.x % WARP) {}

    __device__ bool exists(const Shape &shape) const { return index < shape.planes / size; }
};

// The statistics of a plane: given ones, or those of its group, which `moments_of(i)` has for each of
// `parts` parts.
struct GroupStats {
    const Call &call;
    bool given;
    Stats<D> of_group;

    template <typename F>
    __device__ GroupStats(const Call &call, int lane, int parts, F moments_of)
        : call(call), given(call.mean.origin != nullptr), of_group(0, 1) {
        if (given) return;
        Moments<D> m{};
        for (int i = lane; i < parts; i += WARP) m = merge(m, wide(moments_of(i)));
        m = warp_merge(m);
        m.mean = split_for_a(m.mean);
        of_group = Stats<D>(call.spec, m);
    }

    __device__ Stats<D> of(int plane) const {
        if (!given) return of_group;
        return given_stats<T, D>(call, {call.shape, plane});
    }
};

__device__ void put_affines(const Call &call, const Group &group, const GroupStats &group_stats,
                    Padded<Affine<A>> *affines) {
    for (int i = group.lane; i < group.size; i += WARP) {
        const int plane = group.first + i;
        affines[plane].put(affine_of<T, D>(call, {call.shape, plane}, group_stats.of(plane)));
    }
}

extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_finish(Call call, Chunks chunks, const Padded<Moments<A>> *parts, Padded<Affine<A>> *affines) {
    const Group group(call.shape);
    if (!group.exists(call.shape)) return;
    const auto *of_group = parts + (long long)group.first * chunks.count;
    const GroupStats group_stats(call, group.lane, group.size * chunks.count,
                                [&](int i) { return of_group[i].get(); });
    put_affines(call, group, group_stats, affines);
}

// The mean of each plane, and behind all of them the statistic that is asked for with it. The groups
// are single planes.
extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_stats(Call call, Chunks chunks, const Padded<Moments<A>> *parts, A *out) {
    const Group group(call.shape);
    if (!group.exists(call.shape)) return;
    const auto *of_group = parts + (long long)group.first * chunks.count;
    const GroupStats group_stats(call, group.lane, chunks.count, [&](int i) { return of_group[i].get(); });
    const Stats<D> stats = group_stats.of(group.first);
    if (group.lane != 0) return;
    out[group.first] = A(stats.mean.high + stats.mean.rest);
    out[call.shape.planes + group.first] = A(stats.scale_stat(call.spec.stat));
}

// The sum over so many neighbours of a warp.
__device__ D warp_total(D v, int lanes = WARP) {
    for (int mask = 1; mask < lanes; mask *= 2) v = v + from_lane(v, mask);
    return v;
}

// `parts` is null where nothing has to be summed: with given statistics and no parameter's gradient.
// `chunks.team` lanes, a power of two, share the parts of a plane. `gradients` and `affines` are null
// where nobody wants them.
extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_finish_grad(Call call, Chunks chunks, const Padded<CoMoments<A>> *parts,
                   Padded<Gradient<A>> *gradients, Padded<Affine<A>> *affines) {
    const Group group(call.shape);
    if (!group.exists(call.shape)) return;
    const auto *of_group = parts + (long long)group.first * chunks.count;
    const GroupStats group_stats(call, group.lane, group.size * chunks.count,
                                [&](int i) { return of_group[i].get().x; });

    if (affines != nullptr) put_affines(call, group, group_stats, affines);

    // The mean over the group of weight * g, and of weight * g * (x - mean).
    D mean = 0, slope = 0;
    const int in_team = group.lane % chunks.team, teams = WARP / chunks.team;
    for (int i = 0; i < group.size && parts != nullptr; i += teams) {
        const int plane = group.first + i + group.lane / chunks.team;
        const bool there = plane < group.first + group.size;
        const Stats<D> stats = group_stats.of(there ? plane : group.first);
        D sum = 0, cross = 0;
        for (int k = in_team; there && k < chunks.count; k += chunks.team) {
            const CoMoments<A> m = parts[(long long)plane * chunks.count + k].get();
            const Pair<D> g = wide(m.g);
            const D n = m.x.n, of_part = n * g.high + n * g.rest;
            sum = sum + of_part;
            cross = cross + (D(m.cross) + of_part * stats.mean.to(wide(m.x.mean)));
        }
        sum = warp_total(sum, chunks.team), cross = warp_total(cross, chunks.team);
        if (!there || in_team != 0) continue;
        const D weight = weight_of<T, D>(call, {call.shape, plane});
        // Between the two sums, where it takes the fewest registers.
        slope = slope + weight * cross;
        put_shares<T>(call, plane, stats, weight, sum, cross);
        mean = mean + weight * sum;
        if (gradients != nullptr) gradients[plane].value.g_mean = A(sum / D(call.shape.spatial));
    }
    if (gradients == nullptr) return;
    const D n = D(call.shape.spatial) * D(group.size);
    mean = warp_total(mean) / n, slope = warp_total(slope) / n;
    // By the lanes as above, since they read again what they wrote there.
    for (int i = 0; i < group.size; i += teams) {
        const int plane = group.first + i + group.lane / chunks.team;
        if (plane >= group.first + group.size || in_team != 0) continue;
        const D weight = weight_of<T, D>(call, {call.shape, plane});
        // Nothing follows from x or g where the statistics do not.
        const D g_mean = group_stats.given ? A(0) : gradients[plane].value.g_mean;
        const D excess = group_stats.given ? D(0) : weight * g_mean - mean;
        gradients[plane].put(
            Gradient<D>(call.spec, group_stats.of(plane), weight, g_mean, excess, slope));
    }
}

// The argument of in_sum_params: ParamSums of src/gpu/abi.rs.
struct ParamSums {
    ParamSum of[MAX_PARAMS];
    int blocks;
};
static_assert(sizeof(ParamSums) == PARAM_SUMS_BYTES, "abi.rs");
static_assert(sizeof(Padded<Moments<A>>) <= MOMENTS_NUMBERS * sizeof(A), "multi_pass.rs");
static_assert(sizeof(Padded<CoMoments<A>>) <= COMOMENTS_NUMBERS * sizeof(A), "multi_pass.rs");
static_assert(sizeof(Padded<Affine<A>>) <= AFFINE_NUMBERS * sizeof(A), "multi_pass.rs");
static_assert(sizeof(Padded<Gradient<A>>) <= GRADIENT_NUMBERS * sizeof(A), "multi_pass.rs");

// The gradients of up to MAX_PARAMS parameters, each from the planes' shares (see ParamSum), with `blocks`
// blocks for each. Rows of threads sum every so many samples, one row then sums the rows, both in
// ascending order and compensated, so that the roundings of 1e5 samples do not add up.
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
