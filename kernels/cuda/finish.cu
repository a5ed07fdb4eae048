// From the moments of parts of planes to the coefficients of every plane, the statistics, and the
// gradients of the parameters. A warp has a group of planes; all sums are taken in an order that the shape
// alone decides. They are about means, in pairs where f32 lacks the digits, and need no f64, which has 1/32
// or 1/64 of the rate of f32 on most devices. Compiled for each ELEMENT.
#include "coefficients.cuh"

using T = ELEMENT;
using A = Acc<T>;

// The group of this warp: `size` neighbouring planes from `first` on.
struct Group {
    int index, first, size, lane;

    __device__ explicit Group(const Shape &shape)
        : index(blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP),
          first(index * shape.channels_per_group), size(shape.channels_per_group),
          lane(threadIdx.x % WARP) {}

    __device__ bool exists(const Shape &shape) const { return index < shape.planes / size; }
};

__device__ bool are_given(const Call &call) { return call.mean.origin != nullptr; }

// The statistics of a group, from all parts of its planes; where they are given, of no use.
__device__ Stats<A> measured(const Call &call, const Chunks &chunks, const Group &group,
                             const Padded<Moments<A>> *parts) {
    if (are_given(call)) return {0, 1};
    const auto *of_group = parts + (long long)group.first * chunks.count;
    const auto part = [&](int i) { return of_group[i].get(); };
    return {call.spec, warp_merge(merge_some(group.lane, WARP, group.size * chunks.count, part))};
}

// The statistics of a plane.
__device__ Stats<A> stats_of(const Call &call, const Stats<A> &of_group, int plane) {
    return are_given(call) ? given_stats<T, A>(call, {call.shape, plane}) : of_group;
}

__device__ void put_affines(const Call &call, const Group &group, const Stats<A> &of_group,
                            Padded<Affine<A>> *affines) {
    for (int i = group.lane; i < group.size; i += WARP) {
        const int plane = group.first + i;
        const Stats<A> stats = stats_of(call, of_group, plane);
        affines[plane].put(affine_of<T, A>(call, {call.shape, plane}, stats));
    }
}

extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_finish(Call call, Chunks chunks, const Padded<Moments<A>> *parts, Padded<Affine<A>> *affines) {
    const Group group(call.shape);
    if (!group.exists(call.shape)) return;
    put_affines(call, group, measured(call, chunks, group, parts), affines);
}

// The mean of each plane, and behind all of them the statistic that is asked for with it. The groups
// are single planes.
extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_stats(Call call, Chunks chunks, const Padded<Moments<A>> *parts, A *out) {
    const Group group(call.shape);
    if (!group.exists(call.shape)) return;
    const Stats<A> stats = measured(call, chunks, group, parts);
    if (group.lane != 0) return;
    out[group.first] = stats.mean.high + stats.mean.rest;
    out[call.shape.planes + group.first] = stats.scale_stat(call.spec.stat);
}

// `parts` is null where nothing has to be summed: with given statistics and no parameter's gradient.
// `chunks.team` lanes, a power of two, share the parts of a plane. `gradients` and `affines` are null
// where nobody wants them.
extern "C" __global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    in_finish_grad(Call call, Chunks chunks, const Padded<CoMoments<A>> *parts,
                   Padded<Gradient<A>> *gradients, Padded<Affine<A>> *affines) {
    const Group group(call.shape);
    if (!group.exists(call.shape)) return;
    const int in_team = group.lane % chunks.team, teams = WARP / chunks.team;
    const auto of_plane = [&](int plane) {
        const bool has = parts != nullptr && plane < group.first + group.size;
        const auto part = [&](int k) { return parts[(long long)plane * chunks.count + k].get(); };
        const auto m = merge_some(in_team, chunks.team, has ? chunks.count : 0, part);
        return warp_merge(m, Lanes{1, chunks.team});
    };

    // The co-moments of x and weight * g over the group: all that the planes have to know of each other.
    CoMoments<A> m{}, all{};
    const int first = group.first + group.lane / chunks.team, end = group.first + group.size;
    const int rounds = (group.size + teams - 1) / teams;
    for (int round = 0; round < rounds; ++round) {
        const int plane = first + round * teams;
        m = of_plane(plane);
        if (plane >= end) continue;
        const A weight = weight_of<T, A>(call, {call.shape, plane});
        all = merge(all, CoMoments<A>{m.x, m.g.times(weight), m.cross * weight});
    }
    all = warp_merge(all, Lanes{chunks.team, WARP});
    const bool given = are_given(call);
    const Stats<A> of_group(call.spec, all.x);
    if (affines != nullptr) put_affines(call, group, of_group, affines);

    const A slope = all.cross / A(call.spec.n);
    for (int round = rounds - 1; round >= 0; --round) {
        const int plane = first + round * teams;
        if (round < rounds - 1) m = of_plane(plane);  // those of the last round are still there
        if (plane >= end || in_team != 0) continue;
        const Stats<A> stats = stats_of(call, of_group, plane);
        const A weight = weight_of<T, A>(call, {call.shape, plane});
        // A single plane's mean is that of its group, to the last bit of `rest`: however large `sum` is, it
        // counts for nothing then.
        const A n = call.shape.spatial, sum = n * m.g.high + n * m.g.rest;
        const A cross = m.cross + sum * stats.mean.to(m.x.mean);
        put_shares<T>(call, plane, stats, weight, sum, cross);
        if (gradients == nullptr) continue;
        // Nothing follows from x or g where the statistics do not.
        const A g_mean = given ? 0 : m.g.high;
        const A excess = given ? 0 : all.g.to(Pair<A>{g_mean, 0}.times(weight));
        gradients[plane].put(Gradient<A>(call.spec, stats, weight, g_mean, excess, slope));
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
