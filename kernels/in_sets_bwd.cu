// The gradients of sets of planes that fit on chip. The statistics are sums over the set; what the
// gradients of the parameters take, over each of its planes.
#include "sets.cuh"

// What is summed of the elements of one plane, with d = x - mean and e = g - g_mean.
struct Sums {
    A d, e, de;

    __device__ void operator+=(const Sums &by) { d += by.d, e += by.e, de += by.de; }
};

// Each warp has vectors that lie behind each other, so that it meets few planes.
template <typename Team, typename Held> struct OfPlanes {
    static constexpr int OF_WARP = WARP * Held::N;

    const Team &team;
    const Held &held;
    int warp, vectors;  // the latter of a plane
    int first, end;     // vectors of the block
    int plane;          // that of the first one

    __device__ OfPlanes(const Team &team, const Held &held, int spatial)
        : team(team), held(held), warp(threadIdx.x / WARP), vectors(spatial / PER_VECTOR<T>),
          first((team.first - (int)threadIdx.x) * Held::N),
          end(min(first + (int)blockDim.x * Held::N, held.run.vectors)), plane(first / vectors) {}

    // Calls put(plane, sums) for every plane of the set, in one thread each. `sums_of(p)` is what this
    // thread has of one. All threads of a team call this together.
    template <typename F, typename G> __device__ void sum(F sums_of, G put) const {
        // A place for each warp and each plane that it meets: its neighbour meets at most the last one too.
        __shared__ Sums of_warp[MAX_THREADS * Held::N / MIN_SET_VECTORS + MAX_THREADS / WARP];
        __shared__ Sums head;
        const int begin = first + warp * OF_WARP, stop = min(begin + OF_WARP, end);
        for (int p = begin / vectors; p * vectors < stop; ++p) {
            const Sums mine = sums_of(p);
            A sums[3] = {mine.d, mine.e, mine.de};
            warp_sum<WARP>(sums);
            if (threadIdx.x % WARP == 0) of_warp[p - plane + warp] = {sums[0], sums[1], sums[2]};
        }
        __syncthreads();
        Sums sums{};
        int rest = -1;  // the plane of `sums`, if other blocks have more of it
        for (int p = plane + threadIdx.x; p * vectors < end; p += blockDim.x) {
            const int from = max(p * vectors, first), to = min((p + 1) * vectors, end);
            sums = {};
            for (int w = (from - first) / OF_WARP; w <= (to - 1 - first) / OF_WARP; ++w) {
                sums += of_warp[p - plane + w];
            }
            if (p == plane) {
                head = sums;
                team.release();
            }
            if (from != p * vectors) continue;
            if (to == (p + 1) * vectors) put(p, sums);
            else rest = p;
        }
        if (!Team::IN_BLOCKS) return;
        team.arrive();
        team.wait();
        if (rest >= 0) {
            const int of_block = blockDim.x * Held::N, rank = first / of_block;
            for (int r = rank + 1; r * of_block < (rest + 1) * vectors; ++r) sums += *team.in_block(&head, r);
            put(rest, sums);
        }
        // No block may end while another reads its memory.
        team.arrive();
        team.wait();
    }
};

template <typename Team, int N> __device__ void backward(const Call &call) {
    const Team team;
    const int first = team.plane * call.shape.group;
    const T *from = at<T>(call.x, call.shape, first);
    const T *from_dy = at<T>(call.dy, call.shape, first);
    T *to = at<T>(call.out, call.shape, first);
    const Run<T> run(from, call.shape.group * (int)call.shape.spatial);
    const Held<T, N> held{run, team.first / WARP * WARP * N + (int)threadIdx.x % WARP, WARP, {-1}};
    const auto x = held.load(from);
    const auto dy = held.load_beside(from_dy);
    team.await_start();
    const OfSet set(call, first);
    const Beside<T> beside(call, first);
    Kept<int, int, N, 1> plane{};
    Kept<A, A, N, 1> weight{};
    held.each([&](auto k, const auto &place) {
        plane[k] = set.plane(place);
        weight[k] = set.weight(plane[k]);
    });
    Norm<A> norm(0, 1);
    if (beside.recomputes()) norm = {call.rule, measure<0>(team, held, x)};
    const auto g = held.map([&](auto k, const auto &place) {
        const auto affine = PLAIN ? OfPlane<Affine<A>>{} : set.affine(norm, plane[k]);
        return upstream(x[k], dy[k], affine, call.rule, beside, place);
    });

    const A n = run.size, inverse = 1 / n;
    A means[3] = {};  // of x, g and the weight
    held.each([&](auto k, const auto &) {
        const auto add = [&](A x, A g) {
            means[0] += x * inverse, means[1] += g * inverse, means[2] += weight[k] * inverse;
        };
        zip(add, widen(x[k]), widen(g[k]));
    });
    team.template sum<2>(means);
    const A mean = means[0], g_mean = means[1], weight_mean = means[2];
    Kept<Sums, Sums, N, 1> of{};
    A sums[5] = {};  // of d, d^2, and weight times d, e and d * e
    held.each([&](auto k, const auto &) {
        const auto add = [&](A x, A g) {
            const A d = x - mean, e = g - g_mean;
            of[k] += {d, e, d * e};
            sums[1] += d * d;
        };
        zip(add, widen(x[k]), widen(g[k]));
        sums[0] += of[k].d;
        sums[2] += weight[k] * of[k].d, sums[3] += weight[k] * of[k].e, sums[4] += weight[k] * of[k].de;
    });
    team.template sum<3>(sums);
    // What rounding left out of the mean, and the sum of g * (x - mean) of so many elements.
    const A rest = sums[0] * inverse;
    const auto cross = [=](A n, A d, A e, A de) { return de - rest * e + g_mean * (d - n * rest); };
    norm = {call.rule, Moments<A>{n, {mean, rest}, not_below_0(sums[1] - sums[0] * rest)}};
    if (to != nullptr) {
        const A slope = cross(n * weight_mean, sums[2], sums[3], sums[4]) * inverse;
        held.store(to, held.map([&](auto k, const auto &) {
            const A excess = g_mean * (weight[k] - weight_mean) - sums[3] * inverse;
            const Gradient<A> gradient(call.rule, norm, weight[k], g_mean, excess, slope);
            return input_gradient(x[k], g[k], OfPlane<Gradient<A>>{gradient});
        }));
    }
    if (!call.shares.any()) return;
    const auto sums_of = [&](int p) {
        Sums sums{};
        held.each([&](auto k, const auto &) {
            if (plane[k] == p) sums += of[k];
        });
        return sums;
    };
    OfPlanes<Team, decltype(held)>(team, held, call.shape.spatial).sum(sums_of, [&](int p, const Sums &s) {
        const A n = call.shape.spatial;
        share<T>(call, first + p, norm, set.weight(p), s.e + n * g_mean, cross(n, s.d, s.e, s.de));
    });
}

#define BACKWARD(TIER, NAME, N)                                                                    \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS) in_sets_bwd_##NAME##N(Call call) {   \
        backward<Team<Tier::TIER>, N>(call);                                                       \
    }

BACKWARD(Block, block, 4)
#if __CUDA_ARCH__ >= 900
BACKWARD(Cluster, cluster, 4)
#endif
