mod properties;
mod shared;
mod strips;

use super::*;
use crate::plan::{Kernel, Without};
use crate::tuning::{MAX_CLUSTER, MAX_THREADS};

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
