//! What shared memory has room for, on GPUs without clusters.

use super::*;

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
