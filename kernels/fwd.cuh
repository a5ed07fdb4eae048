// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of some lanes, a block or a cluster, and written once. Without a y, the
// statistics alone.
#pragma once
#include "sets.cuh"

// The parameters of a plane, which are asked for before x has come, and what they make of a norm.
struct OfOnePlane {
    const Call &call;
    A weight, bias;

    __device__ OfOnePlane(const Call &call, int plane)
        : call(call), weight(weight_of<T, A>(call, plane)), bias(load<T>(call.bias, plane, 0)) {}

    __device__ auto affines(const Norm<A> &norm) const {
        const OfPlane<Affine<A>> affine{{call.rule, norm, weight, bias}};
        return [=](const auto &) { return affine; };
    }
};

// The same of the planes of a set, at each place that of its plane.
struct OfEachPlane {
    OfSet set;

    __device__ OfEachPlane(const Call &call, int plane) : set(call, plane) {}

    __device__ auto affines(const Norm<A> &norm) const {
        return [&](const auto &place) { return set.affine(norm, set.plane(place)); };
    }
};

// The statistics of a plane: those that are given, or its own. All threads of a team call this.
template <typename Team, typename H, typename X>
__device__ Norm<A> norm_of(const Call &call, int plane, const Team &team, const H &held, const X &x) {
    if (call.mean.data != nullptr) return {load<T>(call.mean, plane, 0), load<T>(call.rstd, plane, 1)};
    return {call.rule, measure<0>(team, held, A(held.run.size), x)};
}

template <typename Team, int N, typename Of> __device__ void forward(const Call &call, int group) {
    const Team team;
    const int plane = team.plane * group;
    const bool exists = team.exists(call.shape.planes);
    const T *from = at<T>(call.x, call.shape, plane);
    T *to = at<T>(call.out, call.shape, plane);
    const auto held = held_of<N>(from, exists ? group * (int)call.shape.spatial : 0, team);
    const auto x = held.load(from);
    const Of of(call, plane);
    team.await_start();
    const Norm<A> norm = norm_of(call, plane, team, held, x);
    if (to == nullptr) {
        if (team.first == 0 && exists) put_statistics<T>(call, plane, norm);
        return;
    }
    const auto affine = of.affines(norm);
    const Beside<T> beside(call, plane);
    held.store(to, held.map([&](auto k, const auto &place) {
        return output(x[k], affine(place), call.rule, beside, place);
    }));
}
