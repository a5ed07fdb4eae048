// Means and centred sums of a plane, merged from thread to simdgroup to threadgroup to plane.

// A sum or mean and what rounding it left out, so that `high + rest` has twice the digits: at a mean
// of 1e4 an f32 is off by up to 5e-4, which is 5 % of a deviation of 1e-2.
template <typename A> struct Pair {
    A high, rest;

    Pair plus(A by) const {
        const A step = rest + by, sum = high + step;
        return {sum, step - (sum - high)};
    }

    A to(Pair other) const { return (other.high - high) + (other.rest - rest); }
};

// n values, their mean, and m2 = sum((x - mean)^2).
template <typename A> struct Moments {
    A n;
    Pair<A> mean;
    A m2;
};

// The moments of x, the mean of g, and cross = sum((x - mean) * (g - g mean)).
template <typename A> struct CoMoments {
    Moments<A> x;
    Pair<A> g;
    A cross;
};

// Chan, Golub and LeVeque's update, with b after a. Either may be empty; an empty a must hand on b
// as it is, since the way from a mean of 0 to that of b has no room for its `rest`.
template <typename A> A share_of(Moments<A> a, Moments<A> b) { return b.n / (a.n + b.n); }

template <typename A> Moments<A> merge(Moments<A> a, Moments<A> b, A part) {
    const A delta = a.mean.to(b.mean);
    return {a.n + b.n, a.mean.plus(delta * part), a.m2 + b.m2 + delta * delta * a.n * part};
}

template <typename A> Moments<A> merge(Moments<A> a, Moments<A> b) {
    if (a.n == 0) return b;
    return merge(a, b, share_of(a, b));
}

template <typename A> CoMoments<A> merge(CoMoments<A> a, CoMoments<A> b) {
    if (a.x.n == 0) return b;
    const A part = share_of(a.x, b.x), delta = a.g.to(b.g);
    return {merge(a.x, b.x, part), a.g.plus(delta * part),
            a.cross + b.cross + a.x.mean.to(b.x.mean) * delta * a.x.n * part};
}

// What the lane whose number differs by `mask` has.
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
template <typename M> M simd_merge(M m, Place place, int step = 1) {
    for (int mask = step; mask < WARP; mask *= 2) {
        const M other = from_lane(m, mask);
        m = place.lane() & mask ? merge(other, m) : merge(m, other);
    }
    return m;
}

// The merge of all threads, in every thread: one barrier, then each simdgroup merges the simdgroups'
// results for itself. `room` is for this call alone.
template <typename M> M group_merge(M m, Place place, threadgroup M *room) {
    m = simd_merge(m, place);
    if (place.lane() == 0) room[place.simdgroup()] = m;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    m = M{};
    if (place.lane() < place.threads / WARP) m = room[place.lane()];
    return simd_merge(m, place);
}

// The moments of the first N vectors of `held`, which are in x: of all elements, or, with a plane for
// each, of element `plane` of every vector.
template <int N, int PLANES> Moments<float> measure(Held held, thread const Vector *x, int plane) {
    float n = 0, sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !held.has(k, j)) continue;
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
            if ((PLANES > 1 && j != plane) || !held.has(k, j)) continue;
            const float d = x[k].widened(j) - mean;
            off += d;
            square = fma(d, d, square);
        }
    }
    const float rest = off * inverse;
    return {n, {mean, rest}, square - off * rest};
}

// Those of the pairs of x and g.
template <int N, int PLANES>
CoMoments<float> measure(Held held, thread const Vector *x, thread const Wide *g, int plane) {
    float n = 0, sum = 0, g_sum = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if ((PLANES > 1 && j != plane) || !held.has(k, j)) continue;
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
            if ((PLANES > 1 && j != plane) || !held.has(k, j)) continue;
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
