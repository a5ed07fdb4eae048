// The arguments of a launch, which src/metal/call.rs fills in, field for field.

// The buffers of a launch, by index: all kernels have the same, and each uses some of them. Whether
// one is there is bit `index` of `Shape::present`; where it is not, the pointer means nothing.
enum Index : int {
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

// A tensor of any strides over N and C, in elements; `start` is the index of its first one in its
// buffer. The elements of a plane are adjacent, or, channels-last, the channels of a place.
struct Tensor {
    long start, stride_n, stride_c;
};

// A parameter or statistic: plane p takes element start + p % period of its buffer.
struct Param {
    long start;
    int period;
    int is_f32;  // f32 beside an x of a half type
};

struct Shape {
    long spatial;
    int planes, c;
    int group;  // neighbouring planes of a set
    uint present;
};

enum class EpsMode : int { AddToVar, AddToStd, MaxWithVar };
enum class Second : int { Var, Std, Rstd };
enum class Activation : int { None, Relu, LeakyRelu, Silu };

struct Rule {
    float eps;
    float n;         // elements of a set
    float unbiased;  // n / (n - correction)
    float alpha, beside_alpha;  // the latter is 1 - alpha
    float weight_offset;
    float slope;  // of the leaky ReLU
    EpsMode mode;
    int of_stats;  // whether the output is the gradient of `second`
    Second second;
    Activation activation;
};

// Buffer 0 of all kernels but in_sum_params.
struct Call {
    Shape shape;
    Rule rule;
    Tensor x, dy;
    Tensor weights, biases, residual;
    Param weight, bias, mean, rstd;
    Tensor out, dv, dweights;
};

// Buffer 1: how the tiers in parts cut planes: in `chunks` of `chunk` vectors with `team` threads
// each, or, channels-last, of `chunk` places with `team` vectors of channels side by side.
struct Cut {
    int chunks, chunk, team;
};

// Buffer 0 of in_sum_params: n shares (PARTS) for each of c numbers (OUT), `columns` of them a
// threadgroup.
struct Sum {
    int n, c, columns;
    int is_f32;  // whether the numbers are, beside an x of a half type
};

// The buffers of a launch as a kernel gets them.
struct Buffers {
    device const void *x, *dy, *weights, *biases, *residual, *weight, *bias, *mean, *rstd;
    device void *out, *dv, *dweights;
    device void *share_weight, *share_bias, *share_mean, *share_rstd;
    device void *parts, *affines, *gradients;
};

// A thread's place: its threadgroup, its number there, and the number of threads there.
struct Place {
    int group, index, threads;

    int lane() const { return index % WARP; }
    int simdgroup() const { return index / WARP; }
};

// A kernel for threadgroups of at most so many threads; the compiler sees to the registers.
#define KERNEL(THREADS) [[max_total_threads_per_threadgroup(THREADS)]] kernel void

// The arguments of every kernel, and what it makes of them. FIRST is Call or Sum.
#define ARGUMENTS(FIRST)                                                                           \
    constant FIRST &call [[buffer(0)]], constant Cut &cut [[buffer(1)]],                           \
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
        uint group [[threadgroup_position_in_grid]], uint index [[thread_index_in_threadgroup]],   \
        uint threads [[threads_per_threadgroup]]
#define BUFFERS                                                                                    \
    Buffers {                                                                                      \
        x, dy, weights, biases, residual, weight, bias, mean, rstd, out, dv, dweights,             \
            share_weight, share_bias, share_mean, share_rstd, parts, affines, gradients            \
    }
#define PLACE                                                                                      \
    Place { int(group), int(index), int(threads) }

inline bool has(constant Call &call, Index index) { return call.shape.present >> index & 1; }

inline float load(constant Param &param, device const void *data, int plane) {
    const long i = param.start + plane % param.period;
    if (param.is_f32) return ((device const float *)data)[i];
    return float(((device const T *)data)[i]);
}

// The index in its buffer of the element of a tensor that is `ahead` of the first one of a plane.
inline long start_of(constant Call &call, constant Tensor &tensor, int plane, long ahead) {
    const long n = plane / call.shape.c, c = plane % call.shape.c;
    return tensor.start + n * tensor.stride_n + c * tensor.stride_c + ahead;
}

// A tensor from there on, where there is one.
inline Source source(constant Call &call, constant Tensor &tensor, Index index,
                     device const void *data, int plane, long ahead = 0) {
    if (!has(call, index)) return {nullptr, 0};
    return {(device const T *)data, start_of(call, tensor, plane, ahead)};
}

inline Sink sink(constant Call &call, constant Tensor &tensor, Index index, device void *data,
                 int plane, long ahead = 0) {
    if (!has(call, index)) return {nullptr, 0};
    return {(device T *)data, start_of(call, tensor, plane, ahead)};
}
