use super::*;
use crate::plan::{Kernel, Without};
use crate::tuning::{MAX_CLUSTER, MAX_THREADS};
use proptest::prelude::*;

const H200: Caps = Caps::cuda(132, true, 227 << 10);
const T4: Caps = Caps::cuda(40, false, 64 << 10);
const A100: Caps = Caps::cuda(108, false, 163 << 10);
const RTX_4090: Caps = Caps::cuda(128, false, 99 << 10);

fn job(n: usize, c: usize, spatial: usize, element: usize) -> Job {
    Job {
        pass: Pass::Forward,
        planes: Planes { n, c, spatial },
        format: Format::Planar,
        channels_per_group: 1,
        given: false,
        element,
        aligned: (spatial * element).is_multiple_of(VECTOR_BYTES),
        adjacent: true,
        plain: true,
    }
}

fn forward(n: usize, c: usize, spatial: usize, element: usize) -> GpuPlan {
    GpuPlan::new(&job(n, c, spatial, element), H200).unwrap()
}

#[test]
fn tiers_change_where_the_registers_end() {
    let lanes = |lanes, vectors| Tier::Lanes { lanes, vectors };
    let block = |vectors| Tier::Block { vectors };
    // 4 lanes of 1, 2 and 4 vectors of 4 floats, more lanes of 4, a warp of 8.
    assert_eq!(forward(8, 512, 1, 4).tier, lanes(4, 1));
    assert_eq!(forward(8, 512, 16, 4).tier, lanes(4, 1));
    assert_eq!(forward(8, 512, 20, 4).tier, lanes(4, 2));
    assert_eq!(forward(8, 512, 64, 4).tier, lanes(4, 4));
    assert_eq!(forward(8, 512, 68, 4).tier, lanes(8, 4));
    assert_eq!(forward(8, 512, 132, 4).tier, lanes(16, 4));
    assert_eq!(forward(8, 512, 512, 4).tier, lanes(32, 4));
    assert_eq!(forward(8, 512, 1024, 4).tier, lanes(32, 8));
    // A plane that starts anywhere can touch one vector more.
    assert_eq!(forward(8, 512, 1023, 4).tier, block(8));
    assert_eq!(forward(8, 512, 1028, 4).tier, block(8));
    assert_eq!(forward(8, 512, 16 * 1024, 4).tier, block(8));
    assert_eq!(forward(8, 512, 16 * 1024, 4).threads, 512);
    // Blocks of 64 KB: a cluster has eight at most, and a GPU without clusters none.
    let cluster = |blocks| Tier::Cluster { blocks };
    assert_eq!(forward(8, 512, 16 * 1024 + 4, 4).tier, cluster(2));
    assert_eq!(forward(8, 512, 128 * 1024, 4).tier, cluster(8));
    assert_eq!(forward(8, 512, 128 * 1024, 4).grid, 8 * 512 * 8);
    let multi_pass = |plan: GpuPlan| matches!(plan.tier, Tier::Split(_));
    assert!(multi_pass(forward(8, 512, 128 * 1024 + 4, 4)));
    let without = Caps {
        clusters: false,
        ..H200
    };
    let shared = |spatial| GpuPlan::new(&job(8, 512, spatial, 4), without).unwrap();
    assert_eq!(shared(16 * 1024 + 4).tier, Tier::Shared { bytes: 480 * 16 });
    assert!(multi_pass(shared(128 * 1024)));
    // Few planes are shared by several blocks as soon as they are large enough.
    assert_eq!(forward(1, 33, 8 * 1024, 4).tier, cluster(8));
    assert!(multi_pass(
        GpuPlan::new(&job(1, 33, 8 * 1024, 4), without).unwrap()
    ));
    assert!(matches!(
        forward(1, 34, 8 * 1024, 4).tier,
        Tier::Block { .. }
    ));
    assert!(matches!(
        forward(1, 33, 8 * 1024 - 4, 4).tier,
        Tier::Block { .. }
    ));
}

/// KB of the largest plane that stays on chip.
fn most_on_chip(job: Job, caps: Caps) -> usize {
    let sizes = (1..1024).rev();
    let on_chip = |kb: &usize| {
        let planes = Planes {
            spatial: kb * 1024 / job.element,
            ..job.planes
        };
        GpuPlan::new(&Job { planes, ..job }, caps)
            .unwrap()
            .is_on_chip()
    };
    sizes.into_iter().find(on_chip).unwrap()
}

#[test]
fn shared_memory_behind_the_registers() {
    let forward = job(8, 512, 8, 2);
    let backward = Job {
        pass: Pass::Backward,
        ..forward
    };
    let wide = Job {
        plain: false,
        ..backward
    };
    // A row of 512 vectors is 8 KB: 64 KB of x in registers, and 7, 20 and 12 rows next to 0.6 KB of sums.
    // Backward 32 KB of x and of dy each, and a row for either: 10 and 6 times, and with a gradient in f32
    // three at a time 4 times. Where less than a row is missing for one more time, rows of fewer threads fit.
    let most = |job| [T4, A100, RTX_4090].map(|caps| most_on_chip(job, caps));
    assert_eq!(most(forward), [120, 224, 160]);
    assert_eq!(most(backward), [60, 112, 80]);
    assert_eq!(most(wide), [49, 82, 64]);
    let without = Without {
        shared: true,
        ..Without::NONE
    };
    assert_eq!(most_on_chip(forward, Caps { without, ..A100 }), 64);
    // No more threads than have something, and no more memory: 9 vectors each of 456 threads.
    let plan = GpuPlan::new(&job(8, 512, 4100 * 8, 2), A100).unwrap();
    assert_eq!(
        (plan.tier, plan.grid, plan.threads),
        (Tier::Shared { bytes: 480 * 16 }, 4096, 480)
    );
    // Where few planes leave three quarters of the machine idle, several blocks share each.
    let few = |planes| {
        GpuPlan::new(&job(1, planes, 4100 * 8, 2), A100)
            .unwrap()
            .tier
    };
    assert!(matches!(few(27), Tier::Split(_)) && matches!(few(28), Tier::Shared { .. }));
    // Given their statistics, planes are read once in any case.
    let given = Job {
        given: true,
        ..job(8, 512, 4100 * 8, 2)
    };
    assert!(matches!(
        GpuPlan::new(&given, A100).unwrap().tier,
        Tier::Split(_)
    ));
}

#[test]
fn groups_in_shared_memory() {
    // Stable Diffusion's: groups of 80 KB in bf16.
    let forward = Job {
        channels_per_group: 10,
        ..job(2, 320, 64 * 64, 2)
    };
    let backward = Job {
        pass: Pass::Backward,
        ..forward
    };
    let tier = |job, caps| GpuPlan::new(&job, caps).unwrap().tier;
    for caps in [T4, A100, RTX_4090] {
        assert_eq!(tier(forward, caps), Tier::GroupsShared { bytes: 2 * 8192 });
    }
    for caps in [A100, RTX_4090] {
        assert_eq!(
            tier(backward, caps),
            Tier::GroupsShared { bytes: 6 * 16384 }
        );
    }
    let split = |job, caps| matches!(tier(job, caps), Tier::Split(_));
    let wide = Job {
        plain: false,
        ..backward
    };
    assert!(split(backward, T4) && split(wide, RTX_4090));
    assert_eq!(tier(wide, A100), Tier::GroupsShared { bytes: 6 * 24576 });
    let without = Without {
        shared: true,
        ..Without::NONE
    };
    assert!(split(forward, Caps { without, ..A100 }));
    // Backward a warp sums each plane by itself: there are not too many of them, nor too small ones.
    let planes = |count, vectors: usize| Job {
        channels_per_group: count,
        ..job(64, count, vectors * 8, 2)
    };
    let backward = |job| Job {
        pass: Pass::Backward,
        ..job
    };
    let shared = |job| matches!(tier(job, A100), Tier::GroupsShared { .. });
    assert!(shared(planes(129, 32)) && shared(backward(planes(128, 32))));
    assert!(split(backward(planes(129, 32)), A100) && split(backward(planes(128, 31)), A100));
}

#[test]
fn a_4k_frame_fills_the_machine() {
    let plan = forward(1, 3, 2160 * 3840, 4);
    let Tier::Split(Chunks { count, length, .. }) = plan.tier else {
        panic!("{plan:?}")
    };
    assert_eq!((count, plan.grid), (88, 264));
    assert!(length * count >= 2160 * 3840 / 4 && length % CHUNK_VECTORS == 0);
    let job = Job {
        format: Format::ChannelsLast,
        ..job(1, 3, 2160 * 3840, 4)
    };
    let plan = GpuPlan::new(&job, H200).unwrap();
    assert!(matches!(plan.tier, Tier::Columns(Chunks { team: 1, .. })));
    assert!((120..=132).contains(&plan.grid), "{plan:?}");
}

#[test]
fn what_stays_on_chip() {
    let base = job(2, 320, 256, 2);
    let plan = |job| GpuPlan::new(&job, H200).unwrap();
    assert!(matches!(plan(base).tier, Tier::Lanes { .. }));
    for job in [
        Job {
            channels_per_group: 10,
            adjacent: false,
            ..base
        },
        Job {
            given: true,
            pass: Pass::Backward,
            ..base
        },
    ] {
        // 8 planes a block, a warp each.
        let chunks = Chunks {
            count: 1,
            length: 32,
            team: WARP,
        };
        assert_eq!((plan(job).tier, plan(job).grid), (Tier::Split(chunks), 80));
    }
    let odd = Job {
        channels_per_group: 10,
        aligned: false,
        ..base
    };
    assert!(matches!(plan(odd).tier, Tier::Split(_)));
    // Groups of whole vectors: 320 of them, 8 a thread, or 4 of x and of dy.
    let groups = plan(Job {
        channels_per_group: 10,
        ..base
    });
    assert_eq!(
        (groups.tier, groups.grid, groups.threads),
        (Tier::Groups { blocks: 1 }, 64, 64)
    );
    let groups = plan(Job {
        channels_per_group: 10,
        pass: Pass::Backward,
        ..base
    });
    assert_eq!(
        (groups.tier, groups.grid, groups.threads),
        (Tier::Groups { blocks: 1 }, 64, 96)
    );
    let groups = plan(Job {
        channels_per_group: 8,
        pass: Pass::Backward,
        ..job(32, 256, 56 * 56, 4)
    });
    assert_eq!(
        (groups.tier, groups.grid, groups.threads),
        (Tier::Groups { blocks: 8 }, 8192, 224)
    );
    // Planes of less than four vectors.
    let small = Job {
        channels_per_group: 10,
        pass: Pass::Backward,
        ..job(2, 320, 12, 4)
    };
    assert!(matches!(plan(small).tier, Tier::Split(_)));
    let groups = plan(Job {
        channels_per_group: 10,
        ..job(2, 320, 64 * 64, 4)
    });
    assert_eq!(
        (groups.tier, groups.grid),
        (Tier::Groups { blocks: 4 }, 256)
    );
}

#[test]
fn strips_are_as_wide_as_fits() {
    let base = Job {
        format: Format::ChannelsLast,
        ..job(32, 256, 56 * 56, 2)
    };
    let of = |job: Job, caps| {
        let plan = GpuPlan::new(&job, caps).unwrap();
        let Tier::Strip(Chunks {
            count,
            length,
            team,
        }) = plan.tier
        else {
            assert!(matches!(plan.tier, Tier::Columns(_)), "{plan:?}");
            return None;
        };
        let fits = team * length <= plan.threads as usize * job.pass.max_vectors();
        assert!(fits && length * count >= job.planes.spatial, "{plan:?}");
        Some((team, count, plan.threads, plan.grid))
    };
    // Columns of 128 bytes with 3136 places: 25,088 vectors by eighths, 8 a thread, or twice 4.
    assert_eq!(of(base, H200), Some((8, 8, 416, 32 * 4 * 8)));
    let backward = Job {
        pass: Pass::Backward,
        ..base
    };
    assert_eq!(of(backward, H200), Some((4, 8, 416, 32 * 8 * 8)));
    // Without clusters 2048 places of 32 bytes at most.
    assert_eq!(of(base, A100), None);
    let small = |spatial| Job {
        format: Format::ChannelsLast,
        ..job(32, 256, spatial, 2)
    };
    assert_eq!(of(small(2048), A100), Some((2, 1, 512, 32 * 16)));
    assert_eq!(of(small(2049), A100), None);
    assert_eq!(of(small(49), A100), Some((8, 1, 64, 32 * 4)));
    // Three channels are less than a vector. Few strips are shared by all blocks of a cluster.
    let picture = |spatial| Job {
        format: Format::ChannelsLast,
        ..job(1, 3, spatial, 4)
    };
    assert_eq!(of(picture(32 * 1024), H200), Some((1, 8, 512, 8)));
    assert_eq!(of(picture(2048), H200), Some((1, 8, 64, 8)));
    assert_eq!(of(picture(2048), A100), None);
    assert_eq!(of(picture(32 * 1024 + 1), H200), None);
    // Groups lie in one strip: of 16 channels they do, of 10 they do not.
    let groups = |channels_per_group| Job {
        channels_per_group,
        format: Format::ChannelsLast,
        ..job(32, 320, 256, 2)
    };
    assert!(of(groups(16), H200).is_some());
    assert_eq!(of(groups(10), H200), None);
    // With given statistics nothing is shared forward, and there is no such kernel backward.
    let given = Job {
        given: true,
        ..groups(10)
    };
    assert!(of(given, H200).is_some());
    assert_eq!(
        of(
            Job {
                pass: Pass::Backward,
                ..given
            },
            H200
        ),
        None
    );
    let without = Without {
        strip: true,
        ..Without::NONE
    };
    assert_eq!(of(base, Caps { without, ..H200 }), None);
}

#[test]
fn more_planes_than_a_grid_has_rows_and_more_elements_than_an_i32() {
    assert_eq!(forward(1000, 70, 49, 2).grid, 2_188);
    let plan = forward(1, 1, 3 << 31, 2);
    let Tier::Split(Chunks { count, length, .. }) = plan.tier else {
        panic!("{plan:?}")
    };
    assert!(count * length * 8 >= 3 << 31);
    assert!(
        length * 8 < i32::MAX as usize,
        "offsets in a chunk are 32-bit"
    );
    assert!(GpuPlan::new(&job(1 << 20, 1 << 20, 1, 4), H200).is_err());
}

fn jobs() -> impl Strategy<Value = Job> {
    let shape = (1usize..2000, 1usize..200, 1usize..10, 1usize..100_000_000);
    let how = any::<(bool, bool, bool, bool, bool, bool)>();
    (shape, 1usize..4, how).prop_map(
        |(
            (n, groups, group, spatial),
            log_element,
            (backward, last, given, aligned, adjacent, plain),
        )| Job {
            pass: if backward {
                Pass::Backward
            } else {
                Pass::Forward
            },
            planes: Planes {
                n,
                c: groups * group,
                spatial,
            },
            format: if last {
                Format::ChannelsLast
            } else {
                Format::Planar
            },
            channels_per_group: group,
            given,
            element: 1 << log_element,
            aligned,
            adjacent,
            plain,
        },
    )
}

proptest! {
    #[test]
    fn every_plan_covers_its_planes(
        job in jobs(), sm_count in 1usize..200, clusters: bool, shared in 0usize..228 << 10,
    ) {
        let (planes, pass) = (job.planes, job.pass);
        let caps = Caps::cuda(sm_count, clusters, shared);
        let plan = GpuPlan::new(&job, caps).unwrap();
        let (grid, threads) = (plan.grid as usize, plan.threads as usize);
        let lines = job.lines();
        let own = if pass == Pass::Forward { job.channels_per_group == 1 || job.given } else { job.channels_per_group == 1 && !job.given };
        let on_chip = own && job.format == Format::Planar;
        prop_assert!(threads % WARP == 0 && threads <= MAX_THREADS);
        match plan.tier {
            Tier::Lanes { lanes, vectors } => {
                prop_assert!(on_chip);
                prop_assert!(Kernel::all(caps).contains(&Kernel::Lanes(pass, lanes, vectors)));
                prop_assert!(lanes * vectors >= lines);
                prop_assert!(grid * threads / lanes >= planes.count());
                prop_assert!((grid - 1) * threads / lanes < planes.count());
            }
            Tier::Block { vectors } => {
                prop_assert!(on_chip);
                let kernels = pass.few_vectors()..=pass.max_vectors();
                prop_assert!(vectors.is_power_of_two() && kernels.contains(&vectors));
                prop_assert!(threads * vectors >= lines);
                prop_assert_eq!(grid, planes.count());
            }
            Tier::Cluster { blocks } => {
                prop_assert!(on_chip && clusters);
                prop_assert!(blocks.is_power_of_two() && (2..=MAX_CLUSTER).contains(&blocks));
                prop_assert!(blocks * threads * pass.max_vectors() >= lines);
                prop_assert_eq!(grid, planes.count() * blocks);
            }
            Tier::Groups { blocks } => {
                prop_assert!(job.adjacent && job.aligned && !job.given);
                prop_assert!(job.channels_per_group > 1 && job.format == Format::Planar);
                prop_assert!(blocks == 1 || clusters && blocks <= MAX_CLUSTER);
                let of_block = threads * pass.max_vectors();
                match pass {
                    Pass::Forward => prop_assert!(blocks * of_block >= lines * job.channels_per_group),
                    Pass::Backward => prop_assert!(job.channels_per_group.div_ceil(blocks) * lines <= of_block),
                }
                prop_assert_eq!(grid * job.channels_per_group, planes.count() * blocks);
            }
            Tier::Strip(Chunks { count, length, team }) => {
                prop_assert!(job.format == Format::ChannelsLast && team.is_power_of_two());
                prop_assert!(count == 1 || clusters && count <= MAX_CLUSTER && count.is_power_of_two());
                prop_assert!(length * count >= planes.spatial);
                prop_assert!(threads / team * pass.max_vectors() >= length);
                let per_vector = VECTOR_BYTES / job.element;
                // A thread for each channel, and whole groups.
                prop_assert!(threads >= team * per_vector);
                prop_assert!(job.given || (team * per_vector).is_multiple_of(job.channels_per_group));
                let vectors = planes.c.div_ceil(per_vector);
                prop_assert_eq!(grid, planes.n * vectors.div_ceil(team) * count);
            }
            Tier::Shared { bytes } | Tier::GroupsShared { bytes } => {
                let rows = match pass {
                    Pass::Forward => 1,
                    Pass::Backward if job.plain => 2,
                    Pass::Backward => 1 + 4usize.div_ceil(job.element),
                };
                let vectors = pass.max_vectors() + bytes / (threads * rows * VECTOR_BYTES);
                let planes_of_block = if on_chip { 1 } else { job.channels_per_group };
                prop_assert!(vectors * threads >= lines * planes_of_block);
                prop_assert!(bytes < shared && !job.given);
                match plan.tier {
                    Tier::Shared { .. } => prop_assert!(on_chip && grid == planes.count()),
                    _ => {
                        prop_assert!(job.adjacent && job.aligned && job.format == Format::Planar);
                        prop_assert_eq!(grid * job.channels_per_group, planes.count());
                    }
                }
            }
            Tier::Split(Chunks { count, length, team }) => {
                prop_assert_eq!(job.format, Format::Planar);
                prop_assert!(length * count >= lines);
                prop_assert!(length * (count - 1) < lines, "an empty chunk");
                prop_assert!(team == WARP || team == SPLIT_THREADS);
                let teams = SPLIT_THREADS / team;
                prop_assert!(grid * teams >= planes.count() * count);
                prop_assert!((grid - 1) * teams < planes.count() * count);
            }
            Tier::Columns(Chunks { count, length, team }) => {
                prop_assert_eq!(job.format, Format::ChannelsLast);
                prop_assert!(length * count >= planes.spatial);
                prop_assert!(length * (count - 1) < planes.spatial, "an empty chunk");
                prop_assert!(team.is_power_of_two() && team <= MAX_COLUMNS);
                let vectors = planes.c.div_ceil(VECTOR_BYTES / job.element);
                prop_assert_eq!(grid, planes.n * count * vectors.div_ceil(team));
                prop_assert!(vectors.div_ceil(team) == 1 || team == MAX_COLUMNS);
            }
        }
    }
}

#[test]
fn a_tier_that_is_left_out_leaves_its_planes_to_the_next() {
    let tiers = |without| {
        let caps = Caps { without, ..H200 };
        [49, 4096, 64 * 1024]
            .map(|spatial| GpuPlan::new(&job(8, 512, spatial, 4), caps).unwrap().tier)
    };
    let (none, block) = (Without::NONE, |vectors| Tier::Block { vectors });
    let cluster = |blocks| Tier::Cluster { blocks };
    let [lanes, of_block, large] = tiers(none);
    assert!(
        matches!(lanes, Tier::Lanes { .. }) && of_block == block(8),
        "{lanes:?}"
    );
    assert_eq!(large, cluster(8));
    let without_lanes = Without {
        lanes: true,
        ..none
    };
    assert_eq!(tiers(without_lanes), [block(2), block(8), large]);
    let without_block = Without {
        block: true,
        ..none
    };
    assert_eq!(tiers(without_block), [lanes, cluster(2), large]);
    let without_cluster = Without {
        cluster: true,
        ..none
    };
    assert!(matches!(
        tiers(without_cluster),
        [_, _, Tier::Shared { .. }]
    ));
    let without_shared = Without {
        shared: true,
        ..without_cluster
    };
    assert!(matches!(tiers(without_shared), [_, _, Tier::Split(_)]));
    let groups = Job {
        channels_per_group: 8,
        ..job(8, 512, 64, 4)
    };
    let without_groups = Without {
        groups: true,
        ..none
    };
    let caps = Caps {
        without: without_groups,
        ..H200
    };
    assert!(matches!(
        GpuPlan::new(&groups, caps).unwrap().tier,
        Tier::Split(_)
    ));
}

#[test]
fn the_last_launch_merges_few_parts_by_itself() {
    let merges = |job: Job| {
        let plan = GpuPlan::new(&job, H200).unwrap();
        plan.merges_as_it_writes(&job)
    };
    let (large, frame) = (job(1, 32, 512 * 512, 4), job(1, 3, 2160 * 3840, 4));
    assert!(
        merges(large)
            && merges(frame)
            && merges(Job {
                plain: false,
                ..frame
            })
    );
    // On chip nothing is in parts; channels-last, a block has many planes.
    let last = Job {
        format: Format::ChannelsLast,
        ..large
    };
    assert!(!merges(job(1, 32, 64, 4)) && !merges(last));
    // Many small parts: of a plane in as many as there are blocks, or of a group of many planes.
    assert!(!merges(job(1, 1, 1 << 20, 4)));
    let groups = |channels_per_group| Job {
        channels_per_group,
        aligned: false,
        ..job(1, 512, 511, 4)
    };
    assert!(merges(groups(16)) && !merges(groups(32)));
}
