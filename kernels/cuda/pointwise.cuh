// The work on an element besides the normalization of its plane: parameters per element, the
// residual, the activation, and the gradients of these. With PLAIN nothing of it, which takes fewer
// registers (63 instead of 92 in the largest block, bf16): what includes this is compiled both ways.
#pragma once
#include "coefficients.cuh"
#include <type_traits>

// The coefficients of a vector's elements where all of them are of one plane ...
template <typename C> struct OfPlane {
    C all;
    __device__ const C &operator[](int) const { return all; }
};

// ... and where each is of its own.
template <typename C, int N> struct OfChannels {
    C each[N];
    __device__ const C &operator[](int j) const { return each[j]; }
};

// The tensors that have an element for each of x, from the first element of a span on; null where there
// is none.
template <typename T> struct PerElement {
    const T *weights = nullptr, *biases = nullptr, *residual = nullptr;
    T *dv = nullptr, *dweights = nullptr;
    Activation activation = Activation::None;

    __device__ PerElement(const Call &call, const Plane &plane, long long ahead = 0) {
        if (PLAIN) return;
        const auto of = [&](const Tensor &t) { return at<T>(t, plane, ahead); };
        weights = of(call.weights), biases = of(call.biases), residual = of(call.residual);
        dv = of(call.dv), dweights = of(call.dweights);
        activation = call.spec.activation;
    }

    // The tensors that are read: without the gradients of the backward pass.
    __device__ PerElement reads() const {
        PerElement out = *this;
        out.dv = out.dweights = nullptr;
        return out;
    }

    // True if the backward pass has to recompute the forward pass of an element.
    __device__ bool recomputes() const {
        return activation != Activation::None || dweights != nullptr;
    }
};

// `place` is where the elements lie in the span, an At or a VectorRef.
template <typename T, int L, typename P>
__device__ void add(Wide<T, L> &to, const T *from, const P &place) {
    if (from == nullptr) return;
    const Wide<T, L> by = widen(load(from, place));
#pragma unroll
    for (int j = 0; j < L; ++j) to.v[j] += by.v[j];
}

template <typename T, int L, typename P>
__device__ void scale(Wide<T, L> &v, const Spec &spec, const T *weights, const P &place) {
    if (weights == nullptr) return;
    const Wide<T, L> by = widen(load(weights, place));
#pragma unroll
    for (int j = 0; j < L; ++j) v.v[j] *= by.v[j] + Acc<T>(spec.weight_offset);
}

template <typename T, int L>
__device__ __forceinline__ void multiply(Wide<T, L> &v, const Wide<T, L> &by) {
#pragma unroll
    for (int j = 0; j < L; ++j) v.v[j] *= by.v[j];
}

// Replaces each element v by f(v).
template <typename T, int L, typename F> __device__ __forceinline__ void map(Wide<T, L> &v, F f) {
#pragma unroll
    for (int j = 0; j < L; ++j) v.v[j] = f(v.v[j]);
}

// 1 / (1 + exp(-v)), and what it lacks of 1 without the cancellation.
template <typename A> struct Sigmoid {
    A value, rest;

    __device__ explicit Sigmoid(A v) {
        const A e = exp(-abs(v)), large = 1 / (1 + e), small = e * large;
        value = v < 0 ? small : large;
        rest = v < 0 ? large : small;
    }
};

template <typename T, int L>
__device__ void activate(Activation by, const Spec &spec, Wide<T, L> &v) {
    using A = Acc<T>;
    switch (by) {
    case Activation::None: break;
    case Activation::Relu: map(v, [](A v) { return v < 0 ? A(0) : v; }); break;
    case Activation::LeakyRelu: {
        const A slope = A(spec.slope);
        map(v, [=](A v) { return v > 0 ? v : slope * v; });
        break;
    }
    case Activation::Silu: map(v, [](A v) { return v * Sigmoid<A>(v).value; }); break;
    }
}

// Replaces v by the derivative of the activation there.
template <typename T, int L>
__device__ void derive(Activation by, const Spec &spec, Wide<T, L> &v) {
    using A = Acc<T>;
    switch (by) {
    case Activation::None: map(v, [](A) { return A(1); }); break;
    case Activation::Relu: map(v, [](A v) { return A(v > 0); }); break;
    case Activation::LeakyRelu: {
        const A slope = A(spec.slope);
        map(v, [=](A v) { return v > 0 ? A(1) : slope; });
        break;
    }
    case Activation::Silu:
        map(v, [](A v) {
            const Sigmoid<A> s(v);
            return s.value + v * s.value * s.rest;
        });
        break;
    }
}

template <typename A> __device__ A apply(const Affine<A> &affine, A x) {
    return (x - affine.mean) * affine.scale + affine.shift;
}

template <typename A> __device__ A apply(const Gradient<A> &by, A x, A g) {
    return (g - by.g_mean) * by.scale + ((by.mean - x) * by.pull + by.shift);
}

template <typename T, int L, typename C>
__device__ Wide<T, L> normalized(const Vector<T, L> &x, const C &affine) {
    Wide<T, L> z = widen(x);
#pragma unroll
    for (int j = 0; j < L; ++j) z.v[j] = apply(affine[j], z.v[j]);
    return z;
}

// The input of the activation.
template <typename T, int L, typename P>
__device__ Wide<T, L> activated(Wide<T, L> z, const Spec &spec, const PerElement<T> &per_element,
                                const P &place) {
    scale(z, spec, per_element.weights, place);
    add(z, per_element.biases, place);
    add(z, per_element.residual, place);
    return z;
}

template <typename T, int L, typename C, typename P>
__device__ Vector<T, L> output(const Vector<T, L> &x, const C &affine, const Spec &spec,
                               const PerElement<T> &per_element, const P &place) {
    Wide<T, L> v = activated(normalized(x, affine), spec, per_element, place);
    activate(per_element.activation, spec, v);
    return narrow(v);
}

// The gradient of the normalized elements: dy, widened once an activation or weight has been applied.
template <typename T, int L = PER_VECTOR<T>>
using Grad = std::conditional_t<PLAIN, Vector<T, L>, Wide<T, L>>;

// Turns the gradient of the output into that of the normalized elements. `affine` counts only where the
// forward pass is recomputed.
template <typename T, int L, typename C, typename P>
__device__ void pull_back(Wide<T, L> &g, const Vector<T, L> &x, const C &affine, const Spec &spec,
                          const PerElement<T> &per_element, const P &place) {
    if (per_element.recomputes()) {
        const Wide<T, L> z = normalized(x, affine);
        if (per_element.activation != Activation::None) {
            Wide<T, L> slope = activated(z, spec, per_element, place);
            derive(per_element.activation, spec, slope);
            multiply(g, slope);
        }
        if (per_element.dv != nullptr) store(per_element.dv, place, narrow(g));
        if (per_element.dweights != nullptr) {
            Wide<T, L> dweights = g;
            multiply(dweights, z);
            store(per_element.dweights, place, narrow(dweights));
        }
    }
    scale(g, spec, per_element.weights, place);
}

template <typename T, int L, typename C, typename P>
__device__ Grad<T, L> normalized_grad(const Vector<T, L> &x, const Vector<T, L> &dy, const C &affine,
                                   const Spec &spec, const PerElement<T> &per_element, const P &place) {
    if constexpr (PLAIN) {
        return dy;
    } else {
        Wide<T, L> g = widen(dy);
        pull_back(g, x, affine, spec, per_element, place);
        return g;
    }
}

template <typename T, int L, typename C>
__device__ Vector<T, L> input_gradient(const Vector<T, L> &x, const Grad<T, L> &g,
                                       const C &gradient) {
    Wide<T, L> dx = widen(x);
    const Wide<T, L> wide = widen(g);
#pragma unroll
    for (int j = 0; j < L; ++j) dx.v[j] = apply(gradient[j], dx.v[j], wide.v[j]);
    return narrow(dx);
}
