// The gradients of planes that fit on chip: x, dy and what goes with them are read once, dx (and
// the gradients per element) written once. Nothing is saved by the forward pass: one sweep over x
// and the gradient gives the moments of x with all else that dx needs. Where an activation has to
// be recomputed, the moments of x come first.
#include "tiers.cuh"

using T = ELEMENT;

template <typename Team, int N> __device__ void backward(const Call &call) {
    using A = Acc<T>;
    const Team team;
    const bool exists = team.exists(call.shape.planes);
    const Plane plane(call.shape, exists ? team.plane : 0);
    const A weight = weight_of<T, A>(call, plane);
    const T *from = at<T>(call.x, plane);
    const T *from_dy = at<T>(call.dy, plane);
    auto fragment = fragment_of<N, GRADIENT_ROWS<T>>(from, exists ? (int)call.shape.spatial : 0, team);
    const A n = fragment.run.size;
    const auto x = fragment.load(from);
    const auto dy = fragment.load_other(from_dy);
    team.await_start();
    const PerElement<T> per_element(call, plane);
    OfPlane<Affine<A>> affine{};
    if (per_element.recomputes()) {
        const Stats<A> stats(call.spec, measure<0>(team, fragment, n, x));
        affine = {{call.spec, stats, weight, load<T>(call.bias, call.shape, plane, 0)}};
    }
    const auto g = pulled_back(fragment, dy, [&](auto k, const auto &place) {
        return normalized_grad(x[k], dy[k], affine, call.spec, per_element, place);
    });
    const auto m = measure<2>(team, fragment, n, x, g);
    const Stats<A> stats(call.spec, m.x);
    if (team.first == 0 && exists) {
        const A sum = m.x.n * m.g.high + m.x.n * m.g.rest;
        put_shares<T>(call, plane.index, stats, weight, sum, m.cross);
    }
    T *to = at<T>(call.out, plane);
    if (to == nullptr) return;
    // weight * g_mean, less the same with all its digits: nothing to cancel in A.
    const A excess = -weight * m.g.rest, slope = weight * (m.cross * (1 / n));
    const OfPlane<Gradient<A>> gradient{{call.spec, stats, weight, m.g.high, excess, slope}};
    fragment.forget();
    fragment.write(to, [&](auto k, const auto &) { return input_gradient(x[k], g[k], gradient); });
}

#define BACKWARD(NAME, THREADS, N, ...)                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, (blocks_of_two<N, __VA_ARGS__>(THREADS)))       \
        in_bwd_##NAME##N(Call call) {                                                              \
        backward<Team<__VA_ARGS__>, N>(call);                                                      \
    }
#define LANES(L, N) BACKWARD(lanes##L##x, WARP *WARPS_PER_BLOCK, N, Tier::Lanes, L)

LANES(4, 1)
LANES(4, 2)
LANES(4, 4)
LANES(8, 4)
LANES(16, 4)
LANES(32, 4)
BACKWARD(block, MAX_THREADS, 1, Tier::Block)
BACKWARD(block, MAX_THREADS, 2, Tier::Block)
BACKWARD(block, MAX_THREADS, 4, Tier::Block)
BACKWARD(block, MANY_VECTORS_THREADS, 8, Tier::Block)
BACKWARD(shared, MAX_THREADS, 4, Tier::Shared)
#if __CUDA_ARCH__ >= 900
BACKWARD(cluster, MAX_THREADS, 4, Tier::Cluster)
#endif
