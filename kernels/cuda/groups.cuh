// Groups of planes that fit on chip: to the statistics one long plane, with parameters of each of its
// planes. These are some whole vectors each.
#pragma once
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;

// The parameters of a group's planes, which are numbered from its first one on.
struct GroupParams {
    const Call &call;
    int first_weight, first_bias;  // a period has whole groups
    unsigned inverse;

    __device__ GroupParams(const Call &call, const Plane &first)
        : call(call), first_weight(call.weight.origin ? first.in(call.weight, call.shape) : 0),
          first_bias(call.bias.origin ? first.in(call.bias, call.shape) : 0),
          inverse(0xffffffffu / ((unsigned)call.shape.spatial / PER_VECTOR<T>)) {}

    // The plane of the elements at a place of the group: its vector by the vectors of a plane, without a
    // division. What is on chip are 2^15 vectors at most, and this is exact while the product of both,
    // each one more, is below 2^32.
    template <int L> __device__ int plane(const At<L> &place) const {
        return __umulhi((unsigned)place.offset / PER_VECTOR<T> + 1, inverse);
    }

    __device__ A weight(int plane) const {
        if (call.weight.origin == nullptr) return 1;
        return number<T>(call.weight, first_weight + plane, 1) + A(call.spec.weight_offset);
    }

    __device__ OfPlane<Affine<A>> affine(const Stats<A> &stats, int plane) const {
        return {{call.spec, stats, weight(plane), number<T>(call.bias, first_bias + plane, 0)}};
    }
};
