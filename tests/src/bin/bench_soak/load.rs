//! The load: processes that stay, forks in bursts, and faults, each in a memory cgroup of its own.

use anyhow::Result;
use tests::cgroup::MemoryCgroup;
use tests::counters::Slot;
use tests::hog::Hog;

const MIB: u64 = 1 << 20;

/// Ends with its drop.
pub struct Load {
    // Before the cgroup that they are in.
    hogs: [Hog; 3],
    _cgroup: MemoryCgroup,
}

impl Load {
    /// 1,000 processes that sleep; 5,000 forks in a burst, one each 10 s; 60 MiB of faults a second.
    pub fn start() -> Result<Self> {
        let cgroup = MemoryCgroup::new("soak", 2048 * MIB)?;
        let hogs = [
            Hog::spawn(&cgroup, "comm:stays repeat:1000 { fork { comm:stay anon:1 hold } } hold")?,
            Hog::spawn(
                &cgroup,
                "comm:forks repeat:100000 { repeat:100 { repeat:50 { fork { exit:0 } } reap } sleep:9000 } hold",
            )?,
            Hog::spawn(&cgroup, "comm:faults repeat:10000000 { anon:60:60 free } hold")?,
        ];
        Ok(Self { hogs, _cgroup: cgroup })
    }

    /// Forks so far, those of the first thousand among them.
    pub fn forks(&self) -> u64 {
        self.hogs.iter().map(|hog| hog.count(Slot::Forks)).sum()
    }

    /// Minor faults of the third so far.
    pub fn faults(&self) -> Result<u64> {
        tests::proc::minor_faults(self.hogs[2].pid())
    }
}
