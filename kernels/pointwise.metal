// What happens to an element besides the normalization of its plane: parameters per element, the
// residual, the activation, and the gradients of these.

// The coefficients of a vector's elements: one for all where they are of one plane, or one for each.
template <typename C, int PLANES> struct Coefficients {
    C of[PLANES];

    C at(int j) const { return of[PLANES == 1 ? 0 : j]; }
};

// What goes with x, from the first element of a span on.
struct Beside {
    Source weights, biases, residual;
    Sink dv, dweights;
    Activation activation;

    // The same without the gradients that the backward pass writes.
    Beside reads() const {
        return {weights, biases, residual, {nullptr, 0}, {nullptr, 0}, activation};
    }

    // Whether the backward pass has to recompute what the forward pass did with an element.
    bool recomputes() const { return activation != Activation::None || dweights.exists(); }
};

inline Beside beside_of(constant Call &call, Buffers on, int plane, long ahead = 0) {
    return {source(call, call.weights, WEIGHTS, on.weights, plane, ahead),
            source(call, call.biases, BIASES, on.biases, plane, ahead),
            source(call, call.residual, RESIDUAL, on.residual, plane, ahead),
            sink(call, call.dv, DV, on.dv, plane, ahead),
            sink(call, call.dweights, DWEIGHTS, on.dweights, plane, ahead),
            call.rule.activation};
}

inline Wide plus(Wide v, Source from, Site site) {
    if (!from.exists()) return v;
    const Vector by = from.load(site);
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) v.v[j] += by.widened(j);
    return v;
}

inline Wide scaled(Wide v, constant Rule &rule, Source weights, Site site) {
    if (!weights.exists()) return v;
    const Vector by = weights.load(site);
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) v.v[j] *= by.widened(j) + rule.weight_offset;
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

template <int PLANES> Wide normalized(Vector x, Coefficients<Affine, PLANES> affine) {
    Wide z;
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) z.v[j] = affine.at(j)(x.widened(j));
    return z;
}

// What the activation is applied to.
inline Wide activated(Wide z, constant Rule &rule, Beside beside, Site site) {
    return plus(plus(scaled(z, rule, beside.weights, site), beside.biases, site), beside.residual,
                site);
}

template <int PLANES>
Vector output(Vector x, Coefficients<Affine, PLANES> affine, constant Rule &rule, Beside beside,
              Site site) {
    Wide v = activated(normalized(x, affine), rule, beside, site);
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) {
        v.v[j] = activate(beside.activation, rule.slope, v.v[j]);
    }
    return narrow(v);
}

// The gradient of the normalized elements, from that of the output, before any more rounding.
// `affine` counts only where the forward pass is recomputed.
template <int PLANES>
Wide upstream(Vector x, Vector dy, Coefficients<Affine, PLANES> affine, constant Rule &rule,
              Beside beside, Site site) {
    Wide g = widen(dy);
    if (beside.recomputes()) {
        const Wide z = normalized(x, affine);
        if (beside.activation != Activation::None) {
            Wide slope = activated(z, rule, beside, site);
#pragma unroll
            for (int j = 0; j < PER_VECTOR; ++j) {
                slope.v[j] = derive(beside.activation, rule.slope, slope.v[j]);
            }
            g = times(g, slope);
        }
        if (beside.dv.exists()) beside.dv.store(site, narrow(g));
        if (beside.dweights.exists()) beside.dweights.store(site, narrow(times(g, z)));
    }
    return scaled(g, rule, beside.weights, site);
}

template <int PLANES>
Vector input_gradient(Vector x, Wide g, Coefficients<Gradient, PLANES> gradient) {
    Wide dx;
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) dx.v[j] = gradient.at(j)(x.widened(j), g.v[j]);
    return narrow(dx);
}
