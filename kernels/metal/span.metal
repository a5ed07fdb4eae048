// Element types, and planes seen as 16-byte vectors. Rust puts the launch constants and ELEMENT in
// front of this, and the other files behind it: see src/gpu/metal/module.rs.
#include <metal_stdlib>
using namespace metal;

// The macros and types that the files of kernels/shared leave to the language.
#define FN inline
#define IN(TYPE) TYPE
#define CONSTANT constant
using Real = float;
using Integer = long;
using Origin = long;
template <typename A> A reciprocal(A n) { return A(1) / n; }

// A mean's rest must not be computed away, and NaN must stay NaN. Compilers that know neither (Metal
// before 3.2) are told by the compile options, and contract nothing that matters.
#pragma METAL fp math_mode(safe)
#pragma METAL fp contract(off)

using T = ELEMENT;  // sums are kept in f32 for all of them

constant constexpr int PER_VECTOR = VECTOR_BYTES / sizeof(T);
constant constexpr int QUADS = PER_VECTOR / 4;

struct Vector {
    vec<T, 4> quads[QUADS];

    float widened(int j) const { return float(quads[j / 4][j % 4]); }
};

// The elements of a vector before they are rounded to its type.
struct Wide {
    float v[PER_VECTOR];
};

inline Wide widen(Vector x) {
    Wide out;
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) out.v[j] = x.widened(j);
    return out;
}

inline Vector narrow(Wide x) {
    Vector out;
#pragma unroll
    for (int j = 0; j < PER_VECTOR; ++j) out.quads[j / 4][j % 4] = T(x.v[j]);
    return out;
}

// Places of a tensor are a Place (of what is kept on chip) or a VectorRef (of what is not): has(j) where
// there is a j-th element, which is offset(j) behind the one that the tensor is taken from. is_vector()
// is true where all are there and adjacent. Where the 16-byte boundaries of a tensor are not those that
// its places were made for (one at another start), vectors too go one by one.

// The elements of a tensor from number `start` of its buffer on; `data` is null where there is none.
struct Source {
    device const T *data;
    long start;

    bool exists() const { return data != nullptr; }
    bool is_aligned(long offset) const { return (start + offset) % PER_VECTOR == 0; }

    Vector whole(long offset) const { return *(device const Vector *)(data + start + offset); }

    template <typename P> Vector load(P place) const {
        if (place.is_vector() && is_aligned(place.offset(0))) return whole(place.offset(0));
        Vector out = {};
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (place.has(j)) out.quads[j / 4][j % 4] = data[start + place.offset(j)];
        }
        return out;
    }
};

// A tensor that is written, likewise.
struct Sink {
    device T *data;
    long start;

    bool exists() const { return data != nullptr; }

    template <typename P> void store(P place, Vector value) const {
        const long at = start + place.offset(0);
        if (place.is_vector() && at % PER_VECTOR == 0) {
            *(device Vector *)(data + at) = value;
            return;
        }
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (place.has(j)) data[start + place.offset(j)] = value.quads[j / 4][j % 4];
        }
    }
};

// A vector of a run, from its element number `at[0]` on, or S single elements; -1 where there is none.
template <int S> struct Place {
    bool adjacent;
    int at[S];

    bool has(int j) const { return adjacent || (j < S && at[j] >= 0); }
    long offset(int j) const { return adjacent ? at[0] + j : at[j]; }
    bool is_vector() const { return adjacent; }
};

// A run of adjacent elements, as whole vectors between 16-byte boundaries and the elements that are
// left at both ends, which the first threads have one by one.
struct Run {
    int size, head, vectors;

    // The element of the i-th thread that no vector has, or -1.
    int single(int i) const {
        const int behind = head + (vectors - 1) * PER_VECTOR + i;
        return i < head ? i : i >= PER_VECTOR && behind < size ? behind : -1;
    }
};

// `size` elements from number `start` of a buffer on: buffers start on a boundary.
inline Run run_at(long start, int size) {
    const int head = min(size, int((PER_VECTOR - start % PER_VECTOR) % PER_VECTOR));
    return {size, head, (size - head) / PER_VECTOR};
}

// The share of a thread in a run: the vectors `first + k * step` for k < N, and as number N the single
// elements.
template <int N, int S> struct Fragment {
    Run run;
    int first, step;
    Place<S> singles;

    bool has(int k, int j) const {
        return k < N ? first + k * step < run.vectors : singles.has(j);
    }

    // True if there is anything of number k.
    bool has(int k) const {
        bool any = has(k, 0);
#pragma unroll
        for (int j = 1; j < S; ++j) any = any || has(k, j);
        return any;
    }

    Place<S> place(int k) const {
        if (k == N) return singles;
        return {true, {run.head + (first + k * step) * PER_VECTOR}};
    }

    // Loads x, whose boundaries the run was made for. No vector needs a branch, so that all are asked for
    // before any is waited for.
    void load(Source from, thread Vector *x) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (has(k)) x[k] = from.whole(place(k).offset(0));
        }
        x[N] = from.load(singles);
    }

    // Loads another tensor, whose boundaries may be elsewhere.
    void load_other(Source from, thread Vector *x) const {
        if (from.is_aligned(run.head)) return load(from, x);
#pragma unroll
        for (int k = 0; k <= N; ++k) {
            if (has(k)) x[k] = from.load(place(k));
        }
    }
};

// The elements [head, end) of a run of vectors; the first and the last may be there in part. The
// head is in the first one.
struct Span {
    int head, end;

    int vectors() const { return (end + PER_VECTOR - 1) / PER_VECTOR; }

    bool whole(int vector) const {
        return (vector > 0 || head == 0) && (vector + 1) * PER_VECTOR <= end;
    }

    bool has(int vector, int j) const {
        const int i = vector * PER_VECTOR + j;
        return i >= head && i < end;
    }
};

// `size` elements from number `start` of a buffer on, counted from the 16-byte boundary at or before
// it: buffers start on one.
inline Span span_at(long start, long size) {
    const int head = start % PER_VECTOR;
    return {head, int(head + size)};
}

// A vector of a span, which starts `ahead` elements behind the one that the tensor is taken from.
struct VectorRef {
    Span span;
    int vector;
    long ahead;

    bool has(int j) const { return span.has(vector, j); }
    long offset(int j) const { return ahead + (vector * PER_VECTOR - span.head) + j; }
    bool is_vector() const { return span.whole(vector); }
};

// Vectors that a thread has: number k is `k * vector_step` vectors and `k * ahead_step` elements
// behind the first.
struct Vectors {
    Span span;
    int vector, vector_step;
    long ahead, ahead_step;
    int count;

    VectorRef ref(int k) const { return {span, vector + k * vector_step, ahead + k * ahead_step}; }

    bool has(int k, int j) const { return k < count && span.has(vector + k * vector_step, j); }

    // The vectors from number k on.
    Vectors from(int k) const {
        const VectorRef first = ref(k);
        return {span, first.vector, vector_step, first.ahead, ahead_step, count - k};
    }
};

// Every `step`th vector of a span from `first` on.
inline Vectors vectors_of(Span span, int first, int step) {
    const int count = max(0, (span.vectors() - first + step - 1) / step);
    return {span, first, step, 0, 0, count};
}

// A struct as one launch leaves it for the next, in whole vectors.
template <typename M> struct alignas(VECTOR_BYTES) Padded {
    M value;
};
