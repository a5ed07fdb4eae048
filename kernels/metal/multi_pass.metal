// Planes that are shared by threadgroups, or that share their statistics with others: one launch
// measures parts of planes, the next (finish.metal) makes every plane's coefficients of them, and the
// last one maps the elements. Where a group has few parts, the last one makes the coefficients itself.
// A thread has vectors of one plane (split), or, where the channels are
// adjacent, (N, *S, C), vectors of channels and thus elements of PER_VECTOR planes (columns).

constant constexpr int SPLIT = 1;             // planes of a thread
constant constexpr int COLUMNS = PER_VECTOR;  // of one with columns

// The share of a thread.
struct Part {
    int base;    // the plane that tensors are taken from ...
    long start;  // ... and the element of it
    Vectors vectors;
    int plane;   // the first of its planes
    int end;     // that after the last one it may have
    int number;  // that of the part in its planes
};

// A team of threads has `chunks.length` vectors of a plane, counted from the 16-byte boundary at or before
// the plane, so that all parts but the first start on one.
inline Part chunk_of(constant Call &call, constant Chunks &chunks, Thread me) {
    const long id = long(me.position) * (SPLIT_THREADS / chunks.team) + me.index / chunks.team;
    const int plane = id / chunks.count, number = id % chunks.count, end = call.shape.planes;
    if (plane >= end) return {0, 0, {}, plane, end, 0};
    const long first = start_of(call, call.x, plane, 0);
    const long length = long(chunks.length) * PER_VECTOR;
    const long begin = number * length - first % PER_VECTOR;
    const long start = max(0L, begin), stop = min(call.shape.spatial, begin + length);
    const Span span = span_at(first + start, max(0L, stop - start));
    return {plane, start, vectors_of(span, me.index % chunks.team, chunks.team), plane, end, number};
}

// A threadgroup has `chunks.team` vectors of channels side by side, a power of two, and `chunks.length`
// places of each.
inline Part columns_of(constant Call &call, constant Chunks &chunks, Thread me) {
    const int c = call.shape.c, step = SPLIT_THREADS / chunks.team;
    const Span span = {0, c};
    const int side_by_side = (span.vectors() + chunks.team - 1) / chunks.team;  // threadgroups
    const int number = me.position / side_by_side % chunks.count;
    const int sample = me.position / side_by_side / chunks.count;
    const int vector = me.position % side_by_side * chunks.team + me.index % chunks.team;
    const long begin = long(number) * chunks.length, row = begin + me.index / chunks.team;
    const long rows = min(call.shape.spatial, begin + chunks.length) - row;
    // Beyond the last channel there is nothing.
    const int count = vector < span.vectors() ? max(0L, (rows + step - 1) / step) : 0;
    const Vectors vectors = {span, vector, 0, row * c, long(step) * c, count};
    const int base = sample * c;
    return {base, 0, vectors, base + vector * PER_VECTOR, base + c, number};
}

template <int PLANES> Part part_of(constant Call &call, constant Chunks &chunks, Thread me) {
    return PLANES == SPLIT ? chunk_of(call, chunks, me) : columns_of(call, chunks, me);
}

// Where a simdgroup is a team, the last ones of the grid may have nothing to do. With columns a whole
// threadgroup merges, so that all its threads stay.
template <int PLANES> bool is_idle(Part part) { return PLANES == SPLIT && part.plane >= part.end; }

// The coefficients of a thread's planes, where there are any.
template <typename C, int PLANES>
Coefficients<C, PLANES> coefficients(Part part, bool there, device void *all) {
    Coefficients<C, PLANES> out = {};
#pragma unroll
    for (int p = 0; p < PLANES; ++p) {
        if (there && part.plane + p < part.end) {
            out.of[p] = ((device const Padded<C> *)all)[part.plane + p].value;
        }
    }
    return out;
}

// Results of a simdgroup for all the planes that a threadgroup has.
template <typename M, int PLANES> struct PartMemory {
    M of[SPLIT_THREADS / WARP][PLANES == SPLIT ? 1 : MAX_COLUMNS * PLANES];
};

// Merges what the threads of a part have of each plane, in the order of the threads.
template <typename M, int PLANES>
void put(Part part, constant Chunks &chunks, Thread me, thread M *m,
         threadgroup PartMemory<M, PLANES> &memory, device void *parts) {
    const int columns = PLANES == SPLIT ? 1 : chunks.team, column = me.index % columns;
    device Padded<M> *to = (device Padded<M> *)parts + part.number;
#pragma unroll
    for (int p = 0; p < PLANES; ++p) m[p] = simd_merge(m[p], me, columns);
    if (PLANES == SPLIT && chunks.team == WARP) {
        if (me.lane() == 0) to[long(part.plane) * chunks.count].value = m[0];
        return;
    }
    if (me.lane() < columns) {
#pragma unroll
        for (int p = 0; p < PLANES; ++p) memory.of[me.simdgroup()][column * PLANES + p] = m[p];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int plane = part.plane - column * PLANES + me.index;
    if (me.index >= columns * PLANES || plane >= part.end) return;
    M total = memory.of[0][me.index];
    for (int i = 1; i < SPLIT_THREADS / WARP; ++i) {
        const M next = memory.of[i][me.index];
        total = merge(total, next);
    }
    to[long(plane) * chunks.count].value = total;
}

// Vectors that a thread loads before it computes.
template <int PLANES> constexpr int rows() { return PLANES == SPLIT ? SPLIT_VECTORS : 2; }

template <int PLANES>
void part_moments(constant Call &call, constant Chunks &chunks, Buffers on, Thread me,
                  threadgroup PartMemory<Moments<float>, PLANES> &memory) {
    constexpr int N = rows<PLANES>();
    const Part part = part_of<PLANES>(call, chunks, me);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    Moments<float> m[PLANES] = {};
    for (int i = 0; i < part.vectors.count; i += N) {
        const Vectors some = part.vectors.from(i);
        Vector x[N] = {};
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (k < some.count) x[k] = from.load(some.ref(k));
        }
#pragma unroll
        for (int p = 0; p < PLANES; ++p) m[p] = merge(m[p], moments<N, PLANES>(some, x, p));
    }
    put<Moments<float>, PLANES>(part, chunks, me, m, memory, on.parts);
}

template <int PLANES>
void part_comoments(constant Call &call, constant Chunks &chunks, Buffers on, Thread me,
                    threadgroup PartMemory<CoMoments<float>, PLANES> &memory) {
    constexpr int N = rows<PLANES>();
    const Part part = part_of<PLANES>(call, chunks, me);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    const Source from_dy = source(call, call.dy, DY, on.dy, part.base, part.start);
    const PerElement per_element = per_element_of(call, on, part.base, part.start).reads();
    const Coefficients<Affine<float>, PLANES> affine =
        coefficients<Affine<float>, PLANES>(part, has(call, AFFINES), on.affines);
    CoMoments<float> m[PLANES] = {};
    for (int i = 0; i < part.vectors.count; i += N) {
        const Vectors some = part.vectors.from(i);
        Vector x[N] = {};
        Wide g[N] = {};
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (k >= some.count) continue;
            const VectorRef ref = some.ref(k);
            x[k] = from.load(ref);
            g[k] = normalized_grad(x[k], from_dy.load(ref), affine, call.spec, per_element, ref);
        }
#pragma unroll
        for (int p = 0; p < PLANES; ++p) m[p] = merge(m[p], comoments<N, PLANES>(some, x, g, p));
    }
    put<CoMoments<float>, PLANES>(part, chunks, me, m, memory, on.parts);
}

// The moments of a group, whose first plane this is, from the parts of all its planes, in each thread of a
// simdgroup.
inline Moments<float> merge_parts(constant Call &call, constant Chunks &chunks, Buffers on, int first,
                                  Thread me) {
    device const Padded<Moments<float>> *parts =
        (device const Padded<Moments<float>> *)on.parts + long(first) * chunks.count;
    Moments<float> m = {};
    for (int i = me.lane(); i < call.shape.channels_per_group * chunks.count; i += WARP) {
        const Moments<float> part = parts[i].value;
        m = merge(m, part);
    }
    return simd_merge(m, me);
}

// The coefficients of the forward pass. Without AFFINES they are of the statistics that are given, or that
// each simdgroup merges from the parts of the group; there is one plane then.
template <int PLANES>
Coefficients<Affine<float>, PLANES> affines_of(constant Call &call, constant Chunks &chunks,
                                               Buffers on, Part part, Thread me) {
    if (PLANES != SPLIT || has(call, AFFINES)) {
        return coefficients<Affine<float>, PLANES>(part, has(call, AFFINES), on.affines);
    }
    Stats<float> stats;
    if (has(call, MEAN)) {
        stats = given_stats<float>(call, on, part.plane);
    } else {
        const int size = call.shape.channels_per_group, first = part.plane / size * size;
        stats = {call.spec, merge_parts(call, chunks, on, first, me)};
    }
    Coefficients<Affine<float>, PLANES> out = {};
    const float weight = weight_of(call, on, part.plane), bias = bias_of(call, on, part.plane);
    out.of[0] = {call.spec, stats, weight, bias};
    return out;
}

template <int PLANES>
void part_write(constant Call &call, constant Chunks &chunks, Buffers on, Thread me) {
    const Part part = part_of<PLANES>(call, chunks, me);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    const Sink to = sink(call, call.out, OUT, on.out, part.base, part.start);
    const PerElement per_element = per_element_of(call, on, part.base, part.start);
    const Coefficients<Affine<float>, PLANES> affine =
        affines_of<PLANES>(call, chunks, on, part, me);
    for (int k = 0; k < part.vectors.count; ++k) {
        const VectorRef ref = part.vectors.ref(k);
        to.store(ref, output(from.load(ref), affine, call.spec, per_element, ref));
    }
}

template <int PLANES>
void part_write_grad(constant Call &call, constant Chunks &chunks, Buffers on, Thread me) {
    const Part part = part_of<PLANES>(call, chunks, me);
    if (is_idle<PLANES>(part)) return;
    const Source from = source(call, call.x, X, on.x, part.base, part.start);
    const Source from_dy = source(call, call.dy, DY, on.dy, part.base, part.start);
    const Sink to = sink(call, call.out, OUT, on.out, part.base, part.start);
    const PerElement per_element = per_element_of(call, on, part.base, part.start);
    const Coefficients<Affine<float>, PLANES> affine =
        coefficients<Affine<float>, PLANES>(part, has(call, AFFINES), on.affines);
    const Coefficients<Gradient<float>, PLANES> gradient =
        coefficients<Gradient<float>, PLANES>(part, has(call, GRADIENTS), on.gradients);
    for (int k = 0; k < part.vectors.count; ++k) {
        const VectorRef ref = part.vectors.ref(k);
        const Vector x = from.load(ref), dy = from_dy.load(ref);
        const Wide g = normalized_grad(x, dy, affine, call.spec, per_element, ref);
        if (to.exists()) to.store(ref, input_gradient(x, g, gradient));
    }
}

#define MULTI_PASS_KERNELS(NAME, PLANES)                                                           \
    KERNEL(SPLIT_THREADS) in_##NAME##_moments(ARGUMENTS(Call)) {                                   \
        threadgroup PartMemory<Moments<float>, PLANES> memory;                                     \
        part_moments<PLANES>(call, chunks, BUFFERS, THREAD, memory);                               \
    }                                                                                              \
    KERNEL(SPLIT_THREADS) in_##NAME##_comoments(ARGUMENTS(Call)) {                                 \
        threadgroup PartMemory<CoMoments<float>, PLANES> memory;                                   \
        part_comoments<PLANES>(call, chunks, BUFFERS, THREAD, memory);                             \
    }                                                                                              \
    KERNEL(SPLIT_THREADS) in_##NAME##_write(ARGUMENTS(Call)) {                                     \
        part_write<PLANES>(call, chunks, BUFFERS, THREAD);                                         \
    }                                                                                              \
    KERNEL(SPLIT_THREADS) in_##NAME##_write_grad(ARGUMENTS(Call)) {                                \
        part_write_grad<PLANES>(call, chunks, BUFFERS, THREAD);                                    \
    }

MULTI_PASS_KERNELS(split, SPLIT)
MULTI_PASS_KERNELS(columns, COLUMNS)
