// The parameters and given statistics of a plane, and its shares of their gradients. Everything is
// computed in f32 on chip, and in Float2 in several passes.

// The derivative of a statistic by the biased variance.
template <typename A> A slope_of(Stats<A> stats, ScaleStat which, A bessel) {
    if (which == ScaleStat::Var) return bessel;
    if (which == ScaleStat::Std) return stats.rstd_slope * inverse(A(2) * stats.rstd);
    return -stats.rstd_slope * stats.rstd / A(2);
}

// The factor of a plane: the parameter's, with its offset; 1 where there is none.
inline float weight_of(constant Call &call, Buffers on, int plane) {
    if (!has(call, WEIGHT)) return 1;
    return load(call.weight, on.weight, plane) + call.spec.weight_offset;
}

inline float bias_of(constant Call &call, Buffers on, int plane) {
    return has(call, BIAS) ? load(call.bias, on.bias, plane) : 0;
}

// The statistics of a plane that are given.
template <typename A> Stats<A> given_stats(constant Call &call, Buffers on, int plane) {
    return {A(load(call.mean, on.mean, plane)), A(load(call.rstd, on.rstd, plane))};
}

// Contracted by name: nothing else is.
inline float apply(Affine<float> by, float x) { return fma(x - by.mean, by.scale, by.shift); }

inline float apply(Gradient<float> by, float x, float g) {
    return fma(g - by.g_mean, by.scale, fma(by.mean - x, by.pull, by.shift));
}

inline void put_share(constant Call &call, Slot slot, device void *to, long i, float value) {
    if (has(call, slot)) ((device float *)to)[i] = value;
}

// Writes a plane's mean, and the statistic that is asked for with it.
inline void put_statistics(constant Call &call, Buffers on, int plane, Stats<float> stats) {
    const float mean = stats.mean.high + stats.mean.rest;
    put_share(call, SHARE_MEAN, on.share_mean, call.shares.mean + plane, mean);
    put_share(call, SHARE_RSTD, on.share_rstd, call.shares.rstd + plane,
              stats.scale_stat(call.spec.stat));
}

// Writes a plane's shares: `sum` is that of g over the plane, `cross` that of g * (x - mean).
template <typename A>
void put_shares(constant Call &call, Buffers on, int plane, Stats<A> stats, A weight, A sum,
                A cross) {
    const A alpha = A(call.spec.alpha), of_weight = alpha * stats.rstd * cross;
    constant Shares &shares = call.shares;
    put_share(call, SHARE_WEIGHT, on.share_weight, shares.weight + plane, float(of_weight));
    put_share(call, SHARE_BIAS, on.share_bias, shares.bias + plane, float(alpha * sum));
    put_share(call, SHARE_MEAN, on.share_mean, shares.mean + plane,
              float(-alpha * stats.rstd * weight * sum));
    put_share(call, SHARE_RSTD, on.share_rstd, shares.rstd + plane, float(alpha * weight * cross));
}
