// Kernels with a planted defect each, and the same without it: NAME and NAME_fixed. The lines that
// the emulator must name end in a comment with the defect's name. The test runs defects.ptx, which
//
//   nvcc -ptx -std=c++17 -O3 -lineinfo -arch=compute_90 defects.cu
//
// wrote; where there is an nvcc, the test also compiles this file and runs what comes out.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

constexpr int THREADS = 128;

#define BOTH(NAME, ...)                                                                            \
    extern "C" __global__ void NAME(const float *x, float *y, int n) { NAME##_body<true>(x, y, n); } \
    extern "C" __global__ void NAME##_fixed(const float *x, float *y, int n) {                     \
        NAME##_body<false>(x, y, n);                                                               \
    }

// y = x reversed within each block.
template <bool DEFECT> __device__ void missing_barrier_body(const float *x, float *y, int n) {
    __shared__ float tile[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    tile[t] = x[i];  // missing_barrier
    if (!DEFECT) __syncthreads();
    y[i] = tile[THREADS - 1 - t];  // missing_barrier
}
BOTH(missing_barrier)

// y = the sum of each warp's x.
template <bool DEFECT> __device__ void missing_shuffle_step_body(const float *x, float *y, int n) {
    const int i = blockIdx.x * THREADS + threadIdx.x;
    float sum = x[i];
    for (int step = 16; step > (DEFECT ? 1 : 0); step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    y[i] = sum;  // missing_shuffle_step
}
BOTH(missing_shuffle_step)

// y = x of the next lane.
template <bool DEFECT> __device__ void wrong_mask_body(const float *x, float *y, int n) {
    const int i = blockIdx.x * THREADS + threadIdx.x;
    y[i] = __shfl_down_sync(DEFECT ? 0xffffu : ~0u, x[i], 1);  // wrong_mask
}
BOTH(wrong_mask)

// y = 2 x.
template <bool DEFECT> __device__ void out_of_bounds_body(const float *x, float *y, int n) {
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n + DEFECT) y[i] = 2 * x[min(i, n - 1)];  // out_of_bounds
}
BOTH(out_of_bounds)

// y = x of the left neighbour in the block.
template <bool DEFECT> __device__ void divergent_barrier_body(const float *x, float *y, int n) {
    __shared__ float tile[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    tile[t] = x[i];
    if (!DEFECT || t % 2) __syncthreads();  // divergent_barrier
    const float left = tile[t ? t - 1 : 0];
    __syncthreads();  // divergent_barrier
    y[i] = left;
}
BOTH(divergent_barrier)

// y = x of the right neighbour in the block.
template <bool DEFECT> __device__ void shared_overrun_body(const float *x, float *y, int n) {
    __shared__ float tile[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    tile[t] = x[i];
    __syncthreads();
    y[i] = tile[DEFECT ? t + 1 : min(t + 1, THREADS - 1)];  // shared_overrun
}
BOTH(shared_overrun)

// y = x of the same thread in the other block of the cluster.
template <bool DEFECT> __device__ void block_barrier_body(const float *x, float *y, int n) {
    __shared__ float tile[THREADS];
    auto cluster = cg::this_cluster();
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    tile[t] = x[i];  // block_barrier
    if (DEFECT) __syncthreads(); else cluster.sync();
    y[i] = cluster.map_shared_rank(tile, cluster.block_rank() ^ 1)[t];  // block_barrier
    if (!DEFECT) cluster.sync();
}
extern "C" __global__ void __cluster_dims__(2) block_barrier(const float *x, float *y, int n) {
    block_barrier_body<true>(x, y, n);
}
extern "C" __global__ void __cluster_dims__(2) block_barrier_fixed(const float *x, float *y, int n) {
    block_barrier_body<false>(x, y, n);
}

// y = x of the other block of the cluster, which has put it here; one warp of it releases what all of
// them wrote.
template <bool DEFECT> __device__ void relaxed_arrival_body(const float *x, float *y, int n) {
    __shared__ float tile[THREADS];
    cg::cluster_group cluster = cg::this_cluster();
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    cluster.sync();
    cluster.map_shared_rank(tile, cluster.block_rank() ^ 1)[t] = x[i];  // relaxed_arrival
    __syncthreads();
    if (!DEFECT && t < 32) asm volatile("fence.acq_rel.cluster;" ::: "memory");
    __cluster_barrier_arrive_relaxed();
    __cluster_barrier_wait();
    y[i] = tile[t];  // relaxed_arrival
}
extern "C" __global__ void __cluster_dims__(2) relaxed_arrival(const float *x, float *y, int n) {
    relaxed_arrival_body<true>(x, y, n);
}
extern "C" __global__ void __cluster_dims__(2) relaxed_arrival_fixed(const float *x, float *y, int n) {
    relaxed_arrival_body<false>(x, y, n);
}

// y = x, four at a time.
template <bool DEFECT> __device__ void misaligned_body(const float *x, float *y, int n) {
    const int i = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (i + 4 > n) return;
    const float4 v = *reinterpret_cast<const float4 *>(x + i + (DEFECT ? 1 : 0));  // misaligned
    *reinterpret_cast<float4 *>(y + i) = v;  // misaligned
}
BOTH(misaligned)

// y = x of the neighbouring lane, through shared memory.
template <bool DEFECT> __device__ void missing_syncwarp_body(const float *x, float *y, int n) {
    __shared__ float tile[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    tile[t] = x[i];  // missing_syncwarp
    if (!DEFECT) __syncwarp();
    y[i] = tile[t ^ 1];  // missing_syncwarp
}
BOTH(missing_syncwarp)

// y[0] += the number of blocks.
template <bool DEFECT> __device__ void lost_update_body(const float *x, float *y, int n) {
    if (threadIdx.x != 0) return;
    if (DEFECT) {
        y[0] += 1;  // lost_update
    } else {
        atomicAdd(y, 1.f);
    }
}
BOTH(lost_update)

// y = 2 x, through memory that the read-only cache may not see.
template <bool DEFECT> __device__ void stale_read_body(const float *x, float *y, int n) {
    const int i = blockIdx.x * THREADS + threadIdx.x;
    y[i] = x[i];
    __syncthreads();
    const float v = DEFECT ? __ldg(y + i) : *static_cast<volatile float *>(y + i);  // stale_read
    __syncthreads();
    y[i] = 2 * v;  // stale_read
}
BOTH(stale_read)

// y = x of the same thread in the next block, across a barrier of the whole grid.
template <bool DEFECT> __device__ void grid_barrier_body(const float *x, float *y, int n) {
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    const int next = ((blockIdx.x + 1) % gridDim.x) * THREADS + t;
    y[i] = x[i];  // grid_barrier
    if (DEFECT) __syncthreads(); else cg::this_grid().sync();
    const float v = y[next];  // grid_barrier
    if (DEFECT) __syncthreads(); else cg::this_grid().sync();
    y[i] = v;  // grid_barrier
}
BOTH(grid_barrier)
