// From the statistics of a set to what is done with each element, and to the gradients of the
// parameters. Everything here is computed in A on chip, and in f64 where planes are split.
#pragma once
#include "call.cuh"
#include "moments.cuh"

// 0 of 0: a plane without any deviation, and no eps, is normalized to its bias.
template <typename A> __device__ A inverse(A v) { return v == 0 ? v : 1 / v; }

// What a plane is normalized with. bend = -2 * (d rstd / d biased var) / rstd.
template <typename A> struct Norm {
    Pair<A> mean;
    A var, rstd, bend;

    __device__ Norm(const Rule &rule, const Moments<A> &m)
        : mean(m.mean), var(m.m2 / m.n * A(rule.unbiased)) {
        const A unbiased = A(rule.unbiased), eps = A(rule.eps);
        if (rule.mode == EpsMode::AddToStd) {
            const A std = sqrt(var);
            rstd = inverse(std + eps);
            bend = std == 0 ? 0 : unbiased * rstd / std;
        } else {
            const bool add = rule.mode == EpsMode::AddToVar;
            rstd = inverse(sqrt(add ? var + eps : var < eps ? eps : var));  // NaN stays NaN
            bend = add || var > eps ? unbiased * rstd * rstd : 0;
        }
    }

    // Given statistics follow from nothing.
    __device__ Norm(A mean, A rstd) : mean{mean, 0}, var(0), rstd(rstd), bend(0) {}

    __device__ A second(Second which) const {
        return which == Second::Var ? var : which == Second::Std ? inverse(rstd) : rstd;
    }

    // Its derivative by the biased variance.
    __device__ A slope(Second which, A unbiased) const {
        if (which == Second::Var) return unbiased;
        return which == Second::Std ? bend * inverse(2 * rstd) : -bend * rstd / 2;
    }
};

// The factor of a plane: the parameter's, with its offset; 1 where there is none.
template <typename T, typename A> __device__ A weight_of(const Call &call, int plane) {
    if (call.weight.data == nullptr) return 1;
    return A(load<T>(call.weight, plane, 1)) + A(call.rule.weight_offset);
}

// (x - mean) * scale + shift; what `mean` leaves out of the mean is part of `shift`.
template <typename A> struct Affine {
    A mean, scale, shift;

    Affine() = default;

    __device__ Affine(const Rule &rule, const Norm<A> &norm, A weight, A bias)
        : mean(norm.mean.high) {
        if (rule.of_stats) {
            const A n = A(rule.n);
            scale = weight * norm.slope(rule.second, A(rule.unbiased)) * 2 / n;
            shift = bias / n;
        } else {
            const A alpha = A(rule.alpha), beside = A(rule.beside_alpha);
            scale = alpha * norm.rstd * weight + beside;
            shift = alpha * bias + beside * (norm.mean.high + norm.mean.rest);
        }
        shift -= norm.mean.rest * scale;
    }

    __device__ A operator()(A x) const { return (x - mean) * scale + shift; }

    template <typename B> __device__ operator Affine<B>() const {
        Affine<B> out;
        out.mean = mean, out.scale = scale, out.shift = shift;
        return out;
    }
};

// dx = (g - g_mean) * scale - (x - mean) * pull + shift; what the rounded means leave out is part
// of `shift`.
template <typename A> struct Gradient {
    A mean, g_mean, scale, pull, shift;

    Gradient() = default;

    // `excess` is by how much weight * g_mean exceeds the mean of weight * g over the set, and
    // `slope` the mean of weight * g * (x - mean) over the set.
    __device__ Gradient(const Rule &rule, const Norm<A> &norm, A weight, A g_mean, A excess, A slope)
        : mean(norm.mean.high), g_mean(g_mean) {
        const A full = A(rule.alpha) * norm.rstd, beside = A(rule.beside_alpha);
        scale = full * weight + beside;
        pull = full * norm.bend * slope;
        shift = beside * g_mean + full * excess + pull * norm.mean.rest;
    }

    __device__ A operator()(A x, A g) const {
        return (g - g_mean) * scale - (x - mean) * pull + shift;
    }

    template <typename B> __device__ operator Gradient<B>() const {
        Gradient<B> out;
        out.mean = mean, out.g_mean = g_mean;
        out.scale = scale, out.pull = pull, out.shift = shift;
        return out;
    }
};

// Writes a plane's mean, and the second statistic that is asked for.
template <typename T, typename A>
__device__ void put_statistics(const Call &call, int plane, const Norm<A> &norm) {
    static_cast<Acc<T> *>(call.shares.mean)[plane] = norm.mean.high + norm.mean.rest;
    static_cast<Acc<T> *>(call.shares.rstd)[plane] = norm.second(call.rule.second);
}

// Writes a plane's shares: `sum` is that of g over the plane, `cross` that of g * (x - mean).
template <typename T, typename A>
__device__ void put_shares(const Call &call, int plane, const Norm<A> &norm, A weight, A sum, A cross) {
    const auto put = [&](void *to, A value) {
        if (to != nullptr) static_cast<Acc<T> *>(to)[plane] = value;
    };
    const A alpha = A(call.rule.alpha);
    put(call.shares.weight, alpha * norm.rstd * cross);
    put(call.shares.bias, alpha * sum);
    put(call.shares.mean, -norm.rstd * weight * sum);
    put(call.shares.rstd, weight * cross);
}
