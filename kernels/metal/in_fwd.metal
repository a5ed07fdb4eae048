// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of a simdgroup or of a threadgroup, and written once.

template <Tier TIER, int N>
void forward(constant Call &call, Buffers on, Thread me, threadgroup Moments<float> *memory) {
    const Team team = team_of<TIER>(me);
    if (team.plane >= call.shape.planes) return;  // a simdgroup; threadgroups are as many as planes
    const Source from = source(call, call.x, X, on.x, team.plane);
    const Span span = span_at(from.start, call.shape.spatial);
    const Fragment fragment = fragment_of(span, team.first, team.step);

    Vector x[N] = {};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k < fragment.count) x[k] = from.load(fragment.ref(k));
    }
    const Moments<float> m = merged<TIER>(measure<N, 1>(fragment, x, 0), me, memory);
    Stats<float> stats(call.spec, m);
    if (has(call, MEAN)) stats = given_stats<float>(call, on, team.plane);
    const float weight = weight_of(call, on, team.plane), bias = bias_of(call, on, team.plane);
    const Coefficients<Affine<float>, 1> affine = {{{call.spec, stats, weight, bias}}};
    const Sink to = sink(call, call.out, OUT, on.out, team.plane);
    const PerElement per_element = per_element_of(call, on, team.plane);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (k >= fragment.count) continue;
        const VectorRef ref = fragment.ref(k);
        to.store(ref, output(x[k], affine, call.spec, per_element, ref));
    }
}

#define FORWARD(TIER, NAME, THREADS, N)                                                            \
    KERNEL(THREADS) in_fwd_##NAME##N(ARGUMENTS(Call)) {                                            \
        threadgroup Moments<float> memory[MAX_THREADS / WARP];                                     \
        forward<Tier::TIER, N>(call, BUFFERS, THREAD, memory);                                     \
    }

FORWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 1)
FORWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 2)
FORWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 4)
FORWARD(Lanes, lanes32x, WARP *WARPS_PER_BLOCK, 8)
FORWARD(Block, block, MAX_THREADS, 2)
FORWARD(Block, block, MAX_THREADS, 4)
FORWARD(Block, block, MAX_THREADS, 8)
