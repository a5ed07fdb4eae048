// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of a simdgroup or of a threadgroup, and written once.

template <Tier TIER, int N>
void forward(constant Call &call, Buffers on, Place place, threadgroup Moments<float> *room) {
    const Team team = team_of<TIER>(place);
    if (team.plane >= call.shape.planes) return;  // a simdgroup; threadgroups are as many as planes
    const Source from = source(call, call.x, X, on.x, team.plane);
    const Held held = every(window_at(from.start, call.shape.spatial), team.first, team.step);

    Vector x[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k < held.count) x[k] = from.load(held.site(k));
    }
    const Moments<float> m = merged<TIER>(measure<N, 1>(held, x, 0), place, room);
    Norm<float> norm = norm_of(call.rule, m);
    if (has(call, MEAN)) norm = given_norm<float>(call, on, team.plane);
    const float weight = weight_of(call, on, team.plane), bias = bias_of(call, on, team.plane);
    const Coefficients<Affine, 1> affine = {{affine_of(call.rule, norm, weight, bias)}};
    const Sink to = sink(call, call.out, OUT, on.out, team.plane);
    const Beside beside = beside_of(call, on, team.plane);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k >= held.count) continue;
        const Site site = held.site(k);
        to.store(site, output(x[k], affine, call.rule, beside, site));
    }
}

#define FORWARD(TIER, NAME, THREADS, N)                                                            \
    KERNEL(THREADS) in_fwd_##NAME##N(ARGUMENTS(Call)) {                                            \
        threadgroup Moments<float> room[MAX_THREADS / WARP];                                       \
        forward<Tier::TIER, N>(call, BUFFERS, PLACE, room);                                        \
    }

FORWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 1)
FORWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 2)
FORWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 4)
FORWARD(Warp, lanes32x, WARP *WARPS_PER_BLOCK, 8)
FORWARD(Block, block, MAX_THREADS, 2)
FORWARD(Block, block, MAX_THREADS, 4)
FORWARD(Block, block, MAX_THREADS, 8)
