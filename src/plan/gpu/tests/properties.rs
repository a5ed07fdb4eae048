//! Any job has a plan that covers it.

use super::*;
use proptest::prelude::*;

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
