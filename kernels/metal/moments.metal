// Means and centred sums of a plane, merged from thread to simdgroup to threadgroup to plane.

constant constexpr int SIMDGROUPS = MAX_THREADS / WARP;  // of a threadgroup, at most

// 0 for a sum of squares that rounding made negative. NaN stays NaN.
inline float not_below_0(float m2) { return m2 < 0 ? 0 : m2; }

// K numbers, each to be summed over threads.
template <int K> struct Sums {
    float of[K];
};

// The sums over LANES neighbours of a simdgroup, with the same bits in all.
template <int LANES, int K> Sums<K> simd_sum(Sums<K> v) {
#pragma unroll
    for (int mask = 1; mask < LANES; mask *= 2) {
#pragma unroll
        for (int i = 0; i < K; ++i) v.of[i] += simd_shuffle_xor(v.of[i], ushort(mask));
    }
    return v;
}

// What the lane whose number differs by `mask` has: a float, or a struct of floats alone.
template <typename M> M from_lane(M m, int mask) {
    thread float *of = (thread float *)&m;
#pragma unroll
    for (int i = 0; i < int(sizeof(M) / sizeof(float)); ++i) {
        of[i] = simd_shuffle_xor(of[i], ushort(mask));
    }
    return m;
}

// Number by number: a choice between two structs would be one between their places in memory.
template <typename M> M choose(bool first, M a, M b) {
    thread const float *of_a = (thread const float *)&a;
    thread float *of_b = (thread float *)&b;
#pragma unroll
    for (int i = 0; i < int(sizeof(M) / sizeof(float)); ++i) of_b[i] = first ? of_a[i] : of_b[i];
    return b;
}

// The merge of the lanes whose places differ by multiples of `step`, a power of two, in each of them.
// Both lanes of a pair merge the lower one first, so that all end up with the same bits.
template <typename M> M simd_merge(M m, Thread me, int step = 1) {
    for (int mask = step; mask < WARP; mask *= 2) {
        const M other = from_lane(m, mask);
        const bool behind = me.lane() & mask;
        m = merge(choose(behind, other, m), choose(behind, m, other));
    }
    return m;
}

// The moments of the first N vectors of `some`, which are in x: of all elements, or, with a plane for
// each, of element `plane` of every vector.
template <int N, int PLANES>
Moments<float> moments(Vectors some, thread const Vector *x, int plane) {
    float n = 0, sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !some.has(k, j)) continue;
            sum += x[k].widened(j);
            n += 1;
        }
    }
    const float inverse = n > 0 ? 1 / n : 0, mean = sum * inverse;
    float off = 0, square = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !some.has(k, j)) continue;
            const float d = x[k].widened(j) - mean;
            off += d;
            square = fma(d, d, square);
        }
    }
    const float rest = off * inverse;
    return {n, {mean, rest}, square - off * rest};
}

// The co-moments of the pairs of x and g.
template <int N, int PLANES>
CoMoments<float> comoments(Vectors some, thread const Vector *x, thread const Wide *g, int plane) {
    float n = 0, sum = 0, g_sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !some.has(k, j)) continue;
            sum += x[k].widened(j);
            g_sum += g[k].v[j];
            n += 1;
        }
    }
    const float inverse = n > 0 ? 1 / n : 0, mean = sum * inverse, g_mean = g_sum * inverse;
    float off = 0, square = 0, g_off = 0, cross = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !some.has(k, j)) continue;
            const float d = x[k].widened(j) - mean, e = g[k].v[j] - g_mean;
            off += d;
            g_off += e;
            square = fma(d, d, square);
            cross = fma(d, e, cross);
        }
    }
    const float rest = off * inverse, g_rest = g_off * inverse;
    return {{n, {mean, rest}, square - off * rest}, {g_mean, g_rest}, cross - off * g_rest};
}
