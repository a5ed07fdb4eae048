// Who computes a plane on chip.

enum class Tier { Warp, Block };

// The plane of a thread, its place among the threads of the plane, and their number.
struct Team {
    int plane, first, step;
};

template <Tier TIER> Team team_of(Place place) {
    if (TIER == Tier::Block) return {place.group, place.index, place.threads};
    return {place.group * WARPS_PER_BLOCK + place.simdgroup(), place.lane(), WARP};
}

template <Tier TIER, typename M> M merged(M m, Place place, threadgroup M *room) {
    return TIER == Tier::Warp ? simd_merge(m, place) : group_merge(m, place, room);
}
