// The gradients of planes that fit on chip: x, dy and what goes with them are read once, dx (and
// the gradients per element) written once. Nothing is saved by the forward pass: one sweep over x
// and the gradient gives the moments of x with all else that dx needs. Where an activation has to
// be recomputed, the moments of x come first.

struct BackwardRoom {
    Moments<float> x[MAX_THREADS / WARP];
    CoMoments<float> both[MAX_THREADS / WARP];
};

template <Tier TIER, int N>
void backward(constant Call &call, Buffers on, Place place, threadgroup BackwardRoom &room) {
    const Team team = team_of<TIER>(place);
    if (team.plane >= call.shape.planes) return;  // a simdgroup; threadgroups are as many as planes
    const Source from = source(call, call.x, X, on.x, team.plane);
    const Source from_dy = source(call, call.dy, DY, on.dy, team.plane);
    const Held held = every(window_at(from.start, call.shape.spatial), team.first, team.step);

    Vector x[N] = {}, dy[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k >= held.count) continue;
        x[k] = from.load(held.site(k));
        dy[k] = from_dy.load(held.site(k));
    }
    const float weight = weight_of(call, on, team.plane);
    const Beside beside = beside_of(call, on, team.plane);
    Coefficients<Affine, 1> affine = {};
    if (beside.recomputes()) {
        const Moments<float> m = merged<TIER>(measure<N, 1>(held, x, 0), place, room.x);
        const float bias = bias_of(call, on, team.plane);
        affine.of[0] = affine_of(call.rule, norm_of(call.rule, m), weight, bias);
    }
    Wide g[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k >= held.count) continue;
        g[k] = upstream(x[k], dy[k], affine, call.rule, beside, held.site(k));
    }

    const CoMoments<float> m = merged<TIER>(measure<N, 1>(held, x, g, 0), place, room.both);
    const Norm<float> norm = norm_of(call.rule, m.x);
    if (team.first == 0) {
        const float sum = m.x.n * m.g.high + m.x.n * m.g.rest;
        put_shares(call, on, team.plane, norm, weight, sum, m.cross);
    }
    const Sink to = sink(call, call.out, OUT, on.out, team.plane);
    if (!to.exists()) return;
    // weight * g_mean, less the same with all its digits: nothing to cancel in f32.
    const float excess = -weight * m.g.rest, slope = weight * (m.cross / m.x.n);
    const Coefficients<Gradient, 1> gradient = {
        {gradient_of(call.rule, norm, weight, m.g.high, excess, slope)}};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k < held.count) to.store(held.site(k), input_gradient(x[k], g[k], gradient));
    }
}

#define BACKWARD(TIER, NAME, THREADS, N)                                                           \
    KERNEL(THREADS) in_bwd_##NAME##N(ARGUMENTS(Call)) {                                            \
        threadgroup BackwardRoom room;                                                             \
        backward<Tier::TIER, N>(call, BUFFERS, PLACE, room);                                       \
    }

BACKWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 1)
BACKWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 2)
BACKWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 4)
BACKWARD(Block, block, MAX_THREADS, 1)
BACKWARD(Block, block, MAX_THREADS, 2)
BACKWARD(Block, block, MAX_THREADS, 4)
