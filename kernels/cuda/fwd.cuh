// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of some lanes, a block or a cluster, and written once. Without a y, the
// statistics alone.
#pragma once
#include "groups.cuh"

// The parameters of a plane, which are asked for before x has come, and its coefficients.
struct PlaneParams {
    const Call &call;
    A weight, bias;

    __device__ PlaneParams(const Call &call, int plane)
        : call(call), weight(weight_of<T, A>(call, plane)), bias(load<T>(call.bias, plane, 0)) {}

    __device__ auto affines(const Stats<A> &stats) const {
        const OfPlane<Affine<A>> affine{{call.spec, stats, weight, bias}};
        return [=](const auto &) { return affine; };
    }
};

// The parameters of the planes of a group: at each place those of its plane.
struct EachPlaneParams {
    GroupParams group;

    __device__ EachPlaneParams(const Call &call, int plane) : group(call, plane) {}

    __device__ auto affines(const Stats<A> &stats) const {
        return [&](const auto &place) { return group.affine(stats, group.plane(place)); };
    }
};

// The statistics of a plane: those that are given, or its own. All threads of a team call this.
template <typename Team, typename H, typename X>
__device__ Stats<A> stats_of_plane(const Call &call, int plane, const Team &team, const H &fragment,
                                   const X &x) {
    if (call.mean.origin != nullptr) return given_stats<T, A>(call, plane);
    return {call.spec, measure<0>(team, fragment, A(fragment.run.size), x)};
}

template <typename Team, int N, typename Of> __device__ void forward(const Call &call, int group) {
    const Team team;
    const int plane = team.plane * group;
    const bool exists = team.exists(call.shape.planes);
    const T *from = at<T>(call.x, call.shape, plane);
    T *to = at<T>(call.out, call.shape, plane);
    const auto fragment = fragment_of<N>(from, exists ? group * (int)call.shape.spatial : 0, team);
    const auto x = fragment.load(from);
    const Of of(call, plane);
    team.await_start();
    const Stats<A> stats = stats_of_plane(call, plane, team, fragment, x);
    if (to == nullptr) {
        if (team.first == 0 && exists) put_statistics<T>(call, plane, stats);
        return;
    }
    const auto affine = of.affines(stats);
    const PerElement<T> per_element(call, plane);
    fragment.store(to, fragment.map([&](auto k, const auto &place) {
        return output(x[k], affine(place), call.spec, per_element, place);
    }));
}
