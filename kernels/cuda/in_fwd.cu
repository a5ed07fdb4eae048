// The forward pass of planes that fit on chip.
#include "fwd.cuh"

#define FORWARD(NAME, THREADS, N, ...)                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, blocks_at_least(THREADS))                \
        in_fwd_##NAME##N(Call call) {                                                              \
        forward<Team<__VA_ARGS__>, N, PlaneParams>(call, 1);                                       \
    }
#define LANES(L, N) FORWARD(lanes##L##x, WARP *WARPS_PER_BLOCK, N, Tier::Lanes, L)

LANES(4, 1)
LANES(4, 2)
LANES(4, 4)
LANES(8, 4)
LANES(16, 4)
LANES(32, 4)
LANES(32, 8)
FORWARD(block, MAX_THREADS, 2, Tier::Block)
FORWARD(block, MAX_THREADS, 4, Tier::Block)
FORWARD(block, MAX_THREADS, 8, Tier::Block)
FORWARD(shared, MAX_THREADS, 8, Tier::Shared)
#if __CUDA_ARCH__ >= 900
FORWARD(cluster, MAX_THREADS, 8, Tier::Cluster)
#endif
