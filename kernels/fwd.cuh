// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of a warp, a block or a cluster, and written once.
#pragma once
#include "tiers.cuh"

using T = ELEMENT;

// What each element of a vector is computed with: one plane's coefficients ...
struct OfPlanes {
    OfPlane<Affine<Acc<T>>> affine;

    __device__ OfPlanes(const Call &call, int plane, const Norm<Acc<T>> &norm)
        : affine{{call.rule, norm, weight_of<T, Acc<T>>(call, plane),
                  load<T>(call.bias, plane, 0)}} {}

    template <int L> __device__ Vector<T, L> output(const Vector<T, L> &x, const Call &call,
                                                    const Beside<T> &beside,
                                                    const Place<L> &place) const {
        return ::output(x, affine, call.rule, beside, place);
    }
};

// ... or those of the plane that it is in, of a set of planes that share the statistics alone. Each
// is some whole vectors.
struct OfSets {
    using A = Acc<T>;

    const Norm<A> &norm;
    int weight, bias;  // the numbers of the set's first plane: a period has whole sets

    __device__ OfSets(const Call &call, int plane, const Norm<A> &norm)
        : norm(norm), weight(call.weight.data ? plane % call.weight.period : 0),
          bias(call.bias.data ? plane % call.bias.period : 0) {}

    __device__ Affine<A> affine(const Call &call, int plane) const {
        A by = number<T>(call.weight, weight + plane, 1);
        if (call.weight.data != nullptr) by += A(call.rule.weight_offset);
        return {call.rule, norm, by, number<T>(call.bias, bias + plane, 0)};
    }

    template <int L> __device__ Vector<T, L> output(const Vector<T, L> &x, const Call &call,
                                                    const Beside<T> &beside,
                                                    const Place<L> &place) const {
        const unsigned plane = (unsigned)place.offset / (unsigned)call.shape.spatial;
        return ::output(x, OfPlane<Affine<A>>{affine(call, plane)}, call.rule, beside, place);
    }
};

template <Tier TIER, int N, typename Of> __device__ void forward(const Call &call, int group) {
    const Team<TIER> team;
    if (TIER == Tier::Warp && team.plane >= call.shape.planes) return;  // blocks are as many as planes
    const int plane = team.plane * group;
    const T *from = at<T>(call.x, call.shape, plane);
    T *to = at<T>(call.out, call.shape, plane);
    const auto held = held_of<T, N>(from, group * (int)call.shape.spatial, team);
    const auto x = held.load(from);
    team.await_start();
    const Norm<Acc<T>> norm(call.rule, measure<0>(team, held, x));
    const Of of(call, plane, norm);
    const Beside<T> beside(call, plane);
    held.store(to, held.map([&](auto k, const auto &place) {
        return of.output(x[k], call, beside, place);
    }));
}

