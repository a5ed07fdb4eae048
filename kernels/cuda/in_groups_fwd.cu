// The forward pass of groups of planes that fit on chip.
#include "fwd.cuh"

#define FORWARD(TIER, NAME, N)                                                                     \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS, blocks_at_least(MAX_THREADS))        \
        in_groups_fwd_##NAME##N(Call call) {                                                       \
        forward<Team<Tier::TIER>, N, EachPlaneParams>(call, call.shape.channels_per_group);        \
    }

FORWARD(Block, block, 8)
FORWARD(Shared, shared, 8)
#if __CUDA_ARCH__ >= 900
FORWARD(Cluster, cluster, 8)
#endif
