// Planes that are shared by threadgroups, or that share their statistics with others: one launch
// measures parts of planes, the next (finish.metal) makes every plane's coefficients of them, and the
// last one maps the elements. A thread has vectors of one plane (split), or, where the channels are
// adjacent, (N, *S, C), vectors of channels and thus elements of PER_VECTOR planes (columns).

constant constexpr int SPLIT = 1;             // planes of a thread
constant constexpr int COLUMNS = PER_VECTOR;  // of one with columns

// What a thread has.
struct Part {
    int base;    // the plane that tensors are taken from ...
    long start;  // ... and the element of it
    Held held;
    int plane;   // the first of its planes
    int end;     // that after the last one it may have
    int number;  // that of the part in its planes
};

// A team of threads has `cut.chunk` vectors of a plane, counted from the 16-byte boundary at or before
// the plane, so that all parts but the first start on one.
inline Part chunk_of(constant Call &call, constant Cut &cut, Place place) {
    const long id = long(place.group) * (SPLIT_THREADS / cut.team) + place.index / cut.team;
    const int plane = id / cut.chunks, number = id % cut.chunks, end = call.shape.planes;
    if (plane >= end) return {0, 0, {}, plane, end, 0};
    const long first = start_of(call, call.x, plane, 0);
    const long length = long(cut.chunk) * PER_VECTOR;
    const long begin = number * length - first % PER_VECTOR;
    const long start = max(0L, begin), stop = min(call.shape.spatial, begin + length);
    const Window window = window_at(first + start, max(0L, stop - start));
    return {plane, start, every(window, place.index % cut.team, cut.team), plane, end, number};
}

// A threadgroup has `cut.team` vectors of channels side by side, a power of two, and `cut.chunk`
// places of each.
inline Part columns_of(constant Call &call, constant Cut &cut, Place place) {
    const int c = call.shape.c, step = SPLIT_THREADS / cut.team;
    const Window window = {0, c};
    const int beside = (window.vectors() + cut.team - 1) / cut.team;  // threadgroups
    const int number = place.group / beside % cut.chunks, sample = place.group / beside / cut.chunks;
    const int vector = place.group % beside * cut.team + place.index % cut.team;
    const long begin = long(number) * cut.chunk, row = begin + place.index / cut.team;
    const long rows = min(call.shape.spatial, begin + cut.chunk) - row;
    // Beyond the last channel there is nothing.
    const int count = vector < window.vectors() ? max(0L, (rows + step - 1) / step) : 0;
    const Held held = {window, vector, 0, row * c, long(step) * c, count};
    const int base = sample * c;
    return {base, 0, held, base + vector * PER_VECTOR, base + c, number};
}

template <int PLANES> Part part_of(constant Call &call, constant Cut &cut, Place place) {
    return PLANES == SPLIT ? chunk_of(call, cut, place) : columns_of(call, cut, place);
}

// Where a simdgroup is a team, the last ones of the grid may have nothing to do. With columns a whole
// threadgroup merges, so that all its threads stay.
template <int PLANES> bool is_idle(Part part) { return PLANES == SPLIT && part.plane >= part.end; }

// The coefficients of a thread's planes, where there are any.
template <typename C, int PLANES> Coefficients<C, PLANES> coefficients(Part part, bool there, device void *all) {
    Coefficients<C, PLANES> out = {};
#pragma unroll
    for (int p = 0; p < PLANES; ++p) {
        if (there && part.plane + p < part.end) {
            out.of[p] = ((device const Stored<C> *)all)[part.plane + p].value;
        }
    }
    return out;
}

// Results of a simdgroup for all the planes that a threadgroup has.
template <typename M, int PLANES> struct Room {
    M of[SPLIT_THREADS / WARP][PLANES == SPLIT ? 1 : MAX_COLUMNS * PLANES];
};

// Merges what the threads of a part have of each plane, in the order of the threads.
template <typename M, int PLANES>
void put(Part part, constant Cut &cut, Place place, thread M *m, threadgroup Room<M, PLANES> &room,
         device void *parts) {
    const int columns = PLANES == SPLIT ? 1 : cut.team, column = place.index % columns;
    device Stored<M> *to = (device Stored<M> *)parts + part.number;
#pragma unroll
    for (int p = 0; p < PLANES; ++p) m[p] = simd_merge(m[p], place, columns);
    if (PLANES == SPLIT && cut.team == WARP) {
        if (place.lane() == 0) to[long(part.plane) * cut.chunks].value = m[0];
        return;
    }
    if (place.lane() < columns) {
#pragma unroll
        for (int p = 0; p < PLANES; ++p) room.of[place.simdgroup()][column * PLANES + p] = m[p];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int plane = part.plane - column * PLANES + place.index;
    if (place.index >= columns * PLANES || plane >= part.end) return;
    M total = room.of[0][place.index];
    for (int i = 1; i < SPLIT_THREADS / WARP; ++i) {
        const M next = room.of[i][place.index];
        total = merge(total, next);
    }
    to[long(plane) * cut.chunks].value = total;
}

// Vectors that a thread loads before it computes.
template <int PLANES> constexpr int rows() { return PLANES == SPLIT ? SPLIT_VECTORS : 2; }

template <int PLANES>
void part_moments(constant Call &call, constant Cut &cut, Buffers on, Place place,
                  threadgroup Room<Moments<float>, PLANES> &room) {
    constexpr int N = rows<PLANES>();
    const Part part = part_of<PLANES>(call, cut, place);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    Moments<float> m[PLANES] = {};
    for (int i = 0; i < part.held.count; i += N) {
        const Held held = part.held.from(i);
        Vector x[N] = {};
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (k < held.count) x[k] = from.load(held.site(k));
        }
#pragma unroll
        for (int p = 0; p < PLANES; ++p) m[p] = merge(m[p], measure<N, PLANES>(held, x, p));
    }
    put<Moments<float>, PLANES>(part, cut, place, m, room, on.parts);
}

template <int PLANES>
void part_comoments(constant Call &call, constant Cut &cut, Buffers on, Place place,
                    threadgroup Room<CoMoments<float>, PLANES> &room) {
    constexpr int N = rows<PLANES>();
    const Part part = part_of<PLANES>(call, cut, place);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    const Source from_dy = source(call, call.dy, DY, on.dy, part.base, part.start);
    const Beside beside = beside_of(call, on, part.base, part.start).reads();
    const Coefficients<Affine, PLANES> affine =
        coefficients<Affine, PLANES>(part, has(call, AFFINES), on.affines);
    CoMoments<float> m[PLANES] = {};
    for (int i = 0; i < part.held.count; i += N) {
        const Held held = part.held.from(i);
        Vector x[N] = {};
        Wide g[N] = {};
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (k >= held.count) continue;
            const Site site = held.site(k);
            x[k] = from.load(site);
            g[k] = upstream(x[k], from_dy.load(site), affine, call.rule, beside, site);
        }
#pragma unroll
        for (int p = 0; p < PLANES; ++p) m[p] = merge(m[p], measure<N, PLANES>(held, x, g, p));
    }
    put<CoMoments<float>, PLANES>(part, cut, place, m, room, on.parts);
}

template <int PLANES>
void part_write(constant Call &call, constant Cut &cut, Buffers on, Place place) {
    const Part part = part_of<PLANES>(call, cut, place);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    const Sink to = sink(call, call.out, OUT, on.out, part.base, part.start);
    const Beside beside = beside_of(call, on, part.base, part.start);
    const Coefficients<Affine, PLANES> affine =
        coefficients<Affine, PLANES>(part, has(call, AFFINES), on.affines);
    for (int k = 0; k < part.held.count; ++k) {
        const Site site = part.held.site(k);
        to.store(site, output(from.load(site), affine, call.rule, beside, site));
    }
}

template <int PLANES>
void part_write_grad(constant Call &call, constant Cut &cut, Buffers on, Place place) {
    const Part part = part_of<PLANES>(call, cut, place);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    const Source from_dy = source(call, call.dy, DY, on.dy, part.base, part.start);
    const Sink to = sink(call, call.out, OUT, on.out, part.base, part.start);
    const Beside beside = beside_of(call, on, part.base, part.start);
    const Coefficients<Affine, PLANES> affine =
        coefficients<Affine, PLANES>(part, has(call, AFFINES), on.affines);
    const Coefficients<Gradient, PLANES> gradient =
        coefficients<Gradient, PLANES>(part, has(call, GRADIENTS), on.gradients);
    for (int k = 0; k < part.held.count; ++k) {
        const Site site = part.held.site(k);
        const Vector x = from.load(site), dy = from_dy.load(site);
        const Wide g = upstream(x, dy, affine, call.rule, beside, site);
        if (to.exists()) to.store(site, input_gradient(x, g, gradient));
    }
}

#define PARTS_OF(NAME, PLANES)                                                                     \
    KERNEL(SPLIT_THREADS) in_##NAME##_moments(ARGUMENTS(Call)) {                                   \
        threadgroup Room<Moments<float>, PLANES> room;                                             \
        part_moments<PLANES>(call, cut, BUFFERS, PLACE, room);                                     \
    }                                                                                              \
    KERNEL(SPLIT_THREADS) in_##NAME##_comoments(ARGUMENTS(Call)) {                                 \
        threadgroup Room<CoMoments<float>, PLANES> room;                                           \
        part_comoments<PLANES>(call, cut, BUFFERS, PLACE, room);                                   \
    }                                                                                              \
    KERNEL(SPLIT_THREADS) in_##NAME##_write(ARGUMENTS(Call)) {                                     \
        part_write<PLANES>(call, cut, BUFFERS, PLACE);                                             \
    }                                                                                              \
    KERNEL(SPLIT_THREADS) in_##NAME##_write_grad(ARGUMENTS(Call)) {                                \
        part_write_grad<PLANES>(call, cut, BUFFERS, PLACE);                                        \
    }

PARTS_OF(split, SPLIT)
PARTS_OF(columns, COLUMNS)
