//! Processes that the task iterator does not show: all of them where there is no iterator, and
//! some where a kernel hides them from it. They are read from /proc.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::enrich::process::{self, Identity, Reader};
use crate::event::{Growth, ProcessKey};

/// Reads at most this many each interval, so that a kernel without the iterator costs no core.
const MAX_READS: usize = 4096;

/// One look at an unswept process.
pub struct Look {
    /// Who it is; None = it was introduced before.
    pub identity: Option<Identity>,
    /// Its memory; None = it has not changed.
    pub growth: Option<Growth>,
    /// The process.
    pub key: ProcessKey,
}

/// Reader of unswept processes.
#[derive(Default)]
pub struct Unswept {
    reader: Reader,
    tgids: Vec<u32>,
    last: FxHashMap<ProcessKey, Growth>,
}

impl Unswept {
    /// The kernel side showed this process after all.
    pub fn forget(&mut self, key: &ProcessKey) {
        self.last.remove(key);
    }

    /// Looks for processes that are not in `swept`, and at those found before.
    pub fn look(&mut self, swept: &FxHashSet<u32>) -> Vec<Look> {
        if process::list_into(&mut self.tgids).is_err() {
            return Vec::new();
        }
        let own = std::process::id();
        let tgids = std::mem::take(&mut self.tgids);
        let looks = tgids
            .iter()
            .filter(|&&tgid| tgid != own && !swept.contains(&tgid))
            .take(MAX_READS)
            .filter_map(|&tgid| self.read(tgid))
            .collect();
        self.tgids = tgids;
        looks
    }

    /// Looks again at those found before.
    pub fn look_again(&mut self) -> Vec<Look> {
        let known: Vec<ProcessKey> = self.last.keys().copied().collect();
        known.into_iter().filter_map(|key| self.read(key.tgid)).collect()
    }

    /// None = it has ended, or is a kernel thread.
    fn read(&mut self, tgid: u32) -> Option<Look> {
        let stat = self.reader.stat(tgid).ok()?;
        if stat.kernel_thread || stat.ended() {
            return None;
        }
        let (key, faults) = (stat.key(), (stat.minor_faults, stat.major_faults));
        let status = self.reader.status(tgid).ok()?;
        if !status.has_memory {
            return None;
        }
        let oom_score_adj = self.reader.oom_score_adj(tgid).ok()?;
        let growth = process::growth(key, faults, &status, oom_score_adj);
        let before = self.last.insert(key, growth);
        let identity = match before {
            Some(_) => None,
            None => Some(self.reader.identity(tgid).ok().filter(|found| found.key == key)?),
        };
        Some(Look { identity, growth: (before != Some(growth)).then_some(growth), key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_swept_is_read_once_and_then_by_its_changes() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let tgid = child.id();
        let mut unswept = Unswept::default();
        let others: FxHashSet<u32> =
            process::list().unwrap().into_iter().filter(|&other| other != tgid).collect();
        // Before its exec the child is still this program.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let found = unswept.look(&others);
        let look = found.iter().find(|look| look.key.tgid == tgid).unwrap();
        assert_eq!(&*look.identity.as_ref().unwrap().comm, "sleep");
        assert!(look.growth.unwrap().file_bytes > 0);
        let key = look.key;
        let again = unswept.look_again();
        let look = again.iter().find(|look| look.key == key).unwrap();
        assert!(look.identity.is_none());
        unswept.forget(&key);
        assert!(unswept.look_again().iter().all(|look| look.key != key));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(unswept.look(&others).iter().all(|look| look.key != key));
    }
}
