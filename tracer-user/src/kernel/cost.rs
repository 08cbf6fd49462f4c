//! What the kernel programs cost: their run time and runs, which the kernel counts while somebody
//! asks it to. Counting makes each run of every BPF program on the host some 30 ns longer, so it is
//! on for about two seconds in each minute only.
//!
//! To switch it on takes CAP_SYS_ADMIN at that moment: BPF_ENABLE_STATS asks for it, and writing
//! kernel.bpf_stats_enabled does so with each write, also to a file that was opened before (5.8 to
//! 6.18; kernel/bpf/syscall.c). A tracer that gives its capabilities away therefore leaves a child
//! behind that has this one alone and does nothing but switch ([`Switch`]). Without CAP_SYS_ADMIN the
//! costs are known only where somebody else has switched it on for good (`sysctl
//! kernel.bpf_stats_enabled=1`). To read the counts takes nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::load::Kernel;
use super::switch::{Answer, Switch};

/// Time between the beginnings of two measurements.
const EVERY: Duration = Duration::from_secs(60);
/// Least length of one: a little less than a second, so that the next step but one ends it.
const LENGTH: Duration = Duration::from_millis(900);
/// Whether the kernel counts for good.
const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What a program cost while it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramCost {
    /// Its name in the object.
    pub name: String,
    /// Runs.
    pub runs: u64,
    /// Time in them, ns.
    pub run_ns: u64,
    /// How long was measured, s.
    pub over_s: f64,
}

impl ProgramCost {
    /// Share of one CPU.
    pub fn cpu_ratio(&self) -> f64 {
        self.run_ns as f64 / 1e9 / self.over_s
    }

    /// Mean time of a run, s; None = it did not run.
    pub fn run_s(&self) -> Option<f64> {
        (self.runs > 0).then(|| self.run_ns as f64 / 1e9 / self.runs as f64)
    }

    /// Runs per second.
    pub fn runs_per_s(&self) -> f64 {
        self.runs as f64 / self.over_s
    }
}

/// Why the costs cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The kernel does not count.
    #[error(
        "what the kernel programs cost is not measured: {source}; it takes CAP_SYS_ADMIN, or sysctl \
         kernel.bpf_stats_enabled=1"
    )]
    NotCounted {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The counts cannot be read.
    #[error("what the kernel program {program} costs cannot be read: {source}")]
    Unreadable {
        /// Name of the program.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Measures the programs of this process, a second in each minute.
#[derive(Debug)]
pub struct Costs {
    programs: Vec<(String, OwnedFd)>,
    switch: Option<Switch>,
    next: Option<Instant>,
    present: Present,
    latest: Vec<ProgramCost>,
    problem: Option<CostError>,
}

/// What is under way.
#[derive(Debug)]
enum Present {
    Nothing,
    /// The switch was asked to let the kernel count.
    Asked,
    /// Since then, from these counts on.
    Measuring {
        since: Instant,
        before: Vec<Counted>,
    },
}

/// Since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    run_ns: u64,
    runs: u64,
}

impl Costs {
    /// Of these programs; goes on after the kernel side was taken down, with figures of nothing.
    /// Without a switch the kernel must be counting for good.
    pub fn of(kernel: &Kernel, switch: Option<Switch>) -> io::Result<Self> {
        let programs = kernel.program_fds().map(|(name, fd)| {
            // SAFETY: the descriptor is open as long as `kernel` lives, which is borrowed.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            Ok((name.to_owned(), fd.try_clone_to_owned()?))
        });
        let programs = programs.collect::<io::Result<_>>()?;
        let (present, latest) = (Present::Nothing, Vec::new());
        Ok(Self { programs, switch, next: None, present, latest, problem: None })
    }

    /// To be called about once a second: begins and ends measurements, and never waits. The first one
    /// begins at once.
    pub fn step(&mut self, now: Instant) {
        let stepped = match &self.present {
            Present::Nothing if self.next.is_none_or(|next| now >= next) => {
                self.next = Some(now + EVERY);
                self.ask()
            }
            Present::Asked => self.begin(),
            Present::Measuring { since, .. } if now.saturating_duration_since(*since) >= LENGTH => {
                self.end()
            }
            Present::Nothing | Present::Measuring { .. } => Ok(()),
        };
        if let Err(error) = stepped {
            if self.problem.is_none() {
                tracing::info!("{error}");
            }
            self.pause();
            self.problem = Some(error);
        }
    }

    /// Nothing is measured any more, until the next [`Costs::step`].
    pub fn pause(&mut self) {
        if !matches!(self.present, Present::Nothing) {
            self.release();
        }
        self.present = Present::Nothing;
        self.latest.clear();
    }

    /// What was measured last; empty = nothing yet.
    pub fn latest(&self) -> &[ProgramCost] {
        &self.latest
    }

    fn ask(&mut self) -> Result<(), CostError> {
        self.present = Present::Asked;
        match &mut self.switch {
            _ if counts_for_good() => self.begin_from_now(),
            Some(switch) => switch.on().map_err(|source| CostError::NotCounted { source }),
            None => Err(CostError::NotCounted { source: io::ErrorKind::PermissionDenied.into() }),
        }
    }

    fn begin(&mut self) -> Result<(), CostError> {
        let Some(switch) = &mut self.switch else { return Ok(()) };
        match switch.answer().map_err(|source| CostError::NotCounted { source })? {
            Answer::On => self.begin_from_now(),
            Answer::Pending => Ok(()),
        }
    }

    fn begin_from_now(&mut self) -> Result<(), CostError> {
        self.present = Present::Measuring { since: Instant::now(), before: self.read()? };
        self.problem = None;
        Ok(())
    }

    fn end(&mut self) -> Result<(), CostError> {
        let present = std::mem::replace(&mut self.present, Present::Nothing);
        let Present::Measuring { since, before } = present else { return Ok(()) };
        let after = self.read();
        let over_s = since.elapsed().as_secs_f64();
        self.release();
        let programs = self.programs.iter().zip(before).zip(after?);
        let costs = programs.map(|(((name, _), before), after)| ProgramCost {
            name: name.clone(),
            runs: after.runs.saturating_sub(before.runs),
            run_ns: after.run_ns.saturating_sub(before.run_ns),
            over_s,
        });
        self.latest = costs.collect();
        Ok(())
    }

    /// The kernel need not count any more. A switch that cannot be reached is gone, and with it what
    /// it held.
    fn release(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.off();
        }
    }

    fn read(&self) -> Result<Vec<Counted>, CostError> {
        let read = |(name, fd): &(String, OwnedFd)| {
            let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
            std::fs::read_to_string(path)
                .and_then(|info| counted(&info))
                .map_err(|source| CostError::Unreadable { program: name.clone(), source })
        };
        self.programs.iter().map(read).collect()
    }
}

/// Whether the kernel counts, whatever anybody asks.
fn counts_for_good() -> bool {
    std::fs::read_to_string(SYSCTL).is_ok_and(|text| text.trim() == "1")
}

/// run_time_ns and run_cnt of a program's /proc/self/fdinfo (from 5.1 on).
fn counted(info: &str) -> io::Result<Counted> {
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    let (run_ns, runs) = (value("run_time_ns:"), value("run_cnt:"));
    let counted = run_ns.zip(runs).map(|(run_ns, runs)| Counted { run_ns, runs });
    counted.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_the_kernel_writes_them() {
        let info = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nprog_type:\t26\nprog_jited:\t1\n\
                    prog_tag:\t5f2c\nmemlock:\t4096\nprog_id:\t38\nrun_time_ns:\t81930\n\
                    run_cnt:\t410\nrecursion_misses:\t0\nverified_insns:\t93\n";
        assert_eq!(counted(info).unwrap(), Counted { run_ns: 81_930, runs: 410 });
        assert!(counted("pos:\t0\nrun_cnt:\t1\n").is_err());
        assert!(counted("run_time_ns:\t-1\nrun_cnt:\t1\n").is_err());
    }

    #[test]
    fn shares_are_of_the_time_that_was_measured() {
        let cost = ProgramCost { name: "x".into(), runs: 4, run_ns: 20_000_000, over_s: 2.0 };
        assert!((cost.cpu_ratio() - 0.01).abs() < 1e-12);
        assert!((cost.run_s().unwrap() - 0.005).abs() < 1e-12);
        assert!((cost.runs_per_s() - 2.0).abs() < 1e-12);
        assert_eq!(ProgramCost { runs: 0, ..cost }.run_s(), None);
    }
}
