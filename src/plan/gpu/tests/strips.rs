//! Channels-last tensors on chip.

use super::*;

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
