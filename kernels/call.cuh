// The arguments of a call, which src/cuda/call.rs fills in, field for field.
#pragma once
#include "span.cuh"

// A tensor of any strides over N and C. The elements of a plane are adjacent, or, channels-last,
// the channels of a place. `data` is null where there is none.
struct Tensor {
    void *data;
    long long stride_n, stride_c;
};

// A parameter or statistic: plane p takes element p % period. `data` is null where there is none.
struct Param {
    const void *data;
    int period;
    int is_f32;  // f32 beside an x of a half type
};

struct Shape {
    long long spatial;
    int planes, c;
    int group;  // neighbouring planes of a set
};

enum class EpsMode : int { AddToVar, AddToStd, MaxWithVar };
enum class Second : int { Var, Std, Rstd };
enum class Activation : int { None, Relu, LeakyRelu, Silu };

struct Rule {
    double eps;
    double n;         // elements of a set
    double unbiased;  // n / (n - correction)
    double alpha, beside_alpha;  // the latter is 1 - alpha
    double weight_offset;
    double slope;  // of the leaky ReLU
    EpsMode mode;
    int of_stats;  // whether the output is the gradient of `second`
    Second second;
    Activation activation;
};

// A plane's shares of the gradients of what it takes one number of; null where nobody wants it. Where
// statistics alone are measured, `mean` and `rstd` take those.
struct Shares {
    void *weight, *bias, *mean, *rstd;

    __device__ bool any() const { return weight || bias || mean || rstd; }
};

struct Call {
    Shape shape;
    Rule rule;
    Tensor x, dy;
    Tensor weights, biases, residual;  // an element for each of x
    Param weight, bias, mean, rstd;    // mean and rstd where they are given
    Tensor out;                        // y or dx
    Tensor dv, dweights;
    Shares shares;
};

// How the split tiers cut planes: in `chunks` of `chunk` vectors with `team` threads each, or,
// channels-last, of `chunk` places with `team` vectors of channels side by side.
struct Cut {
    int chunks, chunk, team;
};

// Its i-th number; `absent` where there is none.
template <typename T> __device__ Acc<T> number(const Param &param, int i, Acc<T> absent) {
    if (param.data == nullptr) return absent;
    if (param.is_f32) return static_cast<const float *>(param.data)[i];
    return widen(static_cast<const T *>(param.data)[i]);
}

template <typename T> __device__ Acc<T> load(const Param &param, int plane, Acc<T> absent) {
    return param.data == nullptr ? absent : number<T>(param, plane % param.period, absent);
}

// The element of a tensor that is `ahead` of the first one of a plane; null stays null.
template <typename T>
__device__ T *at(const Tensor &tensor, const Shape &shape, int plane, long long ahead = 0) {
    if (tensor.data == nullptr) return nullptr;
    const long long n = plane / shape.c, c = plane % shape.c;
    return static_cast<T *>(tensor.data) + n * tensor.stride_n + c * tensor.stride_c + ahead;
}
