// The gradients of groups of planes that fit on chip. The statistics are sums over the group; what the
// gradients of the parameters take, over each of its planes. A block has whole planes, so that the
// latter stay within it.
#include "groups.cuh"

// Sums over elements, with d = x - mean and e = g - g_mean.
struct Sums {
    A d, e, de;

    __device__ void operator+=(const Sums &by) { d += by.d, e += by.e, de += by.de; }
};

// The vectors of a group that this block has. A warp has some that lie behind each other, so that it
// meets few planes.
template <typename Team, int N> struct BlockPart {
    static constexpr bool SHARED = Team::TIER == Tier::Shared;

    int vectors;      // of a plane
    int plane, first; // the block's first plane and vector
    int end;
    int of_warp;

    __device__ BlockPart(const Shape &shape, int rank, int blocks)
        : vectors(shape.spatial / PER_VECTOR<T>) {
        const int planes = (shape.channels_per_group + blocks - 1) / blocks;
        plane = min(rank * planes, shape.channels_per_group), first = plane * vectors;
        end = min(plane + planes, shape.channels_per_group) * vectors;
        of_warp = WARP * (SHARED ? (end - 1) / blockDim.x + 1 : N);
    }

    __device__ auto fragment() const {
        const int from = first + threadIdx.x / WARP * of_warp;
        const Run<T> run(SHARED ? min(from + of_warp, end) : end);
        return FragmentOf<Team, T, N, GRADIENT_ROWS<T>>{run, from + (int)(threadIdx.x % WARP), WARP, {-1}};
    }

    // Calls put(plane, sums) for every plane of the block, in one thread each. `sums_of(p)` is what this
    // thread has of one. All threads of a block call this together.
    template <typename F, typename G> __device__ void sum(F sums_of, G put) const {
        // A place for each warp and each plane that it meets: the next warp meets the last of them too.
        constexpr int PLANES = SHARED ? MAX_SHARED_PLANES : MAX_THREADS * N / MIN_GROUP_VECTORS;
        __shared__ Sums of_warps[PLANES + MAX_THREADS / WARP];
        const int warp = threadIdx.x / WARP;
        const int begin = first + warp * of_warp, stop = min(begin + of_warp, end);
        for (int p = begin / vectors; p * vectors < stop; ++p) {
            const Sums mine = sums_of(p);
            A sums[3] = {mine.d, mine.e, mine.de};
            warp_sum<WARP>(sums);
            if (threadIdx.x % WARP == 0) of_warps[p - plane + warp] = {sums[0], sums[1], sums[2]};
        }
        __syncthreads();
        for (int p = plane + threadIdx.x; p * vectors < end; p += blockDim.x) {
            const int from = p * vectors - first;
            Sums sums{};
            const int last = (from + vectors - 1) / of_warp;
            for (int w = from / of_warp; w <= last; ++w) sums += of_warps[p - plane + w];
            put(p, sums);
        }
    }
};

template <typename Team, int N> __device__ void backward(const Call &call) {
    const Team team;
    const Plane first(call.shape, team.plane * call.shape.channels_per_group);
    const T *from = at<T>(call.x, first);
    const T *from_dy = at<T>(call.dy, first);
    const BlockPart<Team, N> part(call.shape, team.rank(), team.blocks());
    auto fragment = part.fragment();
    auto x = fragment.load(from);
    const auto dy = fragment.load_other(from_dy);
    const GroupParams group(call, first);
    const PerElement<T> per_element(call, first);
    team.await_start();
    const A n = (A)call.shape.spatial * call.shape.channels_per_group, inverse = 1 / n;
    Stats<A> stats(0, 1);
    if (per_element.recomputes()) stats = {call.spec, measure<0>(team, fragment, n, x)};
    auto g = pulled_back(fragment, dy, [&](auto k, const auto &place) {
        const auto affine = group.affine(stats, group.plane(place));
        return normalized_grad(x[k], dy[k], affine, call.spec, per_element, place);
    });

    // The weight of each vector: kept with those in registers, and asked for again with those in shared memory.
    const auto weight_at = [&](const auto &place) { return group.weight(group.plane(place)); };
    const Fragment<T, N> &in_registers = fragment;
    const auto weights = in_registers.map([&](auto, const auto &place) { return weight_at(place); });
    const auto weight_of = [&](auto k, const auto &place) {
        if constexpr (std::is_same_v<decltype(k), InShared>) {
            return weight_at(place);
        } else {
            return weights[k];
        }
    };
    // Of x, g, and what the weight has beyond the first plane's: where all weights are the same, nothing of
    // g_mean remains below. Of the weights themselves there would be their roundings, 6e-4 at a mean of 1e4.
    A means[3] = {};
    const A base = group.weight(0);
    fragment.each([&](auto k, const auto &place) {
        const auto add = [&](A x, A g) { means[0] += x * inverse, means[1] += g * inverse; };
        zip(add, widen(x[k]), widen(g[k]));
        means[2] += (weight_of(k, place) - base) * PER_VECTOR<T> * inverse;
    });
    team.template sum<2>(means);
    const A mean = means[0], g_mean = means[1], beyond = means[2];
    const auto sums_of = [&](auto k) {
        Sums sums{};
        const auto add = [&](A x, A g) {
            const A d = x - mean, e = g - g_mean;
            sums += {d, e, d * e};
        };
        zip(add, widen(x[k]), widen(g[k]));
        return sums;
    };
    forget(x), forget(g);
    A sums[5] = {};  // of d, d^2, the weight beyond the first times d, and the weight times e and d * e
    fragment.each([&](auto k, const auto &place) {
        const Sums of = sums_of(k);
        const A weight = weight_of(k, place);
        zip([&](A x) { sums[1] += (x - mean) * (x - mean); }, widen(x[k]));
        sums[0] += of.d;
        sums[2] += (weight - base) * of.d, sums[3] += weight * of.e, sums[4] += weight * of.de;
    });
    team.template sum<3>(sums);
    // The rounding error of the mean, and the sum of g * (x - mean) of so many elements.
    const A rest = sums[0] * inverse;
    const auto cross = [=](A n, A d, A e, A de) { return de - rest * e + g_mean * (d - n * rest); };
    stats = {call.spec, Moments<A>{n, {mean, rest}, not_below_0(sums[1] - sums[0] * rest)}};
    const A slope = cross(n * beyond, sums[2], sums[3], sums[4]) * inverse;
    const A weighted = sums[3] * inverse;  // the mean of weight * e
    if (wants_shares(call.shares)) {
        const auto of_plane = [&](int p) {
            Sums sums{};
            forget(x), forget(g);
            fragment.each([&](auto k, const auto &place) {
                if (group.plane(place) == p) sums += sums_of(k);
            });
            return sums;
        };
        part.sum(of_plane, [&](int p, const Sums &s) {
            const A n = call.shape.spatial, sum = s.e + n * g_mean;
            put_shares<T>(call, first.index + p, stats, group.weight(p), sum, cross(n, s.d, s.e, s.de));
        });
    }
    T *to = at<T>(call.out, first);
    if (to == nullptr) return;
    fragment.forget();
    fragment.write(to, [&](auto k, const auto &place) {
        const A weight = weight_at(place);
        const A excess = g_mean * (weight - base - beyond) - weighted;
        const Gradient<A> gradient(call.spec, stats, weight, g_mean, excess, slope);
        return input_gradient(x[k], g[k], OfPlane<Gradient<A>>{gradient});
    });
}

// With shared memory they take more than 64 registers: one block a multiprocessor.
template <Tier TIER> constexpr int BLOCKS = TIER == Tier::Shared ? 1 : blocks_at_least(MAX_THREADS);

#define BACKWARD(TIER, NAME, N)                                                                    \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS, BLOCKS<Tier::TIER>)                  \
        in_groups_bwd_##NAME##N(Call call) {                                                       \
        backward<Team<Tier::TIER>, N>(call);                                                       \
    }

BACKWARD(Block, block, 4)
BACKWARD(Shared, shared, 4)
#if __CUDA_ARCH__ >= 900
BACKWARD(Cluster, cluster, 4)
#endif
