//! The host itself: swap, overcommit, what kills before the kernel does, whom the kernel would kill, the
//! largest processes, and the limits that a container puts around a pool.

pub mod cgroups;
pub mod containers;
pub mod cron;
pub mod earlyoom;
pub mod killers;
pub mod others;
pub mod pressure;
mod rules;
pub mod sysctl;
#[cfg(test)]
mod tests;
mod victim;

use std::collections::BTreeMap;
use std::path::Path;

use crate::Context;
use crate::budget::Demand;
use crate::machine::meminfo_bytes;
use crate::origin::Notes;
use crate::processes::Process;
use crate::report::Finding;
use crate::root::Root;
use killers::Killers;
use sysctl::Sysctl;

/// The file of transparent huge pages.
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kernel's settings, by name.
    pub sysctls: BTreeMap<&'static str, Sysctl>,
    /// Transparent huge pages: `always`, `madvise` or `never`; None where the kernel has none.
    pub thp: Option<String>,
    /// What may be promised at most with overcommit_memory 2, bytes; zero where it is not known.
    pub commit_limit_bytes: u64,
    /// What is promised, bytes; zero where it is not known.
    pub committed_bytes: u64,
    /// Programs that kill.
    pub killers: Killers,
    /// The tightest limit around each PHP-FPM master, by its tgid.
    pub masters: Vec<containers::Master>,
    /// Cron jobs that watch the memory.
    pub watches: Vec<cron::Watch>,
}

/// Reads them.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Facts {
    let meminfo = root.text(Path::new("/proc/meminfo")).unwrap_or_default();
    let thp = root.text(Path::new(THP)).unwrap_or_default();
    Facts {
        sysctls: sysctl::read(root, notes),
        thp: thp.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0.to_owned())),
        commit_limit_bytes: meminfo_bytes(&meminfo, "CommitLimit"),
        committed_bytes: meminfo_bytes(&meminfo, "Committed_AS"),
        killers: killers::read(root, processes, notes),
        masters: containers::read(root, processes),
        watches: cron::read(root, notes),
    }
}

/// What large processes take that are no known service.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    others::demands(context)
}

/// What is wrong.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let mut found = rules::judge(context);
    found.extend(victim::judge(context));
    found.extend(containers::judge(context));
    found.extend(cron::judge(context));
    found
}
