// Sums of two floats, for the few operations a plane of finish.metal.

// high + low, with |low| at most half of the last digit of high: 48 bits.
struct Float2 {
    float high, low;

    Float2() = default;
    Float2(float v) : high(v), low(0) {}
    Float2(float high, float low) : high(high), low(low) {}

    explicit operator float() const { return high; }
    Float2 operator-() const { return {-high, -low}; }
};

// a + b where |a| >= |b|; what is infinite or NaN has no second part.
inline Float2 carry(float a, float b) {
    const float high = a + b;
    return {high, isfinite(high) ? b - (high - a) : 0};
}

// a + b and its rounding, whichever is larger.
inline Float2 two_sum(float a, float b) {
    const float high = a + b, of_b = high - a, of_a = high - of_b;
    return {high, isfinite(high) ? (a - of_a) + (b - of_b) : 0};
}

inline Float2 operator+(Float2 a, Float2 b) {
    const Float2 sum = two_sum(a.high, b.high);
    return carry(sum.high, sum.low + (a.low + b.low));
}

inline Float2 operator-(Float2 a, Float2 b) { return a + -b; }

inline Float2 operator*(Float2 a, Float2 b) {
    const float high = a.high * b.high;
    if (!isfinite(high)) return high;
    const float low = fma(a.high, b.high, -high);
    return carry(high, fma(a.high, b.low, fma(a.low, b.high, low)));
}

inline Float2 operator/(Float2 a, Float2 b) {
    const float high = a.high / b.high;
    if (!isfinite(high) || !isfinite(b.high)) return high;
    return carry(high, (a - b * high).high / b.high);
}

inline Float2 sqrt(Float2 a) {
    const float high = precise::sqrt(a.high);
    if (!isfinite(high) || high == 0) return high;
    return carry(high, (a - Float2(high) * high).high / (2 * high));
}

inline bool operator==(Float2 a, Float2 b) { return a.high == b.high && a.low == b.low; }
inline bool operator<(Float2 a, Float2 b) {
    return a.high < b.high || (a.high == b.high && a.low < b.low);
}
inline bool operator>(Float2 a, Float2 b) { return b < a; }
