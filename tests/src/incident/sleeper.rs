//! What lies on the swap of the machine: a process that nobody has asked for anything for weeks.

use std::time::Duration;

use anyhow::Result;

use crate::cgroup::MemoryCgroup;
use crate::clock;
use crate::hog::Hog;
use crate::proc;

/// As it was: how much of the swap was used.
const USED_PERCENT: u64 = 82;
/// What it keeps in memory, bytes.
const AWAKE_BYTES: u64 = 2 << 20;
const SOON: Duration = Duration::from_secs(30);

/// Sleeps until it is dropped. Neither it nor the test is a candidate for the OOM killer.
#[derive(Debug)]
pub struct Sleeper {
    _hog: Hog,
    _cgroup: MemoryCgroup,
}

impl Sleeper {
    /// Fills most of the swap.
    pub fn on_swap() -> Result<Self> {
        // The hog inherits it.
        proc::set_oom_score_adj(std::process::id(), -1000)?;
        let bytes = proc::meminfo("SwapTotal")? * USED_PERCENT / 100;
        let cgroup = MemoryCgroup::unlimited("sleeper")?;
        let script = format!("comm:sleeper anon:{} hold", (bytes + AWAKE_BYTES) >> 20);
        let hog = Hog::spawn(&cgroup, &script)?;
        hog.done("anon", SOON)?;
        cgroup.set_high(AWAKE_BYTES)?;
        clock::wait_for("the sleeper to be swapped out", SOON, || {
            Ok((proc::memory(hog.pid())?.swap_bytes >= bytes - AWAKE_BYTES / 2).then_some(()))
        })?;
        Ok(Self { _hog: hog, _cgroup: cgroup })
    }
}
