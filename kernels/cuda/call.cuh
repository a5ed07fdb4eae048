// A call's tensors and parameters, as kernels reach them.
#pragma once
#include "span.cuh"

#define FN __device__
#define IN(TYPE) const TYPE &
#define CONSTANT const
using Real = Acc<ELEMENT>;
using Integer = long long;
using Origin = void *;
#include "../shared/abi.h"

// The i-th number of a parameter; `absent` where there is none.
template <typename T> __device__ Acc<T> number(const Param &param, int i, Acc<T> absent) {
    if (param.origin == nullptr) return absent;
    if (param.is_f32) return static_cast<const float *>(param.origin)[i];
    return widen(static_cast<const T *>(param.origin)[i]);
}

// A plane, by its number and by sample and channel: with one division for all that is asked of it.
struct Plane {
    int index, n, c;

    __device__ Plane(const Shape &shape, int index)
        : index(index), n((unsigned)index / (unsigned)shape.c), c(index - n * shape.c) {}

    // The place of its number in a parameter, which has one for each channel or for each plane.
    __device__ int in(const Param &param, const Shape &shape) const {
        return param.period == shape.c ? c : index;
    }
};

template <typename T>
__device__ Acc<T> load(const Param &param, const Shape &shape, const Plane &plane, Acc<T> absent) {
    return param.origin == nullptr ? absent : number<T>(param, plane.in(param, shape), absent);
}

// The element of a tensor that is `ahead` of the first one of a plane; null stays null.
template <typename T>
__device__ T *at(const Tensor &tensor, const Plane &plane, long long ahead = 0) {
    if (tensor.origin == nullptr) return nullptr;
    // Unsigned, each product takes one instruction less.
    const Integer of_n = (unsigned)plane.n * tensor.stride_n, of_c = (unsigned)plane.c * tensor.stride_c;
    return static_cast<T *>(tensor.origin) + of_n + of_c + ahead;
}
