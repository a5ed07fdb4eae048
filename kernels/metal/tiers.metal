// Who computes a plane on chip.

enum class Tier { Lanes, Block };

// The plane of a thread, its place among the threads of the plane, and their number.
struct Team {
    int plane, first, step;
};

template <Tier TIER> Team team_of(Thread me) {
    if (TIER == Tier::Block) return {me.position, me.index, me.threads};
    return {me.position * WARPS_PER_BLOCK + me.simdgroup(), me.lane(), WARP};
}

template <Tier TIER, typename M> M merged(M m, Thread me, threadgroup M *memory) {
    return TIER == Tier::Lanes ? simd_merge(m, me) : group_merge(m, me, memory);
}
