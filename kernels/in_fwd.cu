// The forward pass of planes that fit on chip.
#include "fwd.cuh"

#define FORWARD(TIER, NAME, THREADS, N)                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_LEAST)                         \
        in_fwd_##NAME##N(Call call) {                                                              \
        forward<Tier::TIER, N, OfPlanes>(call, 1);                                                 \
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
