// From the moments of parts of planes to the coefficients of every plane, the statistics, and the
// gradients of the parameters. A simdgroup has a group of planes; all sums are taken in Float2 and in an
// order that the shape alone decides.

using D = Float2;

static_assert(sizeof(Padded<Moments<float>>) <= MOMENTS_NUMBERS * sizeof(float), "multi_pass.rs");
static_assert(sizeof(Padded<CoMoments<float>>) <= COMOMENTS_NUMBERS * sizeof(float), "multi_pass.rs");
static_assert(sizeof(Padded<Affine<float>>) <= AFFINE_NUMBERS * sizeof(float), "multi_pass.rs");
static_assert(sizeof(Padded<Gradient<float>>) <= GRADIENT_NUMBERS * sizeof(float), "multi_pass.rs");

inline Moments<D> wide(Moments<float> m) {
    return {m.n, {two_sum(m.mean.high, m.mean.rest), 0}, m.m2};
}

// The moments of x in a part.
inline Moments<float> of_x(Moments<float> m) { return m; }
inline Moments<float> of_x(CoMoments<float> m) { return m.x; }

// The pair with its high part rounded to f32; the sum is the same.
inline Pair<D> split_for_f32(Pair<D> p) { return {p.high.high, D(p.high.low) + p.rest}; }

// The group of a simdgroup: `size` neighbouring planes from `first` on.
struct Group {
    int index, first, size;
};

inline Group group_of(constant Call &call, Thread me) {
    const int index = me.position * WARPS_PER_BLOCK + me.simdgroup();
    const int size = call.shape.channels_per_group;
    return {index, index * size, size};
}

inline bool exists(constant Call &call, Group group) {
    return group.index < call.shape.planes / group.size;
}

// The statistics of a group, from all the parts of its planes; where they are given, of no use.
template <typename M>
Stats<D> group_stats(constant Call &call, constant Chunks &chunks, Buffers on, Group group,
                     Thread me) {
    if (has(call, MEAN)) return {};
    device const Padded<M> *parts =
        (device const Padded<M> *)on.parts + long(group.first) * chunks.count;
    Moments<D> m = {};
    for (int i = me.lane(); i < group.size * chunks.count; i += WARP) {
        const M part = parts[i].value;
        m = merge(m, wide(of_x(part)));
    }
    m = simd_merge(m, me);
    m.mean = split_for_f32(m.mean);
    return {call.spec, m};
}

// The statistics of a plane.
inline Stats<D> stats_of_plane(constant Call &call, Buffers on, Stats<D> of_group, int plane) {
    if (!has(call, MEAN)) return of_group;
    return given_stats<D>(call, on, plane);
}

inline void put_affines(constant Call &call, Buffers on, Group group, Stats<D> of_group, Thread me) {
    for (int i = me.lane(); i < group.size; i += WARP) {
        const int plane = group.first + i;
        const D weight = weight_of(call, on, plane), bias = bias_of(call, on, plane);
        const Stats<D> stats = stats_of_plane(call, on, of_group, plane);
        ((device Padded<Affine<float>> *)on.affines)[plane].value =
            Affine<D>(call.spec, stats, weight, bias);
    }
}

KERNEL(WARP *WARPS_PER_BLOCK) in_finish(ARGUMENTS(Call)) {
    const Buffers on = BUFFERS;
    const Thread me = THREAD;
    const Group group = group_of(call, me);
    if (!exists(call, group)) return;
    const Stats<D> of_group = group_stats<Moments<float>>(call, chunks, on, group, me);
    put_affines(call, on, group, of_group, me);
}

// The mean of each plane, and behind all of them the statistic that is asked for with it. The groups
// are single planes.
KERNEL(WARP *WARPS_PER_BLOCK) in_stats(ARGUMENTS(Call)) {
    const Thread me = THREAD;
    const Group group = group_of(call, me);
    if (!exists(call, group)) return;
    const Stats<D> stats = group_stats<Moments<float>>(call, chunks, BUFFERS, group, me);
    if (me.lane() != 0) return;
    device float *to = (device float *)out;
    to[group.first] = float(stats.mean.high + stats.mean.rest);
    to[call.shape.planes + group.first] = float(stats.scale_stat(call.spec.stat));
}

inline D simd_total(D v, int lanes) {
    for (int mask = 1; mask < lanes; mask *= 2) v = v + from_lane(v, mask);
    return v;
}

// PARTS is absent where nothing has to be summed: with given statistics and no parameter's gradient.
// `chunks.team` lanes, a power of two, share the parts of a plane. GRADIENTS and AFFINES are absent
// where nobody wants them.
KERNEL(WARP *WARPS_PER_BLOCK) in_finish_grad(ARGUMENTS(Call)) {
    const Buffers on = BUFFERS;
    const Thread me = THREAD;
    const Group group = group_of(call, me);
    if (!exists(call, group)) return;
    const Stats<D> of_group = group_stats<CoMoments<float>>(call, chunks, on, group, me);
    if (has(call, AFFINES)) put_affines(call, on, group, of_group, me);

    device const Padded<CoMoments<float>> *measured = (device const Padded<CoMoments<float>> *)parts;
    device Padded<Gradient<float>> *to = (device Padded<Gradient<float>> *)gradients;
    // The mean over the group of weight * g, and of weight * g * (x - mean).
    D total = 0, slope = 0;
    const int in_team = me.lane() % chunks.team, teams = WARP / chunks.team;
    for (int i = 0; i < group.size && has(call, PARTS); i += teams) {
        const int plane = group.first + i + me.lane() / chunks.team;
        const bool there = plane < group.first + group.size;
        const Stats<D> stats = stats_of_plane(call, on, of_group, there ? plane : group.first);
        D sum = 0, cross = 0;
        for (int k = in_team; there && k < chunks.count; k += chunks.team) {
            const CoMoments<float> m = measured[long(plane) * chunks.count + k].value;
            const D of_part = D(m.x.n) * two_sum(m.g.high, m.g.rest);
            sum = sum + of_part;
            cross = cross + (D(m.cross) + of_part * stats.mean.to(wide(m.x).mean));
        }
        sum = simd_total(sum, chunks.team);
        cross = simd_total(cross, chunks.team);
        if (!there || in_team != 0) continue;
        const D weight = weight_of(call, on, plane);
        put_shares(call, on, plane, stats, weight, sum, cross);
        total = total + weight * sum;
        slope = slope + weight * cross;
        if (has(call, GRADIENTS)) to[plane].value.g_mean = float(sum / D(call.shape.spatial));
    }
    if (!has(call, GRADIENTS)) return;
    const D mean_of_group = simd_total(total, WARP) / D(call.spec.n);
    slope = simd_total(slope, WARP) / D(call.spec.n);
    // By the lanes as above, since they read again what they wrote there.
    for (int i = 0; i < group.size; i += teams) {
        const int plane = group.first + i + me.lane() / chunks.team;
        if (plane >= group.first + group.size || in_team != 0) continue;
        const D weight = weight_of(call, on, plane);
        D g_mean = 0, excess = 0;  // nothing follows from x or g where the statistics do not
        if (!has(call, MEAN)) {
            g_mean = to[plane].value.g_mean;
            excess = weight * g_mean - mean_of_group;
        }
        const Stats<D> stats = stats_of_plane(call, on, of_group, plane);
        to[plane].value = Gradient<D>(call.spec, stats, weight, g_mean, excess, slope);
    }
}

// The gradient of a parameter from the planes' shares (see ParamSum). Rows of threads sum every so many
// samples, one row then sums the rows, both in ascending order and compensated, so that the roundings of
// 1e5 samples do not add up.
KERNEL(PARAM_THREADS) in_sum_params(ARGUMENTS(ParamSum)) {
    threadgroup Pair<float> of_row[PARAM_THREADS];
    device const float *shares = (device const float *)parts + call.shares;
    const long first = call.out;
    const int columns = call.columns, rows = PARAM_THREADS / columns;
    const int row = int(index) / columns, number = int(position) * columns + int(index) % columns;
    Pair<float> sum = {};
    for (int i = row; i < call.n && number < call.c; i += rows) {
        sum = sum.plus(shares[long(i) * call.c + number]);
    }
    of_row[index] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (row != 0 || number >= call.c) return;
    for (int i = 1; i < rows; ++i) {
        const Pair<float> other = of_row[i * columns + index];
        sum = sum.plus(other.high);
        sum.rest += other.rest;
    }
    const float sum_of_all = sum.high + sum.rest;
    if (call.is_f32) {
        ((device float *)out)[first + number] = sum_of_all;
    } else {
        ((device T *)out)[first + number] = T(sum_of_all);
    }
}
