// What happens to an element besides the normalization of its plane: parameters per element, the
// residual, the activation, and the gradients of these. With PLAIN nothing of it, which takes fewer
// registers (tuning.rs has the numbers): what includes this is compiled both ways.
#pragma once
#include "rule.cuh"
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

// What goes with x, from the first element of a span on; null where there is none.
template <typename T> struct Beside {
    const T *weights = nullptr, *biases = nullptr, *residual = nullptr;
    T *dv = nullptr, *dweights = nullptr;
    Activation activation = Activation::None;

    __device__ Beside(const Call &call, int plane, long long ahead = 0) {
        if (PLAIN) return;
        const auto of = [&](const Tensor &t) { return at<T>(t, call.shape, plane, ahead); };
        weights = of(call.weights), biases = of(call.biases), residual = of(call.residual);
        dv = of(call.dv), dweights = of(call.dweights);
        activation = call.rule.activation;
    }

    // The same without the gradients that the backward pass writes.
    __device__ Beside reads() const {
        Beside out = *this;
        out.dv = out.dweights = nullptr;
        return out;
    }

    // Whether the backward pass has to recompute what the forward pass did with an element.
    __device__ bool recomputes() const {
        return activation != Activation::None || dweights != nullptr;
    }
};

template <typename T> __device__ void add(Wide<T> &to, const T *from, const Site<T> &site) {
    if (from == nullptr) return;
    const Wide<T> by = widen(load(from, site));
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) to.v[j] += by.v[j];
}

template <typename T>
__device__ void scale(Wide<T> &v, const Rule &rule, const T *weights, const Site<T> &site) {
    if (weights == nullptr) return;
    const Wide<T> by = widen(load(weights, site));
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) v.v[j] *= by.v[j] + Acc<T>(rule.weight_offset);
}

template <typename T> __device__ __forceinline__ void multiply(Wide<T> &v, const Wide<T> &by) {
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) v.v[j] *= by.v[j];
}

// Replaces each element v by f(v).
template <typename T, typename F> __device__ __forceinline__ void map(Wide<T> &v, F f) {
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) v.v[j] = f(v.v[j]);
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

template <typename T> __device__ void activate(Activation by, const Rule &rule, Wide<T> &v) {
    using A = Acc<T>;
    switch (by) {
    case Activation::None: break;
    case Activation::Relu: map(v, [](A v) { return v < 0 ? A(0) : v; }); break;
    case Activation::LeakyRelu: {
        const A slope = A(rule.slope);
        map(v, [=](A v) { return v > 0 ? v : slope * v; });
        break;
    }
    case Activation::Silu: map(v, [](A v) { return v * Sigmoid<A>(v).value; }); break;
    }
}

// Replaces v by the derivative of the activation there.
template <typename T> __device__ void derive(Activation by, const Rule &rule, Wide<T> &v) {
    using A = Acc<T>;
    switch (by) {
    case Activation::None: map(v, [](A) { return A(1); }); break;
    case Activation::Relu: map(v, [](A v) { return A(v > 0); }); break;
    case Activation::LeakyRelu: {
        const A slope = A(rule.slope);
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

template <typename T, typename C>
__device__ Wide<T> normalized(const Vector<T> &x, const C &affine) {
    Wide<T> z;
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) z.v[j] = affine[j](widen(x.v[j]));
    return z;
}

// What the activation is applied to.
template <typename T>
__device__ Wide<T> activated(Wide<T> z, const Rule &rule, const Beside<T> &beside,
                             const Site<T> &site) {
    scale(z, rule, beside.weights, site);
    add(z, beside.biases, site);
    add(z, beside.residual, site);
    return z;
}

template <typename T, typename C>
__device__ Vector<T> output(const Vector<T> &x, const C &affine, const Rule &rule,
                            const Beside<T> &beside, const Site<T> &site) {
    Wide<T> v = activated(normalized(x, affine), rule, beside, site);
    activate(beside.activation, rule, v);
    return narrow(v);
}

// The gradient of the normalized elements: dy itself, or what no more rounding may reach.
template <typename T> using Upstream = std::conditional_t<PLAIN, Vector<T>, Wide<T>>;

// g becomes it, from the gradient of the output. `affine` counts only where the forward pass is
// recomputed.
template <typename T, typename C>
__device__ void pull_back(Wide<T> &g, const Vector<T> &x, const C &affine, const Rule &rule,
                          const Beside<T> &beside, const Site<T> &site) {
    if (beside.recomputes()) {
        const Wide<T> z = normalized(x, affine);
        if (beside.activation != Activation::None) {
            Wide<T> slope = activated(z, rule, beside, site);
            derive(beside.activation, rule, slope);
            multiply(g, slope);
        }
        if (beside.dv != nullptr) store(beside.dv, site, narrow(g));
        if (beside.dweights != nullptr) {
            Wide<T> dweights = g;
            multiply(dweights, z);
            store(beside.dweights, site, narrow(dweights));
        }
    }
    scale(g, rule, beside.weights, site);
}

template <typename T, typename C>
__device__ Upstream<T> upstream(const Vector<T> &x, const Vector<T> &dy, const C &affine,
                                const Rule &rule, const Beside<T> &beside, const Site<T> &site) {
    if constexpr (PLAIN) {
        return dy;
    } else {
        Wide<T> g = widen(dy);
        pull_back(g, x, affine, rule, beside, site);
        return g;
    }
}

template <typename T, typename C>
__device__ Vector<T> input_gradient(const Vector<T> &x, const Upstream<T> &g, const C &gradient) {
    Wide<T> dx;
#pragma unroll
    for (int j = 0; j < PER_VECTOR<T>; ++j) dx.v[j] = gradient[j](widen(x.v[j]), widen(g.v[j]));
    return narrow(dx);
}
