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

    long offset() const { return ahead + (vector * PER_VECTOR - span.head); }
    bool has(int j) const { return span.has(vector, j); }

    // True if one access does, at this element of a buffer. Where the 16-byte boundaries of a tensor
    // are not those that the span was made for (one at another start), elements go one by one.
    bool at_once(long at) const { return span.whole(vector) && at % PER_VECTOR == 0; }
};

// The elements of a tensor from number `start` of its buffer on; `data` is null where there is none.
struct Source {
    device const T *data;
    long start;

    bool exists() const { return data != nullptr; }

    Vector load(VectorRef ref) const {
        const long at = start + ref.offset();
        if (ref.at_once(at)) return *(device const Vector *)(data + at);
        Vector out = {};
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (ref.has(j)) out.quads[j / 4][j % 4] = data[at + j];
        }
        return out;
    }
};

// A tensor that is written, likewise.
struct Sink {
    device T *data;
    long start;

    bool exists() const { return data != nullptr; }

    void store(VectorRef ref, Vector value) const {
        const long at = start + ref.offset();
        if (ref.at_once(at)) {
            *(device Vector *)(data + at) = value;
            return;
        }
#pragma unroll
        for (int j = 0; j < PER_VECTOR; ++j) {
            if (ref.has(j)) data[at + j] = value.quads[j / 4][j % 4];
        }
    }
};

// Vectors that a thread has: number k is `k * vector_step` vectors and `k * ahead_step` elements
// behind the first.
struct Fragment {
    Span span;
    int vector, vector_step;
    long ahead, ahead_step;
    int count;

    VectorRef ref(int k) const { return {span, vector + k * vector_step, ahead + k * ahead_step}; }

    bool has(int k, int j) const { return k < count && span.has(vector + k * vector_step, j); }

    // The vectors from number k on.
    Fragment from(int k) const {
        const VectorRef first = ref(k);
        return {span, first.vector, vector_step, first.ahead, ahead_step, count - k};
    }
};

// Every `step`th vector of a span from `first` on.
inline Fragment fragment_of(Span span, int first, int step) {
    const int count = max(0, (span.vectors() - first + step - 1) / step);
    return {span, first, step, 0, 0, count};
}

// A struct as one launch leaves it for the next, in whole vectors.
template <typename M> struct alignas(VECTOR_BYTES) Padded {
    M value;
};
