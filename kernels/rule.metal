// From the statistics of a set to what is done with each element, and to the gradients of the
// parameters. Everything here is computed in f32 on chip, and twofold where planes are in parts.

// What a plane is normalized with. bend = -2 * (d rstd / d biased var) / rstd.
template <typename A> struct Norm {
    Pair<A> mean;
    A var, rstd, bend;

    A second(Second which) const {
        return which == Second::Var ? var : which == Second::Std ? A(1) / rstd : rstd;
    }

    // Its derivative by the biased variance.
    A slope(Second which, A unbiased) const {
        if (which == Second::Var) return unbiased;
        return which == Second::Std ? bend / (A(2) * rstd) : -bend * rstd / A(2);
    }
};

template <typename A> Norm<A> norm_of(constant Rule &rule, Moments<A> m) {
    const A unbiased = A(rule.unbiased), eps = A(rule.eps), var = m.m2 / m.n * unbiased;
    if (rule.mode == EpsMode::AddToStd) {
        const A std = sqrt(var), rstd = A(1) / (std + eps);
        return {m.mean, var, rstd, std == A(0) ? A(0) : unbiased * rstd / std};
    }
    const bool add = rule.mode == EpsMode::AddToVar;
    A guarded = var + eps;
    if (!add) guarded = var < eps ? eps : var;  // NaN stays NaN
    const A rstd = A(1) / sqrt(guarded);
    return {m.mean, var, rstd, add || var > eps ? unbiased * rstd * rstd : A(0)};
}

// Given statistics follow from nothing.
template <typename A> Norm<A> given_norm(constant Call &call, Buffers on, int plane) {
    const A mean = load(call.mean, on.mean, plane), rstd = load(call.rstd, on.rstd, plane);
    return {{mean, A(0)}, A(0), rstd, A(0)};
}

// The factor of a plane: the parameter's, with its offset; 1 where there is none.
inline float weight_of(constant Call &call, Buffers on, int plane) {
    if (!has(call, WEIGHT)) return 1;
    return load(call.weight, on.weight, plane) + call.rule.weight_offset;
}

inline float bias_of(constant Call &call, Buffers on, int plane) {
    return has(call, BIAS) ? load(call.bias, on.bias, plane) : 0;
}

// (x - mean) * scale + shift; what `mean` leaves out of the mean is part of `shift`.
struct Affine {
    float mean, scale, shift;

    float operator()(float x) const { return fma(x - mean, scale, shift); }
};

template <typename A>
Affine affine_of(constant Rule &rule, Norm<A> norm, A weight, A bias) {
    A scale, shift;
    if (rule.of_stats) {
        const A n = A(rule.n);
        scale = weight * norm.slope(rule.second, A(rule.unbiased)) * A(2) / n;
        shift = bias / n;
    } else {
        const A alpha = A(rule.alpha), beside = A(rule.beside_alpha);
        scale = alpha * norm.rstd * weight + beside;
        shift = alpha * bias + beside * (norm.mean.high + norm.mean.rest);
    }
    shift = shift - norm.mean.rest * scale;
    return {float(norm.mean.high), float(scale), float(shift)};
}

// dx = (g - g_mean) * scale - (x - mean) * pull + shift; what the rounded means leave out is part
// of `shift`.
struct Gradient {
    float mean, g_mean, scale, pull, shift;

    float operator()(float x, float g) const {
        return fma(g - g_mean, scale, fma(mean - x, pull, shift));
    }
};

// `excess` is by how much weight * g_mean exceeds the mean of weight * g over the set, and `slope`
// the mean of weight * g * (x - mean) over the set.
template <typename A>
Gradient gradient_of(constant Rule &rule, Norm<A> norm, A weight, A g_mean, A excess, A slope) {
    const A full = A(rule.alpha) * norm.rstd, beside = A(rule.beside_alpha);
    const A scale = full * weight + beside, pull = full * norm.bend * slope;
    const A shift = beside * g_mean + full * excess + pull * norm.mean.rest;
    return {float(norm.mean.high), float(g_mean), float(scale), float(pull), float(shift)};
}

inline void put_share(constant Call &call, Index index, device void *to, int plane, float value) {
    if (has(call, index)) ((device float *)to)[plane] = value;
}

// Writes a plane's shares: `sum` is that of g over the plane, `cross` that of g * (x - mean).
template <typename A>
void put_shares(constant Call &call, Buffers on, int plane, Norm<A> norm, A weight, A sum, A cross) {
    const A alpha = A(call.rule.alpha);
    put_share(call, SHARE_WEIGHT, on.share_weight, plane, float(alpha * norm.rstd * cross));
    put_share(call, SHARE_BIAS, on.share_bias, plane, float(alpha * sum));
    put_share(call, SHARE_MEAN, on.share_mean, plane, float(-norm.rstd * weight * sum));
    put_share(call, SHARE_RSTD, on.share_rstd, plane, float(weight * cross));
}
