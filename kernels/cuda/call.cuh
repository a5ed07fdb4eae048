// A call's tensors and parameters, as kernels reach them.
#pragma once
#include "span.cuh"

#define FN __device__
#define IN(TYPE) const TYPE &
#define CONSTANT const
using Real = double;
using Integer = long long;
using Origin = void *;
#include "../shared/abi.h"

// The i-th number of a parameter; `absent` where there is none.
template <typename T> __device__ Acc<T> number(const Param &param, int i, Acc<T> absent) {
    if (param.origin == nullptr) return absent;
    if (param.is_f32) return static_cast<const float *>(param.origin)[i];
    return widen(static_cast<const T *>(param.origin)[i]);
}

template <typename T> __device__ Acc<T> load(const Param &param, int plane, Acc<T> absent) {
    return param.origin == nullptr ? absent : number<T>(param, plane % param.period, absent);
}

// The element of a tensor that is `ahead` of the first one of a plane; null stays null.
template <typename T>
__device__ T *at(const Tensor &tensor, const Shape &shape, int plane, long long ahead = 0) {
    if (tensor.origin == nullptr) return nullptr;
    const long long n = plane / shape.c, c = plane % shape.c;
    return static_cast<T *>(tensor.origin) + n * tensor.stride_n + c * tensor.stride_c + ahead;
}
