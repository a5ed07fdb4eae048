// Means and centred sums, and how two of them become one.

// A sum or mean and what rounding it left out, so that `high + rest` has twice the digits: at a mean
// of 1e4 an f32 is off by up to 5e-4, which is 5 % of a deviation of 1e-2.
template <typename A> struct Pair {
    A high, rest;

    FN Pair plus(A by) const {
        const A step = rest + by, sum = high + step;
        return {sum, step - (sum - high)};
    }

    // With what the product's rounding leaves out: times a weight, a mean of 1e4 loses as much as above.
    FN Pair times(A by) const {
        const A product = high * by;
        return {product, fma(high, by, -product) + rest * by};
    }

    FN A to(IN(Pair) other) const {
        return (other.high - high) + (other.rest - rest);
    }
};

// n values, their mean, and m2 = sum((x - mean)^2).
template <typename A> struct Moments {
    A n;
    Pair<A> mean;
    A m2;
};

// The moments of x, the mean of g, and cross = sum((x - mean) * (g - g mean)).
template <typename A> struct CoMoments {
    Moments<A> x;
    Pair<A> g;
    A cross;
};

// Chan, Golub and LeVeque's update, with b after a. Either may be empty; an empty a must hand on b
// as it is, since the way from a mean of 0 to that of b has no room for its `rest`.
template <typename A> FN A weight_of_b(IN(Moments<A>) a, IN(Moments<A>) b) {
    return b.n * reciprocal(A(a.n + b.n));
}

template <typename A>
FN Moments<A> merge(IN(Moments<A>) a, IN(Moments<A>) b, A of_b) {
    const A delta = a.mean.to(b.mean);
    return {a.n + b.n, a.mean.plus(delta * of_b), a.m2 + b.m2 + delta * delta * a.n * of_b};
}

template <typename A> FN Moments<A> merge(IN(Moments<A>) a, IN(Moments<A>) b) {
    if (a.n == 0) return b;
    return merge(a, b, weight_of_b(a, b));
}

template <typename A> FN CoMoments<A> merge(IN(CoMoments<A>) a, IN(CoMoments<A>) b) {
    if (a.x.n == 0) return b;
    const A of_b = weight_of_b(a.x, b.x), delta = a.g.to(b.g);
    return {merge(a.x, b.x, of_b), a.g.plus(delta * of_b),
            a.cross + b.cross + a.x.mean.to(b.x.mean) * delta * a.x.n * of_b};
}
