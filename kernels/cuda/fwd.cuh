// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into what some lanes, a block or a cluster have on chip, and written once. Without a y, the
// statistics alone.
#pragma once
#include "groups.cuh"

// The parameters of a plane, which are asked for before x has come, and its coefficients.
struct PlaneParams {
    const Call &call;
    A weight, bias;

    __device__ PlaneParams(const Call &call, const Plane &plane)
        : call(call), weight(weight_of<T, A>(call, plane)),
          bias(load<T>(call.bias, call.shape, plane, 0)) {}

    template <int N, typename Team>
    static __device__ auto fragment(const T *x, int size, const Team &team) {
        return fragment_of<N>(x, size, team);
    }

    __device__ auto affines(const Stats<A> &stats) const {
        const OfPlane<Affine<A>> affine{{call.spec, stats, weight, bias}};
        return [=](const auto &) { return affine; };
    }
};

// The parameters of the planes of a group: at each place those of its plane.
struct EachPlaneParams {
    GroupParams group;

    __device__ EachPlaneParams(const Call &call, const Plane &plane) : group(call, plane) {}

    template <int N, typename Team>
    static __device__ FragmentOf<Team, T, N> fragment(const T *, int size, const Team &team) {
        return {Run<T>((unsigned)size / PER_VECTOR<T>), team.first, team.step, {-1}};
    }

    __device__ auto affines(const Stats<A> &stats) const {
        return [&](const auto &place) { return group.affine(stats, group.plane(place)); };
    }
};

// The statistics of a plane: those that are given, or its own. All threads of a team call this.
template <typename Team, typename H, typename X>
__device__ Stats<A> stats_of_plane(const Call &call, const Plane &plane, const Team &team, const H &fragment,
                                   const X &x) {
    if (call.mean.origin != nullptr) return given_stats<T, A>(call, plane);
    return {call.spec, measure<0>(team, fragment, A(fragment.run.size), x)};
}

template <typename Team, int N, typename Of> __device__ void forward(const Call &call, int group) {
    const Team team;
    const bool exists = team.exists(call.shape.planes);
    const Plane plane(call.shape, exists ? team.plane * group : 0);
    const T *from = at<T>(call.x, plane);
    const int size = exists ? group * (int)call.shape.spatial : 0;
    auto fragment = Of::template fragment<N>(from, size, team);
    const auto x = fragment.load(from);
    const Of of(call, plane);
    team.await_start();
    const Stats<A> stats = stats_of_plane(call, plane, team, fragment, x);
    T *to = at<T>(call.out, plane);
    if (to == nullptr) {
        if (team.first == 0 && exists) put_statistics<T>(call, plane.index, stats);
        return;
    }
    const auto affine = of.affines(stats);
    const PerElement<T> per_element(call, plane);
    fragment.forget();
    fragment.write(to, [&](auto k, const auto &place) {
        return output(x[k], affine(place), call.spec, per_element, place);
    });
}
