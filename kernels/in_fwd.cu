// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of a warp, a block or a cluster, and written once.
#include "tiers.cuh"

using T = ELEMENT;

template <Tier TIER, int N> __device__ void forward(const Call &call) {
    using A = Acc<T>;
    const Team<TIER> team;
    if (TIER == Tier::Warp && team.plane >= call.shape.planes) return;  // blocks are as many as planes
    const A weight = weight_of<T, A>(call, team.plane), bias = load<T>(call.bias, team.plane, 0);
    const T *from = at<T>(call.x, call.shape, team.plane);
    T *to = at<T>(call.out, call.shape, team.plane);
    const auto held = held_of<T, N>(from, call.shape, team);
    const auto x = held.load(from);
    team.await_start();
    const Norm<A> norm(call.rule, measure<0>(team, held, x));
    const OfPlane<Affine<A>> affine{{call.rule, norm, weight, bias}};
    const Beside<T> beside(call, team.plane);
    held.store(to, held.map([&](auto k, const auto &place) {
        return output(x[k], affine, call.rule, beside, place);
    }));
}

#define FORWARD(TIER, NAME, THREADS, N)                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_LEAST)                         \
        in_fwd_##NAME##N(Call call) {                                                              \
        forward<Tier::TIER, N>(call);                                                              \
    }

FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 1)
FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 2)
FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 4)
FORWARD(Warp, warp, WARP *WARPS_PER_BLOCK, 8)
FORWARD(Block, block, MAX_THREADS, 2)
FORWARD(Block, block, MAX_THREADS, 4)
FORWARD(Block, block, MAX_THREADS, 8)

#if __CUDA_ARCH__ >= 900
FORWARD(Cluster, cluster, MAX_THREADS, 8)
#endif
