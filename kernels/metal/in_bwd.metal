// The gradients of planes that fit on chip: x, dy and what goes with them are read once, dx (and
// the gradients per element) written once. Nothing is saved by the forward pass: one sweep over x
// and the gradient gives the moments of x with all else that dx needs. Where an activation has to
// be recomputed, the moments of x come first.

struct BackwardMemory {
    Moments<float> x[MAX_THREADS / WARP];
    CoMoments<float> both[MAX_THREADS / WARP];
};

template <Tier TIER, int N>
void backward(constant Call &call, Buffers on, Thread me, threadgroup BackwardMemory &memory) {
    const Team team = team_of<TIER>(me);
    if (team.plane >= call.shape.planes) return;  // a simdgroup; threadgroups are as many as planes
    const Source from = source(call, call.x, X, on.x, team.plane);
    const Source from_dy = source(call, call.dy, DY, on.dy, team.plane);
    const Span span = span_at(from.start, call.shape.spatial);
    const Fragment fragment = fragment_of(span, team.first, team.step);

    Vector x[N] = {}, dy[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k >= fragment.count) continue;
        x[k] = from.load(fragment.ref(k));
        dy[k] = from_dy.load(fragment.ref(k));
    }
    const float weight = weight_of(call, on, team.plane);
    const PerElement per_element = per_element_of(call, on, team.plane);
    Coefficients<Affine<float>, 1> affine = {};
    if (per_element.recomputes()) {
        const Moments<float> m = merged<TIER>(measure<N, 1>(fragment, x, 0), me, memory.x);
        const float bias = bias_of(call, on, team.plane);
        affine.of[0] = {call.spec, Stats<float>(call.spec, m), weight, bias};
    }
    Wide g[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k >= fragment.count) continue;
        g[k] = normalized_grad(x[k], dy[k], affine, call.spec, per_element, fragment.ref(k));
    }

    const CoMoments<float> m = merged<TIER>(measure<N, 1>(fragment, x, g, 0), me, memory.both);
    const Stats<float> stats(call.spec, m.x);
    if (team.first == 0) {
        const float sum = m.x.n * m.g.high + m.x.n * m.g.rest;
        put_shares(call, on, team.plane, stats, weight, sum, m.cross);
    }
    const Sink to = sink(call, call.out, OUT, on.out, team.plane);
    if (!to.exists()) return;
    // weight * g_mean, less the same with all its digits: nothing to cancel in f32.
    const float excess = -weight * m.g.rest, slope = weight * (m.cross / m.x.n);
    const Coefficients<Gradient<float>, 1> gradient = {
        {{call.spec, stats, weight, m.g.high, excess, slope}}};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k < fragment.count) to.store(fragment.ref(k), input_gradient(x[k], g[k], gradient));
    }
}

#define BACKWARD(TIER, NAME, THREADS, N)                                                           \
    KERNEL(THREADS) in_bwd_##NAME##N(ARGUMENTS(Call)) {                                            \
        threadgroup BackwardMemory memory;                                                         \
        backward<Tier::TIER, N>(call, BUFFERS, THREAD, memory);                                    \
    }

BACKWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 1)
BACKWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 2)
BACKWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 4)
BACKWARD(Block, block, MAX_THREADS, 1)
BACKWARD(Block, block, MAX_THREADS, 2)
BACKWARD(Block, block, MAX_THREADS, 4)
