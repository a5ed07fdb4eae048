// Channels-last tensors of which strips fit on chip: a block, or the blocks of a cluster, have some vectors
// of channels side by side with all their places. Each is read once and written once, as in fwd.cuh and
// in_bwd.cu. A thread has the same channels at each of its places, so a sum is one of numbers by channel:
// the threads with t below the strip's channels go on with the t-th one's. A group lies in one strip.
#include "places.cuh"
#include "tiers.cuh"

constexpr int PER_THREAD = PER_VECTOR<T>;
constexpr int CHANNELS = MAX_COLUMNS * PER_THREAD;  // of a strip, at most

// Where threads and blocks exchange up to K numbers by channel: the first number of all channels, the second
// of all ... Sums use `of_block` in turn, so that nobody overwrites what a slower block still reads.
template <int K> struct Exchange {
    A of_warp[MAX_THREADS / WARP][K * CHANNELS];
    A of_block[2][MAX_CLUSTER][K * CHANNELS];
    A weights[CHANNELS];
};

template <Tier TIER, int N, int K> struct Strip {
    using Team = Team<TIER>;

    Exchange<K> &exchange;
    Team team;
    int columns, width;  // vectors and channels side by side
    int begin;           // the block's first place
    Plane first;         // that of the first channel
    Places<N> places;

    __device__ Strip(Exchange<K> &exchange, const Call &call, const Chunks &chunks)
        : Strip(exchange, call, chunks, Team(), Span<T>{0, call.shape.c}) {}

    __device__ Strip(Exchange<K> &exchange, const Call &call, const Chunks &chunks, Team team, Span<T> span)
        : exchange(exchange), team(team), columns(chunks.team), width(columns * PER_THREAD),
          first(call.shape, 0) {
        const int strips = (span.vectors() + columns - 1) / columns;
        const int sample = team.plane / strips, strip = team.plane - sample * strips;
        first.n = sample, first.c = strip * width, first.index = sample * span.end + first.c;
        const int vector = strip * columns + threadIdx.x % columns;
        begin = team.rank() * chunks.length;
        // None in columns beyond the last channel, nor in blocks beyond the last place.
        const int rows = vector < span.vectors() ? min(chunks.length, (int)call.shape.spatial - begin) : 0;
        places = {span, vector, (int)threadIdx.x / columns, max(0, rows), (int)blockDim.x / columns};
    }

    // The block's first place of the sample, of all channels.
    __device__ T *at(const Tensor &tensor) const {
        return ::at<T>(tensor, sample(), (long long)begin * places.span.end);
    }

    __device__ PerElement<T> per_element(const Call &call) const {
        return {call, sample(), (long long)begin * places.span.end};
    }

    __device__ Plane sample() const {
        Plane plane = first;
        plane.c = 0, plane.index -= first.c;
        return plane;
    }

    // True if this thread goes on with a channel's numbers; `plane` is that of it, or any other.
    __device__ bool has_channel() const {
        return threadIdx.x < width && first.c + (int)threadIdx.x < places.span.end;
    }
    __device__ Plane plane() const {
        Plane plane = first;
        if (has_channel()) plane.c += threadIdx.x, plane.index += threadIdx.x;
        return plane;
    }

    // The sums over all places of some numbers of each channel; `add(j, v)` adds to v what this thread has of
    // its j-th one. TURN counts the calls of a kernel.
    template <int TURN, int NUMBERS, typename F> __device__ void sum(F add) const {
        A v[PER_THREAD][NUMBERS] = {};
#pragma unroll
        for (int j = 0; j < PER_THREAD; ++j) add(j, v[j]);
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        for (int mask = WARP / 2; mask >= columns; mask /= 2) {
#pragma unroll
            for (int j = 0; j < PER_THREAD; ++j) {
#pragma unroll
                for (int i = 0; i < NUMBERS; ++i) v[j][i] += __shfl_xor_sync(0xffffffff, v[j][i], mask);
            }
        }
        if (lane < columns) {
#pragma unroll
            for (int j = 0; j < PER_THREAD; ++j) {
#pragma unroll
                for (int i = 0; i < NUMBERS; ++i) {
                    exchange.of_warp[warp][i * width + lane * PER_THREAD + j] = v[j][i];
                }
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < NUMBERS * width; i += blockDim.x) {
            A total = 0;
            for (int w = 0; w < blockDim.x / WARP; ++w) total += exchange.of_warp[w][i];
            A *const mine = &exchange.of_block[TURN % 2][team.rank()][i];
            for (int block = 0; block < team.blocks(); ++block) *team.in_block(mine, block) = total;
        }
        if (TIER == Tier::Cluster) {
            team.release();
            team.arrive();
            team.wait();
        } else {
            __syncthreads();
        }
    }

    // What a sum has of the i-th number of the strip's channel.
    template <int TURN> __device__ A total(int i, int channel) const {
        A total = 0;
        for (int block = 0; block < team.blocks(); ++block) {
            total += exchange.of_block[TURN % 2][block][i * width + channel];
        }
        return total;
    }

    // The first channel of the group of this thread's channel.
    __device__ int begin_of_group(const Call &call) const {
        const int size = call.shape.channels_per_group;
        return threadIdx.x < width ? threadIdx.x / size * size : 0;
    }

    // Calls f(channel) for all of the group of this thread's channel; for none where it has no channel.
    template <typename F> __device__ void of_group(const Call &call, F f) const {
        if (threadIdx.x >= width) return;
        const int size = call.shape.channels_per_group, begin = begin_of_group(call);
        for (int channel = begin; channel < begin + size; ++channel) f(channel);
    }

    template <int TURN> __device__ A of_group(const Call &call, int i) const {
        A sum = 0;
        of_group(call, [&](int channel) { sum += total<TURN>(i, channel); });
        return sum;
    }

    // Gives each thread what those with its channels have made.
    template <typename C> __device__ OfChannels<C, PER_THREAD> hand_out(const C &made) const {
        __shared__ C of_channel[CHANNELS];
        if (threadIdx.x < width) of_channel[threadIdx.x] = made;
        __syncthreads();
        OfChannels<C, PER_THREAD> out;
#pragma unroll
        for (int j = 0; j < PER_THREAD; ++j) {
            out.each[j] = of_channel[threadIdx.x % columns * PER_THREAD + j];
        }
        return out;
    }

    // The statistics of the thread's channel, in two sums as in tiers.cuh.
    template <typename X> __device__ Stats<A> stats(const Call &call, const X &x) const {
        if (call.mean.origin != nullptr) return given_stats<T, A>(call, plane());
        const A n = call.spec.n, inverse = 1 / n;
        sum<0, 1>([&](int j, A (&v)[1]) { places.values(j, [&](A x) { v[0] += x * inverse; }, x); });
        const A mean = of_group<0>(call, 0);
        const auto means = hand_out(mean);
        sum<1, 2>([&](int j, A (&v)[2]) {
            const auto add = [&](A x) {
                const A d = x - means[j];
                v[0] += d;
                v[1] += d * d;
            };
            places.values(j, add, x);
        });
        const A off = of_group<1>(call, 0), rest = off * inverse;
        return {call.spec, Moments<A>{n, {mean, rest}, not_below_0(of_group<1>(call, 1) - off * rest)}};
    }
};

template <Tier TIER, int N> __device__ void forward(const Call &call, const Chunks &chunks) {
    __shared__ Exchange<2> exchange;
    Strip<TIER, N, 2> strip(exchange, call, chunks);
    const auto x = strip.places.load(strip.at(call.x));
    const Plane plane = strip.plane();
    const A weight = weight_of<T, A>(call, plane), bias = load<T>(call.bias, call.shape, plane, 0);
    strip.team.await_start();
    const Stats<A> stats = strip.stats(call, x);
    T *to = strip.at(call.out);
    if (to == nullptr) {
        if (strip.has_channel() && strip.team.rank() == 0) put_statistics<T>(call, plane.index, stats);
        return;
    }
    const auto affine = strip.hand_out(Affine<A>(call.spec, stats, weight, bias));
    const PerElement<T> per_element = strip.per_element(call);
    strip.places.forget();
    strip.places.write(to, [&](int k, const auto &place) {
        return output(x[k], affine, call.spec, per_element, place);
    });
}

// With means[0] of x and means[1] of g.
struct Means {
    A x, g;
};

template <Tier TIER, int N> __device__ void backward(const Call &call, const Chunks &chunks) {
    __shared__ Exchange<4> exchange;
    Strip<TIER, N, 4> strip(exchange, call, chunks);
    const auto &places = strip.places;
    const auto x = places.load(strip.at(call.x));
    const auto dy = places.load_other(strip.at(call.dy));
    const Plane plane = strip.plane();
    const A weight = weight_of<T, A>(call, plane);
    if (threadIdx.x < strip.width) exchange.weights[threadIdx.x] = weight;
    const PerElement<T> per_element = strip.per_element(call);
    strip.team.await_start();
    OfChannels<Affine<A>, PER_THREAD> affine{};
    if (per_element.recomputes()) {
        const A bias = load<T>(call.bias, call.shape, plane, 0);
        affine = strip.hand_out(Affine<A>(call.spec, strip.stats(call, x), weight, bias));
    }
    const auto g = places.map([&](int k, const auto &place) {
        return normalized_grad(x[k], dy[k], affine, call.spec, per_element, place);
    });

    const A n = call.spec.n, inverse = 1 / n;
    strip.template sum<2, 2>([&](int j, A (&v)[2]) {
        places.values(j, [&](A x, A g) { v[0] += x * inverse, v[1] += g * inverse; }, x, g);
    });
    const A mean = strip.template of_group<2>(call, 0), g_mean = strip.template of_group<2>(call, 1);
    const auto means = strip.hand_out(Means{mean, g_mean});
    // Of d = x - mean, e = g - g_mean, d * e and d^2.
    strip.template sum<3, 4>([&](int j, A (&v)[4]) {
        const auto add = [&](A x, A g) {
            const A d = x - means[j].x, e = g - means[j].g;
            v[0] += d, v[1] += e, v[2] += d * e, v[3] += d * d;
        };
        places.values(j, add, x, g);
    });
    // Over the group: of d and d^2; of each channel's weight times e and d * e; and of what it has beyond the
    // first one's weight, times 1 and d. Where all weights are the same, nothing of g_mean remains: of the
    // weights themselves there would be their roundings, 6e-4 at a mean of 1e4.
    const A base = exchange.weights[strip.begin_of_group(call)];
    A sum_d = 0, square = 0, beyond = 0, beyond_d = 0, of_e = 0, of_de = 0;
    strip.of_group(call, [&](int channel) {
        const A weight = exchange.weights[channel], d = strip.template total<3>(0, channel);
        sum_d += d, square += strip.template total<3>(3, channel);
        beyond += weight - base, beyond_d += (weight - base) * d;
        of_e += weight * strip.template total<3>(1, channel);
        of_de += weight * strip.template total<3>(2, channel);
    });
    // The rounding error of the mean, and the sum of g * (x - mean), of which x - mean sums to `off`.
    const A rest = sum_d * inverse, spatial = call.shape.spatial;
    const auto cross = [=](A off, A e, A de) { return de - rest * e + g_mean * off; };
    const Stats<A> stats(call.spec, Moments<A>{n, {mean, rest}, not_below_0(square - sum_d * rest)});
    if (strip.has_channel() && strip.team.rank() == 0) {
        const auto of = [&](int i) { return strip.template total<3>(i, threadIdx.x); };
        const A off = call.shape.channels_per_group == 1 ? 0 : of(0) - spatial * rest, e = of(1);
        put_shares<T>(call, plane.index, stats, weight, e + spatial * g_mean, cross(off, e, of(2)));
    }
    T *to = strip.at(call.out);
    if (to == nullptr) return;
    const A slope = cross(beyond_d - spatial * beyond * rest, of_e, of_de) * inverse;
    const A excess = g_mean * (weight - base - beyond * spatial * inverse) - of_e * inverse;
    const auto gradient =
        strip.hand_out(Gradient<A>(call.spec, stats, weight, g_mean, excess, slope));
    strip.places.forget();
    places.write(to, [&](int k, const auto &) { return input_gradient(x[k], g[k], gradient); });
}

#define STRIP(PASS, FUNCTION, TIER, NAME, N)                                                       \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1)                                   \
        in_strip_##PASS##_##NAME##N(Call call, Chunks chunks) {                                    \
        FUNCTION<Tier::TIER, N>(call, chunks);                                                     \
    }

STRIP(fwd, forward, Block, block, 8)
STRIP(bwd, backward, Block, block, 4)
#if __CUDA_ARCH__ >= 900
STRIP(fwd, forward, Cluster, cluster, 8)
STRIP(bwd, backward, Cluster, cluster, 4)
#endif
