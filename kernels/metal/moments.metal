// Moments of a plane, merged from thread to simdgroup to threadgroup to plane.

// The value of the lane whose number differs by `mask`.
inline float from_lane(float v, int mask) { return simd_shuffle_xor(v, ushort(mask)); }

template <typename A> Pair<A> from_lane(Pair<A> p, int mask) {
    return {from_lane(p.high, mask), from_lane(p.rest, mask)};
}

template <typename A> Moments<A> from_lane(Moments<A> m, int mask) {
    return {from_lane(m.n, mask), from_lane(m.mean, mask), from_lane(m.m2, mask)};
}

template <typename A> CoMoments<A> from_lane(CoMoments<A> m, int mask) {
    return {from_lane(m.x, mask), from_lane(m.g, mask), from_lane(m.cross, mask)};
}

// The merge of the lanes whose places differ by multiples of `step`, a power of two, in each of them.
// Both lanes of a pair merge the lower one first, so that all end up with the same bits.
template <typename M> M simd_merge(M m, Thread me, int step = 1) {
    for (int mask = step; mask < WARP; mask *= 2) {
        const M other = from_lane(m, mask);
        m = me.lane() & mask ? merge(other, m) : merge(m, other);
    }
    return m;
}

// The merge of all threads, in every thread: one barrier, then each simdgroup merges the simdgroups'
// results for itself. `memory` is for this call alone.
template <typename M> M group_merge(M m, Thread me, threadgroup M *memory) {
    m = simd_merge(m, me);
    if (me.lane() == 0) memory[me.simdgroup()] = m;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    m = M{};
    if (me.lane() < me.threads / WARP) m = memory[me.lane()];
    return simd_merge(m, me);
}

// The moments of the first N vectors of `fragment`, which are in x: of all elements, or, with a plane for
// each, of element `plane` of every vector.
template <int N, int PLANES>
Moments<float> measure(Fragment fragment, thread const Vector *x, int plane) {
    float n = 0, sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !fragment.has(k, j)) continue;
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
            if ((PLANES > 1 && j != plane) || !fragment.has(k, j)) continue;
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
CoMoments<float> measure(Fragment fragment, thread const Vector *x, thread const Wide *g,
                         int plane) {
    float n = 0, sum = 0, g_sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !fragment.has(k, j)) continue;
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
            if ((PLANES > 1 && j != plane) || !fragment.has(k, j)) continue;
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
