// From the moments of parts of planes to the coefficients of every plane, the statistics, and the
// gradients of the parameters. A simdgroup has a set of planes; all sums are taken twofold and in an
// order that the shape alone decides.

using D = Twofold;

inline Moments<D> wide(Moments<float> m) {
    return {m.n, {two_sum(m.mean.high, m.mean.rest), 0}, m.m2};
}

// The moments of x in a part.
inline Moments<float> of_x(Moments<float> m) { return m; }
inline Moments<float> of_x(CoMoments<float> m) { return m.x; }

// The same sum, with a high part that an f32 holds.
inline Pair<D> split_for_f32(Pair<D> p) { return {p.high.high, D(p.high.low) + p.rest}; }

// The set of a simdgroup: `size` neighbouring planes from `first` on.
struct Set {
    int index, first, size;
};

inline Set set_of(constant Call &call, Place place) {
    const int index = place.group * WARPS_PER_BLOCK + place.simdgroup(), size = call.shape.group;
    return {index, index * size, size};
}

inline bool exists(constant Call &call, Set set) { return set.index < call.shape.planes / set.size; }

// The statistics of a set, from all the parts of its planes; where they are given, of no use.
template <typename M>
Norm<D> statistics(constant Call &call, constant Cut &cut, Buffers on, Set set, Place place) {
    if (has(call, MEAN)) return {};
    device const Stored<M> *parts =
        (device const Stored<M> *)on.parts + long(set.first) * cut.chunks;
    Moments<D> m = {};
    for (int i = place.lane(); i < set.size * cut.chunks; i += WARP) {
        const M part = parts[i].value;
        m = merge(m, wide(of_x(part)));
    }
    m = simd_merge(m, place);
    m.mean = split_for_f32(m.mean);
    return norm_of(call.rule, m);
}

// Those of a plane.
inline Norm<D> norm_of_plane(constant Call &call, Buffers on, Norm<D> of_set, int plane) {
    if (!has(call, MEAN)) return of_set;
    return given_norm<D>(call, on, plane);
}

inline void put_affines(constant Call &call, Buffers on, Set set, Norm<D> of_set, Place place) {
    for (int i = place.lane(); i < set.size; i += WARP) {
        const int plane = set.first + i;
        const D weight = weight_of(call, on, plane), bias = bias_of(call, on, plane);
        const Norm<D> norm = norm_of_plane(call, on, of_set, plane);
        ((device Stored<Affine> *)on.affines)[plane].value =
            affine_of(call.rule, norm, weight, bias);
    }
}

KERNEL(WARP *WARPS_PER_BLOCK) in_finish(ARGUMENTS(Call)) {
    const Buffers on = BUFFERS;
    const Place place = PLACE;
    const Set set = set_of(call, place);
    if (!exists(call, set)) return;
    const Norm<D> of_set = statistics<Moments<float>>(call, cut, on, set, place);
    put_affines(call, on, set, of_set, place);
}

// The mean of each plane, and behind all of them the second statistic. The sets are single planes.
KERNEL(WARP *WARPS_PER_BLOCK) in_stats(ARGUMENTS(Call)) {
    const Place place = PLACE;
    const Set set = set_of(call, place);
    if (!exists(call, set)) return;
    const Norm<D> norm = statistics<Moments<float>>(call, cut, BUFFERS, set, place);
    if (place.lane() != 0) return;
    device float *to = (device float *)out;
    to[set.first] = float(norm.mean.high + norm.mean.rest);
    to[call.shape.planes + set.first] = float(norm.second(call.rule.second));
}

inline D simd_total(D v, int lanes) {
    for (int mask = 1; mask < lanes; mask *= 2) v = v + from_lane(v, mask);
    return v;
}

// PARTS is absent where nothing has to be summed: with given statistics and no parameter's gradient.
// `cut.team` lanes, a power of two, share the parts of a plane. GRADIENTS and AFFINES are absent
// where nobody wants them.
KERNEL(WARP *WARPS_PER_BLOCK) in_finish_grad(ARGUMENTS(Call)) {
    const Buffers on = BUFFERS;
    const Place place = PLACE;
    const Set set = set_of(call, place);
    if (!exists(call, set)) return;
    const Norm<D> of_set = statistics<CoMoments<float>>(call, cut, on, set, place);
    if (has(call, AFFINES)) put_affines(call, on, set, of_set, place);

    device const Stored<CoMoments<float>> *measured = (device const Stored<CoMoments<float>> *)parts;
    device Stored<Gradient> *to = (device Stored<Gradient> *)gradients;
    // The mean over the set of weight * g, and of weight * g * (x - mean).
    D total = 0, slope = 0;
    const int in_team = place.lane() % cut.team, teams = WARP / cut.team;
    for (int i = 0; i < set.size && has(call, PARTS); i += teams) {
        const int plane = set.first + i + place.lane() / cut.team;
        const bool there = plane < set.first + set.size;
        const Norm<D> norm = norm_of_plane(call, on, of_set, there ? plane : set.first);
        D sum = 0, cross = 0;
        for (int k = in_team; there && k < cut.chunks; k += cut.team) {
            const CoMoments<float> m = measured[long(plane) * cut.chunks + k].value;
            const D of_part = D(m.x.n) * two_sum(m.g.high, m.g.rest);
            sum = sum + of_part;
            cross = cross + (D(m.cross) + of_part * norm.mean.to(wide(m.x).mean));
        }
        sum = simd_total(sum, cut.team);
        cross = simd_total(cross, cut.team);
        if (!there || in_team != 0) continue;
        const D weight = weight_of(call, on, plane);
        put_shares(call, on, plane, norm, weight, sum, cross);
        total = total + weight * sum;
        slope = slope + weight * cross;
        if (has(call, GRADIENTS)) to[plane].value.g_mean = float(sum / D(call.shape.spatial));
    }
    if (!has(call, GRADIENTS)) return;
    const D mean_of_set = simd_total(total, WARP) / D(call.rule.n);
    slope = simd_total(slope, WARP) / D(call.rule.n);
    // The same lanes as above, since they read again what they wrote there.
    for (int i = 0; i < set.size; i += teams) {
        const int plane = set.first + i + place.lane() / cut.team;
        if (plane >= set.first + set.size || in_team != 0) continue;
        const D weight = weight_of(call, on, plane);
        D g_mean = 0, excess = 0;  // nothing follows from x or g where the statistics do not
        if (!has(call, MEAN)) {
            g_mean = to[plane].value.g_mean;
            excess = weight * g_mean - mean_of_set;
        }
        const Norm<D> norm = norm_of_plane(call, on, of_set, plane);
        to[plane].value = gradient_of(call.rule, norm, weight, g_mean, excess, slope);
    }
}

// The gradient of a parameter from the planes' shares (see Sum): a threadgroup has `columns` numbers,
// a power of two, side by side. Rows of threads sum every so many samples, one row then sums the
// rows, both in ascending order and compensated, so that the roundings of 1e5 samples do not add up.
KERNEL(PARAM_THREADS) in_sum_params(ARGUMENTS(Sum)) {
    threadgroup Pair<float> of_row[PARAM_THREADS];
    device const float *shares = (device const float *)parts;
    const int columns = call.columns, rows = PARAM_THREADS / columns;
    const int row = int(index) / columns, number = int(group) * columns + int(index) % columns;
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
        ((device float *)out)[number] = sum_of_all;
    } else {
        ((device T *)out)[number] = T(sum_of_all);
    }
}
