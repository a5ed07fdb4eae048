// The buffers of a launch, and how kernels reach what is in them. Buffer 0 is a Call (of in_sum_params, a
// ParamSum) and buffer 1 the Chunks.

// The other buffers by index: `Slot` of src/gpu/launch.rs. All kernels have the same, and each uses some of
// them. Where bit `index` of `Shape::present` is not set, the pointer means nothing.
enum Slot : int {
    X = 2,
    DY = 3,
    WEIGHTS = 4,  // as BIASES and RESIDUAL, an element for each of x
    BIASES = 5,
    RESIDUAL = 6,
    WEIGHT = 7,
    BIAS = 8,
    MEAN = 9,   // as RSTD, where statistics are given
    RSTD = 10,
    OUT = 11,   // y or dx; statistics or a parameter's gradient
    DV = 12,
    DWEIGHTS = 13,
    SHARE_WEIGHT = 14,  // the planes' shares of the gradients of what they take one number of
    SHARE_BIAS = 15,
    SHARE_MEAN = 16,
    SHARE_RSTD = 17,
    PARTS = 18,
    AFFINES = 19,
    GRADIENTS = 20,
};

// The buffers of a launch as a kernel gets them.
struct Buffers {
    device const void *x, *dy, *weights, *biases, *residual, *weight, *bias, *mean, *rstd;
    device void *out, *dv, *dweights;
    device void *share_weight, *share_bias, *share_mean, *share_rstd;
    device void *parts, *affines, *gradients;
};

// A thread: the position of its threadgroup, its index there, and the number of threads there.
struct Thread {
    int position, index, threads;

    int lane() const { return index % WARP; }
    int simdgroup() const { return index / WARP; }
};

// A kernel for threadgroups of at most so many threads; the compiler sees to the registers.
#define KERNEL(THREADS) [[max_total_threads_per_threadgroup(THREADS)]] kernel void

// The arguments of every kernel, and what it makes of them. FIRST is Call or ParamSum.
#define ARGUMENTS(FIRST)                                                                           \
    constant FIRST &call [[buffer(0)]], constant Chunks &chunks [[buffer(1)]],                     \
        device const void *x [[buffer(X)]], device const void *dy [[buffer(DY)]],                  \
        device const void *weights [[buffer(WEIGHTS)]],                                            \
        device const void *biases [[buffer(BIASES)]],                                              \
        device const void *residual [[buffer(RESIDUAL)]],                                          \
        device const void *weight [[buffer(WEIGHT)]], device const void *bias [[buffer(BIAS)]],    \
        device const void *mean [[buffer(MEAN)]], device const void *rstd [[buffer(RSTD)]],        \
        device void *out [[buffer(OUT)]], device void *dv [[buffer(DV)]],                          \
        device void *dweights [[buffer(DWEIGHTS)]],                                                \
        device void *share_weight [[buffer(SHARE_WEIGHT)]],                                        \
        device void *share_bias [[buffer(SHARE_BIAS)]],                                            \
        device void *share_mean [[buffer(SHARE_MEAN)]],                                            \
        device void *share_rstd [[buffer(SHARE_RSTD)]], device void *parts [[buffer(PARTS)]],      \
        device void *affines [[buffer(AFFINES)]], device void *gradients [[buffer(GRADIENTS)]],    \
        uint position [[threadgroup_position_in_grid]], uint index [[thread_index_in_threadgroup]],\
        uint threads [[threads_per_threadgroup]]
#define BUFFERS                                                                                    \
    Buffers {                                                                                      \
        x, dy, weights, biases, residual, weight, bias, mean, rstd, out, dv, dweights,             \
            share_weight, share_bias, share_mean, share_rstd, parts, affines, gradients            \
    }
#define THREAD                                                                                     \
    Thread { int(position), int(index), int(threads) }

inline bool has(constant Call &call, Slot index) { return call.shape.present >> index & 1; }

inline float load(constant Param &param, device const void *data, int plane) {
    const long i = param.origin + plane % param.period;
    if (param.is_f32) return ((device const float *)data)[i];
    return float(((device const T *)data)[i]);
}

// The index in its buffer of the element of a tensor that is `ahead` of the first one of a plane.
inline long start_of(constant Call &call, constant Tensor &tensor, int plane, long ahead) {
    const long n = plane / call.shape.c, c = plane % call.shape.c;
    return tensor.origin + n * tensor.stride_n + c * tensor.stride_c + ahead;
}

// A tensor from there on, where there is one.
inline Source source(constant Call &call, constant Tensor &tensor, Slot index,
                     device const void *data, int plane, long ahead = 0) {
    if (!has(call, index)) return {nullptr, 0};
    return {(device const T *)data, start_of(call, tensor, plane, ahead)};
}

inline Sink sink(constant Call &call, constant Tensor &tensor, Slot index, device void *data,
                 int plane, long ahead = 0) {
    if (!has(call, index)) return {nullptr, 0};
    return {(device T *)data, start_of(call, tensor, plane, ahead)};
}
