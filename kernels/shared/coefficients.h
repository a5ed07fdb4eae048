// From the statistics of a group to what is done with each element.

// A plane without any deviation and no eps is normalized to its bias: 0 instead of 0 of 0. Here and below,
// A(..) of what is an A makes values of references, which Metal has of several address spaces.
template <typename A> FN A inverse(A v) { return v == A(0) ? A(v) : A(1) / v; }

// The statistics that normalize a plane. rstd_slope = -2 * (d rstd / d biased var) / rstd, which is rstd^2
// where eps is added to the variance and there is no correction.
template <typename A> struct Stats {
    Pair<A> mean;
    A var, rstd, rstd_slope;

    Stats() = default;

    FN Stats(CONSTANT Spec &spec, IN(Moments<A>) m)
        : mean(m.mean), var(m.m2 / m.n * A(spec.bessel)) {
        const A bessel = A(spec.bessel), eps = A(spec.eps);
        if (spec.mode == EpsMode::AddToStd) {
            const A std = sqrt(var);
            rstd = inverse(std + eps);
            rstd_slope = std == A(0) ? A(0) : bessel * rstd / std;
        } else {
            const bool add = spec.mode == EpsMode::AddToVar;
            rstd = inverse(sqrt(add ? var + eps : var < eps ? A(eps) : A(var)));  // NaN stays NaN
            rstd_slope = add || var > eps ? bessel * rstd * rstd : A(0);
        }
    }

    // Given statistics, from which nothing follows.
    FN Stats(A mean, A rstd) : mean{mean, A(0)}, var(0), rstd(rstd), rstd_slope(0) {}

    FN A scale_stat(ScaleStat which) const {
        return which == ScaleStat::Var ? A(var) : which == ScaleStat::Std ? inverse(rstd) : A(rstd);
    }
};

// (x - mean) * scale + shift; what `mean` leaves out of the mean is part of `shift`.
template <typename A> struct Affine {
    A mean, scale, shift;

    Affine() = default;

    FN Affine(CONSTANT Spec &spec, IN(Stats<A>) stats, A weight, A bias) : mean(stats.mean.high) {
        if (spec.stats_gradient) {
            const A n = A(spec.n);
            scale = weight * slope_of(stats, spec.stat, A(spec.bessel)) * A(2) / n;
            shift = bias / n;
        } else {
            const A alpha = A(spec.alpha), of_x = A(spec.one_minus_alpha);
            scale = alpha * stats.rstd * weight + of_x;
            shift = alpha * bias + of_x * (stats.mean.high + stats.mean.rest);
        }
        shift = shift - stats.mean.rest * scale;
    }

    // In a type of fewer digits.
    template <typename B> FN operator Affine<B>() const {
        Affine<B> out;
        out.mean = B(mean), out.scale = B(scale), out.shift = B(shift);
        return out;
    }
};

// dx = (g - g_mean) * scale - (x - mean) * pull + shift; what the rounded means leave out is part
// of `shift`.
template <typename A> struct Gradient {
    A mean, g_mean, scale, pull, shift;

    Gradient() = default;

    // `excess` is by how much weight * g_mean exceeds the mean of weight * g over the group, and
    // `slope` the mean of weight * g * (x - mean) over the group.
    FN Gradient(CONSTANT Spec &spec, IN(Stats<A>) stats, A weight, A g_mean, A excess, A slope)
        : mean(stats.mean.high), g_mean(g_mean) {
        const A full = A(spec.alpha) * stats.rstd, of_x = A(spec.one_minus_alpha);
        scale = full * weight + of_x;
        pull = full * stats.rstd_slope * slope;
        shift = of_x * g_mean + full * excess + pull * stats.mean.rest;
    }

    template <typename B> FN operator Gradient<B>() const {
        Gradient<B> out;
        out.mean = B(mean), out.g_mean = B(g_mean);
        out.scale = B(scale), out.pull = B(pull), out.shift = B(shift);
        return out;
    }
};
