// Tensors whose channels are adjacent, in parts: a part of each of the planes of a thread's vector of channels is
// the same places of all of them.
#include "multi_pass.cuh"
#include "places.cuh"

// A block has `chunks.team` vectors of channels side by side, a power of two, and `chunks.length` places.
struct Columns {
    static constexpr int PLANES = PER_VECTOR<T>, COUNT = 4;

    const Call &call;
    const Chunks &chunks;
    int channel;        // the first one
    int sample, part;   // the plane of channel 0 is sample * c
    long long begin;    // the block's first place
    int rows;           // its places
    int first, step;    // the thread's first place of those, and the way to its next one
    Span<T> span;       // of channels
    int vector;

    __device__ Columns(const Call &call, const Chunks &chunks, bool back)
        : call(call), chunks(chunks), span{0, call.shape.c} {
        const int blocks = (span.vectors() + chunks.team - 1) / chunks.team;  // beside each other
        const int block = block_of(back), rest = block / blocks;
        part = rest % chunks.count, sample = rest / chunks.count;
        vector = block % blocks * chunks.team + threadIdx.x % chunks.team;
        channel = vector * PLANES;
        begin = (long long)part * chunks.length;
        rows = min(call.shape.spatial - begin, (long long)chunks.length);
        if (vector >= span.vectors()) rows = 0;  // columns beyond the last channel
        first = threadIdx.x / chunks.team, step = SPLIT_THREADS / chunks.team;
        if (back) first = rows - 1 - first, step = -step;
    }

    // All threads of a block merge what they have, those without a channel too.
    __device__ bool exists() const { return true; }

    __device__ int plane() const { return sample * span.end; }

    // From the block's first place on.
    __device__ T *at(const Tensor &tensor) const {
        return ::at<T>(tensor, {call.shape, plane()}, begin * span.end);
    }

    __device__ PerElement<T> per_element() const {
        return {call, {call.shape, plane()}, begin * span.end};
    }

    template <typename C> __device__ OfChannels<C, PLANES> of(const Padded<C> *all) const {
        OfChannels<C, PLANES> out{};
#pragma unroll
        for (int j = 0; j < PLANES; ++j) {
            if (all != nullptr && channel + j < span.end) out.each[j] = all[plane() + channel + j].get();
        }
        return out;
    }

    __device__ auto affine(const Padded<Affine<A>> *affines, const Padded<Moments<A>> *) const {
        return of(affines);
    }

    // Calls f(fragment) for the places of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        for (int i = first; (unsigned)i < (unsigned)rows; i += step * COUNT) {
            f(Places<COUNT>{span, vector, i, rows, step});
        }
    }

    // Each channel's part goes where split.cu would put it.
    template <typename M> __device__ void put(const M (&m)[PLANES], Padded<M> *parts) const {
        constexpr int WARPS = SPLIT_THREADS / WARP;
        __shared__ M of_warp[WARPS][MAX_COLUMNS * PLANES];
        const int lane = threadIdx.x % WARP;
        const Lanes of_channel{chunks.team, WARP};
#pragma unroll
        for (int j = 0; j < PLANES; ++j) {
            const M merged = warp_merge(m[j], of_channel);
            if (lane < chunks.team) of_warp[threadIdx.x / WARP][lane * PLANES + j] = merged;
        }
        __syncthreads();
        const int i = threadIdx.x, of = channel - threadIdx.x % chunks.team * PLANES + i;
        if (i >= chunks.team * PLANES || of >= span.end) return;
        M total = of_warp[0][i];
        for (int warp = 1; warp < WARPS; ++warp) total = merge(total, of_warp[warp][i]);
        parts[(long long)(plane() + of) * chunks.count + part].put(total);
    }
};

MULTI_PASS_KERNELS(columns, Columns)
