//! Losses on the way from the kernel: differences of its drop counters, and of the runs that the
//! kernel itself skipped because a program was already running on that CPU.

use std::os::fd::RawFd;
use std::sync::Arc;

use tracer_ebpf::{drop_reason, kind};

use crate::event::Lost;
use crate::kernel::load::Kernel;

/// Names of the slots, in the order of the counters.
pub const SOURCES: [&str; drop_reason::COUNT as usize] = [
    "ring:none",
    "ring:growth",
    "ring:sweep",
    "ring:fork",
    "ring:exec",
    "ring:exit",
    "ring:oom",
    "ring:signal",
    "ring:stall",
    "ring:cgroup",
    "ring:cgroup_path",
    "ring:cgroup_move",
    "ring:request_begin",
    "ring:request_end",
    "ring:php_stack",
    "map:procs",
    "kernel:unreadable",
    "kernel:threads",
];

const _: () = assert!(kind::PHP_STACK == 14 && drop_reason::THREADS == 17);

/// Where user space loses: processes that were not looked up, samples of PHP that were not named, and
/// suspects that the kernel does not sample.
pub const QUEUES: [&str; 3] = ["enrich:queue", "php:stacks", "map:suspects"];

/// What was counted up to the last look.
pub struct Losses {
    drops: [u64; SOURCES.len()],
    programs: Vec<(Arc<str>, RawFd, u64)>,
    queues: [u64; QUEUES.len()],
}

impl Losses {
    /// Starts at zero, with the programs that are attached now.
    pub fn new(kernel: &Kernel) -> Self {
        let programs = kernel
            .program_fds()
            .map(|(name, fd)| (Arc::from(format!("missed:{name}")), fd, 0))
            .collect();
        Self { drops: [0; SOURCES.len()], programs, queues: [0; QUEUES.len()] }
    }

    /// What was lost since the last call. `queues`: what user space could not take on since the
    /// start, in the order of [`QUEUES`].
    pub fn since_last(
        &mut self,
        kernel: &Kernel,
        queues: [u64; QUEUES.len()],
    ) -> anyhow::Result<Vec<Lost>> {
        let mut lost = Vec::new();
        for ((source, before), now) in SOURCES.iter().zip(&mut self.drops).zip(kernel.drops()?) {
            push(&mut lost, || Arc::from(*source), before, now);
        }
        for (source, fd, before) in &mut self.programs {
            push(&mut lost, || source.clone(), before, recursion_misses(*fd).unwrap_or(*before));
        }
        for ((source, before), now) in QUEUES.iter().zip(&mut self.queues).zip(queues) {
            push(&mut lost, || Arc::from(*source), before, now);
        }
        Ok(lost)
    }
}

fn push(lost: &mut Vec<Lost>, source: impl Fn() -> Arc<str>, before: &mut u64, now: u64) {
    let records = now.saturating_sub(*before);
    *before = now;
    if records > 0 {
        lost.push(Lost { source: source(), records });
    }
}

/// Runs of a program that the kernel skipped (from 5.12 on).
fn recursion_misses(fd: RawFd) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_lost() {
        let mut before = 3;
        let mut lost = Vec::new();
        push(&mut lost, || Arc::from("ring:fork"), &mut before, 3);
        assert!(lost.is_empty());
        push(&mut lost, || Arc::from("ring:fork"), &mut before, 10);
        assert_eq!(lost, [Lost { source: Arc::from("ring:fork"), records: 7 }]);
        push(&mut lost, || Arc::from("ring:fork"), &mut before, 10);
        assert_eq!(lost.len(), 1);
    }
}
