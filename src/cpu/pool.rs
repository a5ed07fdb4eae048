//! Handing out jobs to threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The time that a thread without jobs stays awake for the others.
const PATIENCE: Duration = Duration::from_micros(50);

/// Calls `work` for each of `jobs`, on the calling thread and on rayon's, `threads` in all, as each gets
/// to it, with a state that every thread makes for itself.
///
/// The calling thread works too: waking another takes longer than a job.
pub fn for_each<J: Send, W>(
    threads: usize,
    jobs: Vec<J>,
    state: impl Fn() -> W + Sync,
    work: impl Fn(J, &mut W) + Sync,
) {
    let helpers = threads.min(jobs.len()).max(1) - 1;
    let jobs = Mutex::new(jobs.into_iter());
    // A poisoned lock means that another thread panicked: stop, the panic is on its way.
    let next = || jobs.lock().ok()?.next();
    let run = || {
        let mut state = state();
        while let Some(job) = next() {
            work(job, &mut state);
        }
    };
    if helpers == 0 {
        return run();
    }
    let busy = AtomicUsize::new(helpers);
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                run();
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        run();
        // The others are at their last job: to sleep and be woken would take longer. A thread of
        // rayon's goes on to other work instead.
        let start = Instant::now();
        let outside = rayon::current_thread_index().is_none();
        while outside && busy.load(Ordering::Acquire) > 0 && start.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
    });
}
