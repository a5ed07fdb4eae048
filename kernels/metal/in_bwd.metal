// The gradients of planes that fit on chip: x, dy and what goes with them are read once, dx (and
// the gradients per element) written once. Nothing is saved by the forward pass: one sweep over x
// and the gradient gives the moments of x with all else that dx needs. Where an activation has to
// be recomputed, the moments of x come first.

struct BackwardMemory {
    MeasureMemory<1> x;
    MeasureMemory<2> both;
};

template <typename Team, int N>
void backward(constant Call &call, Buffers on, Thread me, threadgroup BackwardMemory &memory) {
    const Team team(me);
    const bool exists = team.exists(call.shape.planes);
    const float weight = weight_of(call, on, team.plane);
    const Source from = source(call, call.x, X, on.x, team.plane);
    const Source from_dy = source(call, call.dy, DY, on.dy, team.plane);
    const Sink to = sink(call, call.out, OUT, on.out, team.plane);
    const auto fragment = fragment_of<N>(from, exists ? int(call.shape.spatial) : 0, team);
    const float n = fragment.run.size;
    Vector x[N + 1] = {}, dy[N + 1] = {};
    fragment.load(from, x);
    fragment.load_other(from_dy, dy);
    const PerElement per_element = per_element_of(call, on, team.plane);
    Coefficients<Affine<float>, 1> affine = {};
    if (per_element.recomputes()) {
        const Stats<float> stats(call.spec, measure(team, fragment, n, x, memory.x));
        affine.of[0] = {call.spec, stats, weight, bias_of(call, on, team.plane)};
    }
    Wide g[N + 1] = {};
#pragma unroll
    for (int k = 0; k <= N; ++k) {
        if (!fragment.has(k)) continue;
        g[k] = normalized_grad(x[k], dy[k], affine, call.spec, per_element, fragment.place(k));
    }

    const CoMoments<float> m = measure(team, fragment, n, x, g, memory.both);
    const Stats<float> stats(call.spec, m.x);
    if (team.first == 0 && exists) {
        const float sum = m.x.n * m.g.high + m.x.n * m.g.rest;
        put_shares(call, on, team.plane, stats, weight, sum, m.cross);
    }
    if (!to.exists()) return;
    // weight * g_mean, less the same with all its digits: nothing to cancel in f32.
    const float excess = -weight * m.g.rest, slope = weight * (m.cross / m.x.n);
    const Coefficients<Gradient<float>, 1> gradient = {
        {{call.spec, stats, weight, m.g.high, excess, slope}}};
#pragma unroll
    for (int k = 0; k <= N; ++k) {
        if (fragment.has(k)) to.store(fragment.place(k), input_gradient(x[k], g[k], gradient));
    }
}

#define BACKWARD(NAME, THREADS, N, ...)                                                            \
    KERNEL(THREADS) in_bwd_##NAME##N(ARGUMENTS(Call)) {                                            \
        threadgroup BackwardMemory memory;                                                         \
        backward<Team<__VA_ARGS__>, N>(call, BUFFERS, THREAD, memory);                             \
    }
#define LANES(L, N) BACKWARD(lanes##L##x, WARP *WARPS_PER_BLOCK, N, Tier::Lanes, L)

LANES(4, 1)
LANES(4, 2)
LANES(4, 4)
LANES(8, 4)
LANES(16, 4)
LANES(32, 4)
BACKWARD(block, MAX_THREADS, 1, Tier::Block)
BACKWARD(block, MAX_THREADS, 2, Tier::Block)
BACKWARD(block, MAX_THREADS, 4, Tier::Block)
#undef LANES
