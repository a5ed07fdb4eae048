// The gradients of planes that fit on chip: x, dy and what goes with them are read once, dx (and
// the gradients per element) written once. Nothing is saved by the forward pass: one sweep over x
// and the gradient gives the moments of x with all else that dx needs. Where an activation has to
// be recomputed, the moments of x come first.
#include "tiers.cuh"

using T = ELEMENT;

template <Tier TIER, int N> __device__ void backward(const Call &call) {
    using A = Acc<T>;
    const Team<TIER> team;
    if (TIER == Tier::Warp && team.plane >= call.shape.planes) return;  // blocks are as many as planes
    const A weight = weight_of<T, A>(call, team.plane);
    const T *from = at<T>(call.x, call.shape, team.plane);
    const T *from_dy = at<T>(call.dy, call.shape, team.plane);
    const Held<T, N> held{Window<T>::at(from, call.shape.spatial), team.first, team.step};

    Vector<T> x[N] = {}, dy[N] = {};
    held.each([&](int k, const Site<T> &site) {
        x[k] = load(from, site);
        dy[k] = load(from_dy, site);
    });
    const Beside<T> beside(call, team.plane);
    OfPlane<Affine<A>> affine{};
    if (beside.recomputes()) {
        const Norm<A> norm(call.rule, team.merged(measure(held, x)));
        affine = {{call.rule, norm, weight, load<T>(call.bias, team.plane, 0)}};
    }
    Upstream<T> g[N] = {};
    held.each([&](int k, const Site<T> &site) {
        g[k] = upstream(x[k], dy[k], affine, call.rule, beside, site);
    });

    const auto m = team.merged(measure(held, x, g));
    const Norm<A> norm(call.rule, m.x);
    if (team.first == 0) {
        const A sum = m.x.n * m.g.high + m.x.n * m.g.rest;
        share<T>(call, team.plane, norm, weight, sum, m.cross);
    }
    T *to = at<T>(call.out, call.shape, team.plane);
    if (to == nullptr) return;
    // weight * g_mean, less the same with all its digits: nothing to cancel in A.
    const A excess = -weight * m.g.rest, slope = weight * (m.cross / m.x.n);
    const OfPlane<Gradient<A>> gradient{{call.rule, norm, weight, m.g.high, excess, slope}};
    held.each([&](int k, const Site<T> &site) {
        store(to, site, input_gradient(x[k], g[k], gradient));
    });
}

#define BACKWARD(TIER, NAME, THREADS, N)                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS) in_bwd_##NAME##N(Call call) {            \
        backward<Tier::TIER, N>(call);                                                             \
    }

BACKWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 1)
BACKWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 2)
BACKWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 4)
BACKWARD(Block, block, MAX_THREADS, 1)
BACKWARD(Block, block, MAX_THREADS, 2)
BACKWARD(Block, block, MAX_THREADS, 4)
