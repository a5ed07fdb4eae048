// The work on an element besides the normalization of its plane: parameters per element, the
// residual, the activation, and the gradients of these.

// The coefficients of a vector's elements: one for all where they are of one plane, or one for each.
template <typename C, int PLANES> struct Coefficients {
    C of[PLANES];

    C at(int j) const { return of[PLANES == 1 ? 0 : j]; }
};

// The tensors of the size of x, from the first element of a span on.
struct PerElement {
    Source weights, biases, residual;
    Sink dv, dweights;
    Activation activation;

    // The tensors that are read: without the gradients of the backward pass.
    PerElement reads() const {
        return {weights, biases, residual, {nullptr, 0}, {nullptr, 0}, activation};
    }

    // True if the backward pass has to recompute the forward pass of an element.
    bool recomputes() const { return activation != Activation::None || dweights.exists(); }
};

inline PerElement per_element_of(constant Call &call, Buffers on, int plane, long ahead = 0) {
    return {source(call, call.weights, WEIGHTS, on.weights, plane, ahead),
            source(call, call.biases, BIASES, on.biases, plane, ahead),
            source(call, call.residual, RESIDUAL, on.residual, plane, ahead),
            sink(call, call.dv, DV, on.dv, plane, ahead),
            sink(call, call.dweights, DWEIGHTS, on.dweights, plane, ahead),
            call.spec.activation};
}

// `place` is where the elements lie, a Place or a VectorRef.
template <typename P> Wide plus(Wide v, Source from, P place) {
    if (!from.exists()) return v;
    const Vector by = from.load(place);
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) v.v[j] += by.widened(j);
    return v;
}

template <typename P> Wide scaled(Wide v, constant Spec &spec, Source weights, P place) {
    if (!weights.exists()) return v;
    const Vector by = weights.load(place);
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) v.v[j] *= by.widened(j) + spec.weight_offset;
    return v;
}

inline Wide times(Wide v, Wide by) {
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) v.v[j] *= by.v[j];
    return v;
}

// 1 / (1 + exp(-v)), and what it lacks of 1 without the cancellation.
struct Sigmoid {
    float value, rest;
};

inline Sigmoid sigmoid(float v) {
    const float e = precise::exp(-fabs(v)), large = 1 / (1 + e), small = e * large;
    if (v < 0) return {small, large};
    return {large, small};
}

inline float activate(Activation by, float slope, float v) {
    switch (by) {
    case Activation::Relu: return v < 0 ? 0 : v;
    case Activation::LeakyRelu: return v > 0 ? v : slope * v;
    case Activation::Silu: return v * sigmoid(v).value;
    default: return v;
    }
}

// The derivative of the activation at v.
inline float derive(Activation by, float slope, float v) {
    switch (by) {
    case Activation::Relu: return v > 0 ? 1 : 0;
    case Activation::LeakyRelu: return v > 0 ? 1 : slope;
    case Activation::Silu: {
        const Sigmoid s = sigmoid(v);
        return s.value + v * s.value * s.rest;
    }
    default: return 1;
    }
}

template <int PLANES> Wide normalized(Vector x, Coefficients<Affine<float>, PLANES> affine) {
    Wide z;
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) z.v[j] = apply(affine.at(j), x.widened(j));
    return z;
}

// The input of the activation.
template <typename P>
Wide activated(Wide z, constant Spec &spec, PerElement per_element, P place) {
    const Wide weighted = scaled(z, spec, per_element.weights, place);
    return plus(plus(weighted, per_element.biases, place), per_element.residual, place);
}

template <int PLANES, typename P>
Vector output(Vector x, Coefficients<Affine<float>, PLANES> affine, constant Spec &spec,
              PerElement per_element, P place) {
    Wide v = activated(normalized(x, affine), spec, per_element, place);
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) {
        v.v[j] = activate(per_element.activation, spec.slope, v.v[j]);
    }
    return narrow(v);
}

// The gradient of the normalized elements, from that of the output, before any more rounding.
// `affine` counts only where the forward pass is recomputed.
template <int PLANES, typename P>
Wide normalized_grad(Vector x, Vector dy, Coefficients<Affine<float>, PLANES> affine,
                     constant Spec &spec, PerElement per_element, P place) {
    Wide g = widen(dy);
    if (per_element.recomputes()) {
        const Wide z = normalized(x, affine);
        if (per_element.activation != Activation::None) {
            Wide slope = activated(z, spec, per_element, place);
#pragma unroll
            for (int j = 0; j < PER_VECTOR; ++j) {
                slope.v[j] = derive(per_element.activation, spec.slope, slope.v[j]);
            }
            g = times(g, slope);
        }
        if (per_element.dv.exists()) per_element.dv.store(place, narrow(g));
        if (per_element.dweights.exists()) per_element.dweights.store(place, narrow(times(g, z)));
    }
    return scaled(g, spec, per_element.weights, place);
}

template <int PLANES>
Vector input_gradient(Vector x, Wide g, Coefficients<Gradient<float>, PLANES> gradient) {
    Wide dx;
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) dx.v[j] = apply(gradient.at(j), x.widened(j), g.v[j]);
    return narrow(dx);
}
