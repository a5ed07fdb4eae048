// The arguments of a launch: field for field the structs of src/gpu/abi.rs, which fills them in. Both sides
// assert the sizes of src/tuning.rs. Before this, each language defines
//
//   Real      the type of the numbers of a Spec, that of the sums: double for f64, else float
//   Integer   64 bits
//   Origin    where the first element of a tensor is: its address, null where there is none; or its index
//             in the buffer that goes with the field

// A tensor of any strides over N and C, in elements. The elements of a plane are adjacent, or,
// channels-last, the channels of a place.
struct Tensor {
    Origin origin;
    Integer stride_n, stride_c;
};

// A parameter or statistic: plane p takes element p % period. The period is C or all planes.
struct Param {
    Origin origin;
    int period;
    int is_f32;  // f32 beside an x of a half type
};

struct Shape {
    Integer spatial;
    int planes, c;
    int channels_per_group;
    unsigned present;  // bit i: the buffer of slot i is bound; for kernels without addresses
};

enum class EpsMode : int { AddToVar, AddToStd, MaxWithVar };
enum class ScaleStat : int { Var, Std, Rstd };
enum class Activation : int { None, Relu, LeakyRelu, Silu };

// The numbers of the normalization.
struct Spec {
    Real eps;
    Real n;                       // elements of a group
    Real bessel;                  // n / (n - correction)
    Real alpha, one_minus_alpha;
    Real weight_offset;
    Real slope;                   // of the leaky ReLU
    EpsMode mode;
    int stats_gradient;           // whether the output is the gradient of `stat`
    ScaleStat stat;
    Activation activation;
};

// The planes' shares of the gradients of what they take one number of. Where statistics alone are
// measured on chip, `mean` and `rstd` take those.
struct Shares {
    Origin weight, bias, mean, rstd;
};

struct Call {
    Shape shape;
    Spec spec;
    Tensor x, dy;
    Tensor weights, biases, residual;  // an element for each of x
    Param weight, bias, mean, rstd;    // mean and rstd where they are given
    Tensor out;                        // y or dx
    Tensor dv, dweights;
    Shares shares;
};

// The cut of planes in the tiers of several passes: in `count` chunks of `length` vectors with `team` threads
// each, or, channels-last, of `length` places with `team` vectors of channels side by side.
struct Chunks {
    int count, length, team;
};

// The gradient of a parameter: the sum of `n` shares for each of `c` numbers. A block has `columns` of them,
// a power of two, side by side.
struct ParamSum {
    Origin shares, out;
    int n, c, columns;
    int is_f32;  // whether the numbers are, beside an x of a half type
};

static_assert(sizeof(Call) == (sizeof(Real) == 8 ? CALL_BYTES_F64 : CALL_BYTES_F32), "abi.rs");
static_assert(__builtin_offsetof(Call, x) == (sizeof(Real) == 8 ? CALL_X_AT_F64 : CALL_X_AT_F32),
              "abi.rs");
static_assert(sizeof(Chunks) == CHUNKS_BYTES && sizeof(ParamSum) == PARAM_SUM_BYTES, "abi.rs");
