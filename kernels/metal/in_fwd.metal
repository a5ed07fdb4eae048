// y = activation((x - mean) * rstd * weight + bias + residual) of planes that fit on chip: each is
// read once, into the registers of some lanes or of a threadgroup, and written once. Without a y, the
// statistics alone.

// The statistics of a plane: those that are given, or its own. All threads of a team call this.
template <typename Team, int N, int S>
Stats<float> stats_of_plane(constant Call &call, Buffers on, Team team, Fragment<N, S> fragment,
                            thread const Vector *x, threadgroup MeasureMemory<1> &memory) {
    if (has(call, MEAN)) return given_stats<float>(call, on, team.plane);
    return {call.spec, measure(team, fragment, fragment.run.size, x, memory)};
}

template <typename Team, int N>
void forward(constant Call &call, Buffers on, Thread me, threadgroup MeasureMemory<1> &memory) {
    const Team team(me);
    const bool exists = team.exists(call.shape.planes);
    const Source from = source(call, call.x, X, on.x, team.plane);
    const Sink to = sink(call, call.out, OUT, on.out, team.plane);
    const auto fragment = fragment_of<N>(from, exists ? int(call.shape.spatial) : 0, team);
    Vector x[N + 1] = {};
    fragment.load(from, x);
    const float weight = weight_of(call, on, team.plane), bias = bias_of(call, on, team.plane);
    const Stats<float> stats = stats_of_plane(call, on, team, fragment, x, memory);
    if (!to.exists()) {
        if (team.first == 0 && exists) put_statistics(call, on, team.plane, stats);
        return;
    }
    const Coefficients<Affine<float>, 1> affine = {{{call.spec, stats, weight, bias}}};
    const PerElement per_element = per_element_of(call, on, team.plane);
#pragma unroll
    for (int k = 0; k <= N; ++k) {
        if (!fragment.has(k)) continue;
        const auto place = fragment.place(k);
        to.store(place, output(x[k], affine, call.spec, per_element, place));
    }
}

#define FORWARD(NAME, THREADS, N, ...)                                                             \
    KERNEL(THREADS) in_fwd_##NAME##N(ARGUMENTS(Call)) {                                            \
        threadgroup MeasureMemory<1> memory;                                                       \
        forward<Team<__VA_ARGS__>, N>(call, BUFFERS, THREAD, memory);                              \
    }
#define LANES(L, N) FORWARD(lanes##L##x, WARP *WARPS_PER_BLOCK, N, Tier::Lanes, L)

LANES(4, 1)
LANES(4, 2)
LANES(4, 4)
LANES(8, 4)
LANES(16, 4)
LANES(32, 4)
LANES(32, 8)
FORWARD(block, MAX_THREADS, 2, Tier::Block)
FORWARD(block, MAX_THREADS, 4, Tier::Block)
FORWARD(block, MAX_THREADS, 8, Tier::Block)
#undef LANES
