// AdaIN of planes that fit on chip: each plane of the content with the mean and the deviation of its plane of
// the style, by threads that ask for all of both before they wait for any of it. PLAIN alone.
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;

// A plane of a call on chip.
template <typename Team, int N> struct Held {
    const Spec &spec;
    decltype(fragment_of<N>((const T *)nullptr, 0, Team())) fragment;
    typename decltype(fragment)::X x;
    A n, inverse;

    // Nothing where the team has no plane.
    __device__ Held(const Call &call, const Plane &plane, const Team &team, bool exists)
        : spec(call.spec),
          fragment(fragment_of<N>(at<T>(call.x, plane), exists ? (int)call.shape.spatial : 0, team)),
          x(fragment.load(at<T>(call.x, plane))), n(fragment.run.size), inverse(1 / n) {}

    __device__ A share_of_mean() const {
        A share = 0;
        fragment.values(0, [&](A x) { share += x * inverse; }, x);
        return share;
    }

    // Adds to the sums of d = x - mean and of d^2.
    __device__ void add_deviations(A mean, A &sum, A &square) const {
        const auto add = [&](A x) {
            const A d = x - mean;
            sum += d;
            square += d * d;
        };
        fragment.values(0, add, x);
    }

    __device__ Stats<A> stats(A mean, A sum, A square) const {
        const A rest = sum * inverse;
        return {spec, Moments<A>{n, {mean, rest}, not_below_0(square - sum * rest)}};
    }
};

// As `measure` of tiers.cuh, with the sums of both planes at once.
template <typename Team, int N> __device__ void adain(const Call &call, const Call &of_style) {
    const Team team;
    const bool exists = team.exists(call.shape.planes);
    const Plane plane(call.shape, exists ? team.plane : 0);
    // There may be one style for all samples.
    const int place = of_style.shape.planes == call.shape.planes ? plane.index : plane.c;
    Held<Team, N> content(call, plane, team, exists);
    const Held<Team, N> style(of_style, {of_style.shape, place}, team, exists);
    team.await_start();
    A means[2] = {content.share_of_mean(), style.share_of_mean()};
    team.template sum<0>(means);
    A sums[4] = {};
    content.add_deviations(means[0], sums[0], sums[1]);
    style.add_deviations(means[1], sums[2], sums[3]);
    team.template sum<1>(sums);
    const Stats<A> by = style.stats(means[1], sums[2], sums[3]);
    const A weight = by.scale_stat(of_style.spec.stat), bias = by.mean.high + by.mean.rest;
    // No slope is asked for, as the compiler sees here.
    Spec spec = call.spec;
    spec.stats_gradient = 0;
    const OfPlane<Affine<A>> affine{{spec, content.stats(means[0], sums[0], sums[1]), weight, bias}};
    const PerElement<T> per_element(call, plane);
    content.fragment.forget();
    content.fragment.write(at<T>(call.out, plane), [&](auto k, const auto &place) {
        return output(content.x[k], affine, call.spec, per_element, place);
    });
}

#define ADAIN(NAME, THREADS, N, ...)                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, (blocks_of_two<N, __VA_ARGS__>(THREADS)))       \
        in_adain_##NAME##N(Call call, Call of_style) {                                             \
        adain<Team<__VA_ARGS__>, N>(call, of_style);                                               \
    }
#define LANES(L, N) ADAIN(lanes##L##x, WARP *WARPS_PER_BLOCK, N, Tier::Lanes, L)

LANES(4, 1)
LANES(4, 2)
LANES(4, 4)
LANES(8, 4)
LANES(16, 4)
LANES(32, 4)
ADAIN(block, MAX_THREADS, 1, Tier::Block)
ADAIN(block, MAX_THREADS, 2, Tier::Block)
ADAIN(block, MAX_THREADS, 4, Tier::Block)
#if __CUDA_ARCH__ >= 900
ADAIN(cluster, MAX_THREADS, 4, Tier::Cluster)
#endif
