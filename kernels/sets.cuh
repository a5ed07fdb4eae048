// Sets of planes that fit on chip, the groups of group norm: to the statistics one long plane, with
// parameters of each of its planes. These are some whole vectors each.
#pragma once
#include "tiers.cuh"

using T = ELEMENT;
using A = Acc<T>;

// The parameters of a set's planes, which are numbered from its first one on.
struct OfSet {
    const Call &call;
    int first_weight, first_bias;  // a period has whole sets

    __device__ OfSet(const Call &call, int first)
        : call(call), first_weight(call.weight.data ? first % call.weight.period : 0),
          first_bias(call.bias.data ? first % call.bias.period : 0) {}

    // That of the elements at a place of the set.
    template <int L> __device__ int plane(const Place<L> &place) const {
        return (unsigned)place.offset / (unsigned)call.shape.spatial;
    }

    __device__ A weight(int plane) const {
        if (call.weight.data == nullptr) return 1;
        return number<T>(call.weight, first_weight + plane, 1) + A(call.rule.weight_offset);
    }

    __device__ OfPlane<Affine<A>> affine(const Norm<A> &norm, int plane) const {
        return {{call.rule, norm, weight(plane), number<T>(call.bias, first_bias + plane, 0)}};
    }
};
