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
