//! The numbers that findings rest on, by their kind.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ScopeKind;
use super::look::{Frame, Memory, Missing, Request};

pub(super) fn is_zero(records: &u64) -> bool {
    *records == 0
}

/// Evidence of a `runaway` finding. Rates and times left are estimates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runaway {
    /// Which memory of the subject grows.
    #[serde(default)]
    pub memory: MemoryKind,
    /// Growth of that memory.
    pub rate_bytes_per_s: f64,
    /// Net growth towards the limit, everybody included.
    pub limit_rate_bytes_per_s: f64,
    /// How much of it the subject has.
    pub used_bytes: u64,
    /// How much of it was grown since its growth began.
    pub grown_bytes: u64,
    /// When its growth began, CLOCK_BOOTTIME ns.
    #[serde(default)]
    pub onset_ns: u64,
    /// How long it has grown since then, s.
    pub growing_s: f64,
    /// Share of the subject in all growth towards the limit, 0 to 1.
    pub share: f64,
    /// The limit that is reached first.
    pub limit: Limit,
    /// Estimated time until then, s.
    pub eta_s: f64,
    /// The same at the highest rate of late, s: over the time that the rate is taken from, or over
    /// one of its halves.
    #[serde(default)]
    pub eta_soonest_s: f64,
    /// The same at the lowest of these rates, s; null = it may never be reached.
    #[serde(default)]
    pub eta_latest_s: Option<f64>,
    /// What a PHP process does; null = no PHP, or not read.
    #[serde(default)]
    pub request: Option<Request>,
    /// Its PHP stack, innermost frame first.
    #[serde(default)]
    pub php_stack: Vec<Frame>,
    /// Its PHP memory manager.
    #[serde(default)]
    pub php: Option<Memory>,
    /// Growth of the request by PHP function, largest first, at most five.
    #[serde(default)]
    pub php_growth: Vec<Spot>,
    /// What of PHP could not be read.
    #[serde(default)]
    pub php_missing: Vec<Missing>,
    /// Whom the OOM killer would choose at that limit now; null = nobody, or not known.
    #[serde(default)]
    pub next_victim: Option<NextVictim>,
    /// Records that were lost since its growth began: figures may be too low.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_records: u64,
    /// How long the trace had run then, s, where memory may have grown before it began; null = all of
    /// the growth was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_s: Option<f64>,
}

/// Whom the OOM killer would choose if the limit were hit now, by the kernel's own rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextVictim {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// PHP pool.
    #[serde(default)]
    pub pool: Option<Arc<str>>,
    /// What it is judged by: anon + file + shmem + swap and page tables.
    pub used_bytes: u64,
    /// What is added to that, in thousandths of the limit.
    pub oom_score_adj: i32,
    /// False = another process comes so near that, as exactly as sizes are known, it may be chosen
    /// instead.
    pub is_certain: bool,
    /// The cgroup that is killed as a whole with it (memory.oom.group); null = it dies alone.
    #[serde(default)]
    pub group: Option<Arc<str>>,
}

/// Which memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Its own: anon + swap.
    #[default]
    Private,
    /// Shared memory that it maps: memfd, tmpfs files, System V and anonymous shared memory.
    Shared,
}

/// Evidence of a `leak` finding about one process (of a pool's it is a [`PoolDiagnosis`]). Rates
/// and times left are estimates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    /// Median of the rises of the least anon + swap between any two spans of time.
    pub floor_rate_bytes_per_s: f64,
    /// From the first span's least to the last one's.
    pub rise_bytes: u64,
    /// Time that this was watched for, s.
    pub watched_s: f64,
    /// The last span's least.
    pub floor_bytes: u64,
    /// The limit that is reached first.
    pub limit: Limit,
    /// Estimated time until then, s.
    pub eta_s: f64,
    /// What a PHP process does; null = no PHP, or not read.
    #[serde(default)]
    pub request: Option<Request>,
}

/// Growth in one PHP function, sampled as it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    /// `App\\Import::load`; null = a file's own code.
    pub function: Option<Arc<str>>,
    /// File.
    pub file: Option<Arc<str>>,
    /// The line where it grew most.
    pub line: Option<u32>,
    /// Growth of anon + swap that the samples there stand for.
    pub grown_bytes: u64,
    /// Share in all growth that was sampled in the request, 0 to 1.
    pub share: f64,
    /// Samples.
    pub samples: u64,
}

/// Evidence of a `pool` finding. What a pool has is anon + swap; what its workers share through
/// opcache or APCu is told apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolDiagnosis {
    /// What is wrong.
    pub diagnosis: Diagnosis,
    /// Workers that live.
    pub workers: usize,
    /// Anon + swap of all workers, together not more than what the limit is charged with: forked
    /// workers go on sharing pages that neither has written to.
    pub used_bytes: u64,
    /// Anon + swap of the median worker, after the same correction.
    pub median_bytes: u64,
    /// Shared memory that the worker with most of it maps.
    pub shared_bytes: u64,
    /// The limit over the pool that is nearest.
    pub limit: Limit,
    /// The largest workers, largest first, at most five.
    pub largest: Vec<PoolWorker>,
    /// `pool_too_large`: workers of the median size that fit.
    #[serde(default)]
    pub workers_that_fit: Option<u64>,
    /// `slow_leak`: what each request leaves behind, bytes; an estimate.
    #[serde(default)]
    pub leak_bytes_per_request: Option<f64>,
    /// `slow_leak`: requests in which that was watched.
    #[serde(default)]
    pub leak_requests: Option<u64>,
    /// `slow_leak`: the pm.max_requests that keeps the pool below its limit; an estimate.
    #[serde(default)]
    pub max_requests: Option<u64>,
    /// Records that were lost in the last minute: figures may be too low.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_records: u64,
}

/// What is wrong with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis {
    /// One worker or a few hold most of its memory.
    RunawayWorker,
    /// Many moderate workers are too many.
    PoolTooLarge,
    /// Every request leaves something behind.
    SlowLeak,
    /// It looks large, because its workers share memory: no problem.
    SharedMemory,
}

/// A worker of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolWorker {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Anon + swap.
    pub used_bytes: u64,
    /// What it does; null = nothing, or not read.
    pub request: Option<Request>,
}

/// A limit and what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Which limit.
    pub kind: ScopeKind,
    /// Path of the cgroup; null for the host, and for PHP's memory_limit.
    pub path: Option<Arc<str>>,
    /// Which setting of the cgroup.
    #[serde(default)]
    pub setting: LimitSetting,
    /// The limit; for the host MemTotal + SwapTotal.
    pub bytes: u64,
    /// What is left, reclaimable file pages and what may be swapped out counted as free.
    pub headroom_bytes: u64,
}

/// A setting of a memory cgroup that limits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSetting {
    /// memory.max or memory.limit_in_bytes: beyond it the OOM killer comes.
    #[default]
    Max,
    /// memory.high: beyond it processes are throttled.
    High,
    /// memory.memsw.limit_in_bytes: memory and swap together.
    MemoryAndSwap,
}

/// Evidence of a `pressure` finding: processes wait for memory instead of working.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LostWork {
    /// How it is lost.
    pub form: LostForm,
    /// The limit. Of the host: MemTotal, and what is available of it.
    pub limit: Limit,
    /// Time that all its processes waited in reclaim per second, over ten seconds: 1 = one of them
    /// did nothing else; of several it may be more.
    pub stall_share: f64,
    /// PSI some, 10 s, percent; null = no PSI.
    pub some_avg10: Option<f64>,
    /// PSI full, 10 s, percent; null = no PSI.
    pub full_avg10: Option<f64>,
    /// Who grows, the fastest first, at most five.
    pub growers: Vec<Waiting>,
    /// Who waits, the longest first, at most five.
    pub waiters: Vec<Waiting>,
    /// Who holds most.
    pub largest: Option<Waiting>,
    /// Records that were lost in the ten seconds that it looks back: figures may be too low.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_records: u64,
}

/// How work is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostForm {
    /// Processes wait in reclaim.
    Stalled,
    /// The same because of memory.high, which slows them down.
    Throttled,
    /// Tasks hang for ever: the limit is reached and its OOM killer disabled (v1).
    Hung,
}

/// A process at a limit under pressure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// PHP pool.
    pub pool: Option<Arc<str>>,
    /// Anon + swap.
    pub used_bytes: u64,
    /// Growth; 0 = it does not grow.
    pub rate_bytes_per_s: f64,
    /// Time that it waited per second, over ten seconds; 0 = not among those who wait most.
    pub stall_share: f64,
}
