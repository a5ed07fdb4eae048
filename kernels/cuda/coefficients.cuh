// From the statistics of a group to what is done with each element, and to the gradients of the
// parameters.
#pragma once
#include "moments.cuh"
#include "../shared/coefficients.h"

// The derivative of a statistic by the biased variance.
template <typename A> __device__ A slope_of(const Stats<A> &stats, ScaleStat which, A bessel) {
    if (which == ScaleStat::Var) return bessel;
    if (which == ScaleStat::Std) return stats.rstd_slope * inverse(2 * stats.rstd);
    return -stats.rstd_slope * stats.rstd / 2;
}

// The factor of a plane: the parameter's, with its offset; 1 where there is none.
template <typename T, typename A> __device__ A weight_of(const Call &call, const Plane &plane) {
    if (call.weight.origin == nullptr) return 1;
    return A(load<T>(call.weight, call.shape, plane, 1)) + A(call.spec.weight_offset);
}

// The statistics of a plane that are given.
template <typename T, typename A> __device__ Stats<A> given_stats(const Call &call, const Plane &plane) {
    return {load<T>(call.mean, call.shape, plane, 0), load<T>(call.rstd, call.shape, plane, 1)};
}

template <typename T, typename A>
__device__ Affine<A> affine_of(const Call &call, const Plane &plane, const Stats<A> &stats) {
    return {call.spec, stats, weight_of<T, A>(call, plane), load<T>(call.bias, call.shape, plane, 0)};
}

__device__ bool wants_shares(const Shares &shares) {
    return shares.weight || shares.bias || shares.mean || shares.rstd;
}

// Writes a plane's mean, and the statistic that is asked for with it.
template <typename T, typename A>
__device__ void put_statistics(const Call &call, int plane, const Stats<A> &stats) {
    static_cast<Acc<T> *>(call.shares.mean)[plane] = stats.mean.high + stats.mean.rest;
    static_cast<Acc<T> *>(call.shares.rstd)[plane] = stats.scale_stat(call.spec.stat);
}

// Writes a plane's shares: `sum` is that of g over the plane, `cross` that of g * (x - mean).
template <typename T, typename A>
__device__ void put_shares(const Call &call, int plane, const Stats<A> &stats, A weight, A sum,
                           A cross) {
    const auto put = [&](void *to, A value) {
        if (to != nullptr) static_cast<Acc<T> *>(to)[plane] = Acc<T>(value);
    };
    // In this order, which takes the fewest registers.
    sum = sum * A(call.spec.alpha);
    cross = cross * A(call.spec.alpha);
    put(call.shares.bias, sum);
    put(call.shares.rstd, weight * cross);
    put(call.shares.mean, -stats.rstd * weight * sum);
    put(call.shares.weight, stats.rstd * cross);
}
