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

    __device__ GroupParams(const Call &call, int first)
        : call(call), first_weight(call.weight.origin ? first % call.weight.period : 0),
          first_bias(call.bias.origin ? first % call.bias.period : 0) {}

    // The plane of the elements at a place of the group.
    template <int L> __device__ int plane(const At<L> &place) const {
        return (unsigned)place.offset / (unsigned)call.shape.spatial;
    }

    __device__ A weight(int plane) const {
        if (call.weight.origin == nullptr) return 1;
        return number<T>(call.weight, first_weight + plane, 1) + A(call.spec.weight_offset);
    }

    __device__ OfPlane<Affine<A>> affine(const Stats<A> &stats, int plane) const {
        return {{call.spec, stats, weight(plane), number<T>(call.bias, first_bias + plane, 0)}};
    }
};
