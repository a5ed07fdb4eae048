// Who computes a plane on chip.

enum class Tier { Lanes, Block };

// The plane of a thread, its place among the threads of the plane, and their number: LANES of a
// simdgroup, or a threadgroup.
template <Tier TIER, int LANES = WARP> struct Team {
    Thread me;
    int plane, first, step;

    Team(Thread me) : me(me), plane(me.position), first(me.index), step(me.threads) {
        if (TIER != Tier::Lanes) return;
        plane = me.position * (WARPS_PER_BLOCK * WARP / LANES) + me.index / LANES;
        first = me.index % LANES;
        step = LANES;
    }

    // False for lanes without a plane, which the last simdgroup may have. They go on with nothing,
    // since the others wait for them.
    bool exists(int planes) const { return TIER != Tier::Lanes || plane < planes; }

    // The sums of K numbers over the threads of the plane. `of_simdgroup` is for this call alone, so
    // that a barrier a call is enough.
    template <int K> Sums<K> sum(Sums<K> v, threadgroup Sums<K> *of_simdgroup) const {
        v = simd_sum<TIER == Tier::Lanes ? LANES : WARP>(v);
        if (TIER == Tier::Lanes) return v;
        if (me.lane() == 0) of_simdgroup[me.simdgroup()] = v;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        v = Sums<K>{};
        if (me.lane() < me.threads / WARP) v = of_simdgroup[me.lane()];
        return simd_sum<WARP>(v);
    }
};

// The share of this thread in `size` elements of x that its team shares, N vectors at most. Elements
// beside the vectors are for each thread: they are less than two vectors.
template <int N, Tier TIER, int LANES>
auto fragment_of(Source x, int size, Team<TIER, LANES> team) {
    constexpr int SINGLES = (2 * PER_VECTOR - 1) / LANES + 1;
    const Run run = run_at(x.start, size);
    Fragment<N, SINGLES> fragment = {run, team.first, team.step, {}};
#pragma unroll
    for (int j = 0; j < SINGLES; ++j) {
        fragment.singles.at[j] = run.single(team.first + j * team.step);
    }
    return fragment;
}

// The memory of the two sums of `measure`, over pairs where K is 2.
template <int K> struct MeasureMemory {
    Sums<K> means[SIMDGROUPS];
    Sums<2 * K> sums[SIMDGROUPS];
};

// The moments of the n elements of a plane, in two sums over its threads: the mean is known before
// anything is squared. A share of the mean is summed instead of x, which cannot overflow.
template <typename Team, int N, int S>
Moments<float> measure(Team team, Fragment<N, S> fragment, float n, thread const Vector *x,
                       threadgroup MeasureMemory<1> &memory) {
    const float inverse = 1 / n;
    Sums<1> mean = {};
#pragma unroll
    for (int k = 0; k <= N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (fragment.has(k, j)) mean.of[0] += x[k].widened(j) * inverse;
        }
    }
    mean = team.sum(mean, memory.means);
    Sums<2> sums = {};
#pragma unroll
    for (int k = 0; k <= N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (!fragment.has(k, j)) continue;
            const float d = x[k].widened(j) - mean.of[0];
            sums.of[0] += d;
            sums.of[1] = fma(d, d, sums.of[1]);
        }
    }
    sums = team.sum(sums, memory.sums);
    const float rest = sums.of[0] * inverse;
    return {n, {mean.of[0], rest}, not_below_0(sums.of[1] - sums.of[0] * rest)};
}

template <typename Team, int N, int S>
CoMoments<float> measure(Team team, Fragment<N, S> fragment, float n, thread const Vector *x,
                         thread const Wide *g, threadgroup MeasureMemory<2> &memory) {
    const float inverse = 1 / n;
    Sums<2> means = {};
#pragma unroll
    for (int k = 0; k <= N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (!fragment.has(k, j)) continue;
            means.of[0] += x[k].widened(j) * inverse;
            means.of[1] += g[k].v[j] * inverse;
        }
    }
    means = team.sum(means, memory.means);
    Sums<4> sums = {};
#pragma unroll
    for (int k = 0; k <= N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (!fragment.has(k, j)) continue;
            const float d = x[k].widened(j) - means.of[0], e = g[k].v[j] - means.of[1];
            sums.of[0] += d;
            sums.of[1] += e;
            sums.of[2] = fma(d, d, sums.of[2]);
            sums.of[3] = fma(d, e, sums.of[3]);
        }
    }
    sums = team.sum(sums, memory.sums);
    const float rest = sums.of[0] * inverse, g_rest = sums.of[1] * inverse;
    return {{n, {means.of[0], rest}, not_below_0(sums.of[2] - sums.of[0] * rest)},
            {means.of[1], g_rest},
            sums.of[3] - sums.of[0] * g_rest};
}
