// Tensors whose channels are adjacent, (N, *S, C): each thread has a vector of channels, and a part
// of each of their planes is the same places of all of them.
#include "parts.cuh"

// Some places of a vector of channels, first + k * step for all k that are below `rows`.
struct Places {
    static constexpr int COUNT = 4;

    Window<T> window;  // of channels
    int vector;
    long long first, rows;
    int step;

    // What is kept of each of them.
    template <typename V> struct Of {
        V at[COUNT];
        __device__ V &operator[](int k) { return at[k]; }
        __device__ const V &operator[](int k) const { return at[k]; }
    };
    using X = Of<Vector<T>>;

    __device__ bool has(int k) const { return first + (long long)k * step < rows; }

    __device__ Site<T> site(int k) const {
        return {window, vector, (first + (long long)k * step) * window.end};
    }

    // Calls f(k, site) for each of them.
    template <typename F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int k = 0; k < COUNT; ++k) {
            if (has(k)) f(k, site(k));
        }
    }

    // Calls f(x, ...) for each element of a channel of what is kept.
    template <typename F, typename... Kept>
    __device__ __forceinline__ void values(int channel, F f, const Kept &...x) const {
        each([&](int k, const Site<T> &) { f(widen(x[k]).v[channel]...); });
    }

    // How many there are.
    __device__ int count() const {
        int n = 0;
#pragma unroll
        for (int k = 0; k < COUNT; ++k) n += has(k);
        return n;
    }

    // f(k, site) for each of them, 0 where there is nothing.
    template <typename F> __device__ __forceinline__ auto map(F f) const {
        Of<decltype(f(0, Site<T>{}))> out{};
        each([&](int k, const Site<T> &site) { out[k] = f(k, site); });
        return out;
    }

    // Whether no vector of a tensor needs a branch, so that all are asked for before any is waited for.
    __device__ bool are_whole(const T *tensor) const {
        return is_aligned(tensor) && window.end % PER_VECTOR<T> == 0;
    }

    __device__ __forceinline__ X load(const T *from) const {
        if (!are_whole(from)) return map([&](int, const Site<T> &site) { return ::load(from, site); });
        return map([&](int, const Site<T> &site) { return whole(from + site.offset()); });
    }

    __device__ X load_beside(const T *from) const { return load(from); }

    __device__ __forceinline__ void store(T *to, const X &value) const {
        if (are_whole(to)) {
            each([&](int k, const Site<T> &site) { put_whole(to + site.offset(), value[k]); });
        } else {
            each([&](int k, const Site<T> &site) { ::store(to, site, value[k]); });
        }
    }
};

// A block has `cut.team` vectors of channels side by side, a power of two, and `cut.chunk` places.
struct Columns {
    static constexpr int SUMS = PER_VECTOR<T>;

    const Call &call;
    const Cut &cut;
    int channel;          // the first one
    int sample, part;     // the plane of channel 0 is sample * c
    long long row, rows;  // the first place, and the end of the block's
    int step;             // places between two of a thread's
    Window<T> window;     // of channels
    int vector;

    __device__ Columns(const Call &call, const Cut &cut)
        : call(call), cut(cut), step(SPLIT_THREADS / cut.team), window{0, call.shape.c} {
        const int blocks = (window.vectors() + cut.team - 1) / cut.team;  // beside each other
        const int rest = blockIdx.x / blocks;
        part = rest % cut.chunks, sample = rest / cut.chunks;
        vector = blockIdx.x % blocks * cut.team + threadIdx.x % cut.team;
        channel = vector * SUMS;
        const long long begin = (long long)part * cut.chunk;
        row = begin + threadIdx.x / cut.team;
        rows = min(call.shape.spatial, begin + cut.chunk);
        if (vector >= window.vectors()) rows = 0;  // columns beyond the last channel
    }

    // All threads of a block merge what they have, those without a channel too.
    __device__ bool exists() const { return true; }

    __device__ int plane() const { return sample * window.end; }

    __device__ T *at(const Tensor &tensor) const { return ::at<T>(tensor, call.shape, plane()); }

    __device__ Beside<T> beside() const { return {call, plane()}; }

    template <typename C> __device__ OfChannels<C, SUMS> of(const Stored<C> *all) const {
        OfChannels<C, SUMS> out{};
#pragma unroll
        for (int j = 0; j < SUMS; ++j) {
            if (all != nullptr && channel + j < window.end) out.each[j] = all[plane() + channel + j].get();
        }
        return out;
    }

    // Calls f(held) for the places of the thread, some at a time.
    template <typename F> __device__ __forceinline__ void some(F f) const {
        for (long long first = row; first < rows; first += (long long)step * Places::COUNT) {
            f(Places{window, vector, first, rows, step});
        }
    }

    // Each channel's part goes where split.cu would put it.
    template <typename M> __device__ void put(const M (&m)[SUMS], Stored<M> *parts) const {
        constexpr int WARPS = SPLIT_THREADS / WARP;
        __shared__ M of_warp[WARPS][MAX_COLUMNS * SUMS];
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int j = 0; j < SUMS; ++j) {
            const M merged = warp_merge(m[j], cut.team);
            if (lane < cut.team) of_warp[threadIdx.x / WARP][lane * SUMS + j] = merged;
        }
        __syncthreads();
        const int i = threadIdx.x, of = channel - threadIdx.x % cut.team * SUMS + i;
        if (i >= cut.team * SUMS || of >= window.end) return;
        M total = of_warp[0][i];
        for (int warp = 1; warp < WARPS; ++warp) total = merge(total, of_warp[warp][i]);
        parts[(long long)(plane() + of) * cut.chunks + part].put(total);
    }
};

KERNELS_OF_PARTS(columns, Columns)
