//! What no file tells: memory_limit in force in running workers, and how large workers became in a trace.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use audit::observed::{Observed, Pool, Worker};
use audit::{Note, Root};
use rustc_hash::FxHashMap;

use crate::cli::{Speed, UsageError};
use crate::command::php;
use crate::command::replay::DamagedInput;
use crate::event::{Diagnosis, Event, Evidence, ProcessKey, Stamped};
use crate::model::Model;
use crate::php::LookOptions;
use crate::pipeline::Pipeline;
use crate::run::{self, RunOptions};
use crate::sink::{Sink, SinkError};
use crate::source::replay::ReplaySource;

/// A worker that does not answer within this is left out.
const LOOK_WITHIN: Duration = Duration::from_millis(300);
/// All of them together: an audit is over within two seconds.
const LOOKS_WITHIN: Duration = Duration::from_secs(1);

/// What could be seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// For the audit.
    pub observed: Observed,
    /// What could not be seen, and why.
    pub unseen: Vec<Note>,
    /// Of the trace; what came before it counts.
    pub damage: Option<DamagedInput>,
}

impl Seen {
    fn miss(&mut self, text: String) {
        self.unseen.push(Note { at: None, text });
    }
}

/// Everything that can be seen.
pub fn all(root: &Root, trace: Option<&Path>) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    if root.is_host() {
        running(&mut seen);
    }
    if let Some(trace) = trace {
        traced(trace, &mut seen)?;
    }
    Ok(seen)
}

fn running(seen: &mut Seen) {
    let options = LookOptions { timeout: LOOK_WITHIN, ..LookOptions::default() };
    let (workers, silent) = match php::all(options, LOOKS_WITHIN) {
        Ok(found) => found,
        Err(error) => {
            return seen.miss(format!("limits in force in workers are not seen: {error}"));
        }
    };
    if let Some(line) = silent.line() {
        seen.miss(line);
    }
    let worker = |worker: php::Worker| {
        let limit_bytes = worker.look.memory?.limit_bytes;
        let pool = worker.look.pool?.to_string();
        Some(Worker { tgid: worker.look.tgid, master_tgid: worker.who.ppid, pool, limit_bytes })
    };
    seen.observed.workers = workers.into_iter().filter_map(worker).collect();
}

/// The pools of a trace.
fn traced(trace: &Path, seen: &mut Seen) -> anyhow::Result<()> {
    let mut source =
        ReplaySource::open(trace, Speed::Max).map_err(|source| UsageError::Input { source })?;
    let mut survey = Survey::default();
    let pipeline = &mut Pipeline::new(vec![&mut survey]);
    let reason = run::block_on(run::run(&mut source, pipeline, RunOptions::default()))?;
    ensure!(reason == "end of input", "ended before the trace was read");
    if let Some((file, damage)) = source.damaged_file() {
        let name = file.to_string_lossy().into_owned();
        seen.damage = Some(DamagedInput { name, damage });
    }
    seen.observed.pools = survey.pools();
    if seen.observed.pools.is_empty() {
        seen.miss(
            "no worker of a PHP pool is in the trace: the limits are taken instead".to_owned(),
        );
    }
    Ok(())
}

/// The largest each worker became, and the leaks that were found.
#[derive(Debug, Default)]
struct Survey {
    workers: FxHashMap<ProcessKey, Peak>,
    leaks: BTreeMap<String, u64>,
}

/// A worker at its largest.
#[derive(Debug)]
struct Peak {
    pool: String,
    master_tgid: Option<u32>,
    bytes: u64,
}

impl Survey {
    /// Each pool once. Of several masters with one of that name, such as those of two versions of PHP, the larger
    /// figures count: what is said of a share of the workers then holds for all of them.
    fn pools(self) -> Vec<Pool> {
        let mut sizes: BTreeMap<(String, Option<u32>), Vec<u64>> = BTreeMap::new();
        for Peak { pool, master_tgid, bytes } in self.workers.into_values() {
            sizes.entry((pool, master_tgid)).or_default().push(bytes);
        }
        let mut pools: Vec<Pool> = Vec::new();
        for ((name, _), mut sizes) in sizes {
            sizes.sort_unstable();
            let [p50_bytes, p95_bytes, largest_bytes] =
                [50, 95, 100].map(|percent| percentile(&sizes, percent));
            let workers = sizes.len() as u64;
            match pools.last_mut().filter(|known| known.name == name) {
                Some(known) => {
                    known.workers += workers;
                    known.p50_bytes = known.p50_bytes.max(p50_bytes);
                    known.p95_bytes = known.p95_bytes.max(p95_bytes);
                    known.largest_bytes = known.largest_bytes.max(largest_bytes);
                }
                None => pools.push(Pool {
                    workers,
                    p50_bytes,
                    p95_bytes,
                    largest_bytes,
                    leak_bytes_per_request: self.leaks.get(&name).copied(),
                    name,
                }),
            }
        }
        pools
    }
}

/// Nearest rank, of sorted sizes; 0 = there are none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|at| sorted.get(at)).copied().unwrap_or(0)
}

impl Sink for Survey {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Growth(growth) => {
                let key = ProcessKey { tgid: growth.tgid, start_ns: growth.start_ns };
                let php = model.process(&key).and_then(|process| process.php.as_ref());
                if let Some((php, pool)) = php.and_then(|php| Some((php, php.pool.as_ref()?))) {
                    let bytes = growth.anon_bytes.saturating_add(growth.swap_bytes);
                    let master_tgid = php.master_tgid;
                    let new = || Peak { pool: pool.to_string(), master_tgid, bytes };
                    let peak = self.workers.entry(key).or_insert_with(new);
                    peak.bytes = peak.bytes.max(bytes);
                }
            }
            Event::Finding(finding) => {
                if let Evidence::Pool(pool) = &finding.evidence
                    && pool.diagnosis == Diagnosis::SlowLeak
                    && let Some(bytes) = pool.leak_bytes_per_request
                    && let Some(name) = finding.subject.as_ref().and_then(|one| one.pool.as_deref())
                {
                    self.leaks.insert(name.to_owned(), bytes as u64);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_of_one_name_are_not_made_small_by_each_other() {
        let mut survey = Survey::default();
        // A hundred small workers of one master, two large ones of another.
        let sizes = (0..100).map(|_| (1, 10)).chain([(2, 900), (2, 1000)]);
        for (start_ns, (master, bytes)) in (0..).zip(sizes) {
            let peak = Peak { pool: "www".to_owned(), master_tgid: Some(master), bytes };
            survey.workers.insert(ProcessKey { tgid: 7, start_ns }, peak);
        }
        let pools = survey.pools();
        assert_eq!(pools.len(), 1);
        assert_eq!((pools[0].workers, pools[0].p50_bytes, pools[0].p95_bytes), (102, 900, 1000));
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let sizes: Vec<u64> = (1..=20).collect();
        assert_eq!([50, 95, 100].map(|percent| percentile(&sizes, percent)), [10, 19, 20]);
        assert_eq!([50, 95, 100].map(|percent| percentile(&[7], percent)), [7; 3]);
        assert_eq!(percentile(&[], 50), 0);
    }
}
