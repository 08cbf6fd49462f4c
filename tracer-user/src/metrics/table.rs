//! Every metric, described once: the sink fills these in, [`markdown`] makes the table of
//! `docs/metrics.md` from them, and the alert rules and the dashboard are tested against them.

use std::fmt::Write as _;

use super::Kind;

/// A metric before it has series.
#[derive(Debug, PartialEq, Eq)]
pub struct Description {
    /// As [`Family::name`](super::Family::name).
    pub name: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// As [`Family::unit`](super::Family::unit).
    pub unit: &'static str,
    /// Labels that its series may have; one that does not apply is left out.
    pub labels: &'static [&'static str],
    /// One sentence, without the full stop.
    pub help: &'static str,
}

impl Description {
    /// Its name as Prometheus stores it: with unit, and `_total` for a counter.
    pub fn full_name(&self) -> String {
        let mut name = self.name.to_owned();
        if !self.unit.is_empty() {
            name.push('_');
            name.push_str(self.unit);
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

macro_rules! table {
    ($($ident:ident: $kind:ident $name:literal $unit:literal $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Description = Description {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &$labels,
                help: $help,
            };
        )*

        /// All of them, in the order in which they are exposed.
        pub static ALL: &[&Description] = &[$(&$ident),*];
    };
}

table! {
    BUILD_INFO: Gauge "rampage_build_info" "" ["version", "kernel", "source"],
        "Always 1; the labels say which version of rampage runs on which kernel, and where its events come from (live or procfs)";
    READY: Gauge "rampage_ready" "" [],
        "1 when all processes were looked at, by kernel programs unless watch.source wants it otherwise, else 0";

    HOST_MEMORY: Gauge "rampage_host_memory" "bytes" [],
        "Memory of the host (MemTotal)";
    HOST_AVAILABLE: Gauge "rampage_host_memory_available" "bytes" [],
        "Memory that can be had without swapping (MemAvailable)";
    HOST_USED: Gauge "rampage_host_memory_used" "bytes" [],
        "Memory of the host that is not available";
    HOST_SWAP: Gauge "rampage_host_swap" "bytes" [],
        "Swap space of the host (SwapTotal)";
    HOST_SWAP_FREE: Gauge "rampage_host_swap_free" "bytes" [],
        "Free swap space of the host (SwapFree)";
    HOST_PRESSURE: Gauge "rampage_host_pressure" "ratio" ["waiting"],
        "Share of the last 10 s in which some tasks, or all that had work (full), waited for memory (PSI avg10)";
    HOST_STALLED: Counter "rampage_host_stalled" "seconds" ["reclaim"],
        "Time that all processes together waited in reclaim, because the host was short (direct) or at the limit of a memory cgroup (memcg)";
    HOST_GROWTH: Gauge "rampage_host_growth" "bytes_per_second" [],
        "Net rate at which available memory and free swap are used up";
    HOST_TIME_LEFT: Gauge "rampage_host_time_left" "seconds" [],
        "Estimated time until the host has neither memory nor swap left; absent while nothing is used up";

    CGROUP_USAGE: Gauge "rampage_cgroup_memory_usage" "bytes" CGROUP,
        "Memory charged to the cgroup and those below it";
    CGROUP_LIMIT: Gauge "rampage_cgroup_memory_limit" "bytes" CGROUP,
        "Limit of the cgroup at which the OOM killer comes (memory.max); absent when it has none";
    CGROUP_HIGH: Gauge "rampage_cgroup_memory_high" "bytes" CGROUP,
        "Limit of the cgroup above which its processes are slowed down (memory.high); absent when it has none";
    CGROUP_SWAP: Gauge "rampage_cgroup_swap_usage" "bytes" CGROUP,
        "Memory of the cgroup that is swapped out";
    CGROUP_RECLAIMABLE: Gauge "rampage_cgroup_memory_reclaimable" "bytes" CGROUP,
        "File pages charged to the cgroup that can be reclaimed, as last read";
    CGROUP_HEADROOM: Gauge "rampage_cgroup_memory_headroom" "bytes" CGROUP,
        "What is left of the limit that is met next, with reclaimable pages and usable swap counted as free";
    CGROUP_GROWTH: Gauge "rampage_cgroup_growth" "bytes_per_second" CGROUP,
        "Net rate at which memory of the cgroup that cannot be reclaimed grows";
    CGROUP_TIME_LEFT: Gauge "rampage_cgroup_time_left" "seconds" CGROUP,
        "Estimated time until the limit of the cgroup is met; absent while it is not being used up";
    CGROUP_STALLED: Counter "rampage_cgroup_stalled" "seconds" CGROUP,
        "Time that processes of the cgroup and those below it waited in reclaim, all together";
    CGROUP_PRESSURE: Gauge "rampage_cgroup_pressure" "ratio" CGROUP_WAITING,
        "Share of the last 10 s in which some tasks of the cgroup, or all that had work (full), waited for memory (PSI avg10)";
    CGROUP_EVENTS: Counter "rampage_cgroup_events" "" CGROUP_EVENT,
        "The kernel's own counters of the cgroup: throttled (high), limit hit (max), reclaim failed (oom), processes killed (oom_kill)";
    CGROUPS: Gauge "rampage_cgroups" "" [],
        "Memory cgroups that are known";
    CGROUPS_OMITTED: Gauge "rampage_cgroups_omitted" "" [],
        "Memory cgroups without series of their own, because metrics.max_cgroups others are fuller";

    POOL_WORKERS: Gauge "rampage_pool_workers" "" POOL,
        "Living workers of the PHP pool";
    POOL_BUSY: Gauge "rampage_pool_workers_busy" "" POOL,
        "Workers of the PHP pool that were in a request when they were last looked into";
    POOL_MEMORY: Gauge "rampage_pool_memory" "bytes" POOL,
        "Anonymous memory and swap of all workers of the PHP pool; pages that forked workers share count in each";
    POOL_LARGEST: Gauge "rampage_pool_largest_worker" "bytes" POOL,
        "Anonymous memory and swap of the largest worker of the PHP pool";
    POOL_GROWTH: Gauge "rampage_pool_growth" "bytes_per_second" POOL,
        "Net growth of anonymous memory and swap of all workers of the PHP pool";
    POOL_REQUESTS: Counter "rampage_pool_requests" "" POOL,
        "Requests of the PHP pool, as far as looks into its workers told: what a worker had after the last look is missing";
    POOL_MEMORY_LIMIT: Gauge "rampage_pool_memory_limit" "bytes" POOL,
        "Highest memory_limit in force in a worker of the PHP pool; absent when not known";
    POOLS: Gauge "rampage_pools" "" [],
        "PHP pools that have workers";
    POOLS_OMITTED: Gauge "rampage_pools_omitted" "" [],
        "PHP pools without series of their own, because metrics.max_pools others are larger";

    PROCESS_MEMORY: Gauge "rampage_top_process_memory" "bytes" PROCESS,
        "Anonymous memory and swap of a process among the largest; for the moment, not for sums over time";
    PROCESS_SWAP: Gauge "rampage_top_process_swap" "bytes" PROCESS,
        "What of that is swapped out";
    PROCESS_GROWTH: Gauge "rampage_top_process_growth" "bytes_per_second" PROCESS,
        "Growth of anonymous memory and swap of a process among the largest";
    PROCESSES: Gauge "rampage_processes" "" [],
        "Living processes that are known";
    PROCESSES_OMITTED: Gauge "rampage_processes_omitted" "" [],
        "Processes without series of their own, because metrics.top_processes others are larger";

    FINDINGS: Counter "rampage_findings" "" ["kind", "severity"],
        "Findings that were raised with this severity, or rose to it";
    FINDINGS_OPEN: Gauge "rampage_findings_open" "" ["kind", "severity"],
        "Findings that are open: what lasts and is not over";
    FINDING_ACTIVE: Gauge "rampage_finding_active" "" FINDING,
        "Always 1; an open finding and whom it is about, the most severe and then the newest first, at most 64";
    FINDINGS_OMITTED: Gauge "rampage_findings_omitted" "" [],
        "Open findings without series of their own, because there are more than 64";
    OOM_KILLS: Counter "rampage_oom_kills" "" ["scope"],
        "Times that the OOM killer struck, by whose limit was hit: a memory cgroup's (memcg), the host's, a cpuset's, or unknown";
    OOM_VICTIMS: Counter "rampage_oom_victims" "" ["scope"],
        "Processes that the OOM killer chose";
    KILLS: Counter "rampage_kills" "" ["by"],
        "Processes that mattered and were ended by somebody else than the OOM killer";
    NEXT_VICTIM: Gauge "rampage_next_victim_memory" "bytes" VICTIM,
        "Memory of the process that the OOM killer would choose now, by its own rule, at the host's limit and at that of the fullest cgroup";

    EVENTS: Counter "rampage_events" "" ["type"],
        "Events that went through the pipeline";
    LOST: Counter "rampage_lost_records" "" ["source"],
        "Records and measurements that could not be delivered or made, by where they were lost";
    LATENCY: Gauge "rampage_event_latency" "seconds" ["statistic"],
        "Time from an event to its being taken in, over the last one to two minutes: median (p50), p99 and max; exact to an eighth";
    CPU: Counter "rampage_tracer_cpu" "seconds" ["process", "mode"],
        "CPU time that rampage used itself; the kernel programs are not in it";
    RESIDENT: Gauge "rampage_tracer_resident_memory" "bytes" ["process"],
        "Resident memory of rampage";
    RESIDENT_PEAK: Gauge "rampage_tracer_resident_memory_peak" "bytes" ["process"],
        "Highest resident memory of rampage since its start";
    LOCKED: Gauge "rampage_tracer_locked_memory" "bytes" ["process"],
        "Address space of rampage whose pages stay in memory once they were touched";
    OPEN_FDS: Gauge "rampage_tracer_open_fds" "" ["process"],
        "File descriptors that rampage holds";
    THREADS: Gauge "rampage_tracer_threads" "" ["process"],
        "Threads of rampage";
    START_TIME: Gauge "rampage_tracer_start_time" "seconds" ["process"],
        "When it started, since 1970-01-01 UTC";
    BPF_MAPS: Gauge "rampage_bpf_map_memory" "bytes" [],
        "Kernel memory of the maps of the kernel programs";
    PROGRAM_CPU: Gauge "rampage_bpf_program_cpu" "ratio" ["program"],
        "Share of one CPU that the kernel program took, measured in one second of each minute";
    PROGRAM_RUN: Gauge "rampage_bpf_program_run" "seconds" ["program"],
        "Mean time of a run of the kernel program, measured in one second of each minute; absent when it did not run";
    PROGRAM_RUNS: Gauge "rampage_bpf_program_runs_per_second" "" ["program"],
        "Runs of the kernel program, measured in one second of each minute";

    RECORDER_EVENTS: Counter "rampage_recorder_events" "" [],
        "Events that the recorder wrote";
    RECORDER_BYTES: Counter "rampage_recorder_written" "bytes" [],
        "What the recorder wrote, compressed";
    RECORDER_LOST: Counter "rampage_recorder_lost_events" "" [],
        "Events that the recorder could not write";
    RECORDER_SEGMENTS: Gauge "rampage_recorder_segments" "" [],
        "Segments of the rolling trace that are kept";
    RECORDER_SEGMENT_BYTES: Gauge "rampage_recorder_segments_size" "bytes" [],
        "What these segments take on the disk";
    RECORDER_INCIDENTS: Gauge "rampage_recorder_incidents" "" [],
        "Incidents that are kept";
    RECORDER_UNSYNCED: Gauge "rampage_recorder_unsynced" "seconds" [],
        "Time since all that was recorded was last known to be on the disk";
    RECORDER_FAILING: Gauge "rampage_recorder_failing" "" [],
        "1 while the recorder cannot write, else 0";

    COURIER_ENDS: Counter "rampage_courier_ends" "" [],
        "Times that rampage-courier ended by itself, and was started again";
    ALERTS_DELIVERED: Counter "rampage_alerts_delivered" "" ["receiver"],
        "Alerts that the receiver took";
    ALERTS_RETRIED: Counter "rampage_alerts_retried" "" ["receiver"],
        "Attempts to deliver an alert that failed and were, or will be, repeated";
    ALERTS_LOST: Counter "rampage_alerts_lost" "" ["receiver"],
        "Alerts that were given up, or left out because the queue was full";
    ALERTS_QUEUED: Gauge "rampage_alerts_queued" "" ["receiver"],
        "Alerts that wait for the receiver";

    METRICS_EXPORTS: Counter "rampage_metrics_exports" "" ["receiver", "outcome"],
        "Exports of the metrics to a collector of OpenTelemetry that were taken, failed or were refused";
    ENDPOINT_REQUESTS: Counter "rampage_endpoint_requests" "" ["outcome"],
        "Requests for metrics and health that were answered, or turned away because there were too many";

    SETTINGS_OK: Gauge "rampage_settings_last_reload_successful" "" [],
        "1 when the settings were read at the last attempt, 0 when the file was refused and the old ones are in force";
}

/// A memory cgroup: its path, and whose it is as far as the path tells.
const CGROUP: [&str; 4] = ["cgroup", "container", "pod", "unit"];
const CGROUP_WAITING: [&str; 5] = ["cgroup", "container", "pod", "unit", "waiting"];
const CGROUP_EVENT: [&str; 5] = ["cgroup", "container", "pod", "unit", "event"];
const POOL: [&str; 2] = ["pool", "cgroup"];
const PROCESS: [&str; 4] = ["comm", "tgid", "cgroup", "pool"];
const FINDING: [&str; 8] =
    ["finding", "kind", "severity", "comm", "tgid", "cgroup", "pool", "limit"];
const VICTIM: [&str; 6] = ["limit", "comm", "tgid", "cgroup", "pool", "certain"];

/// The table of all metrics for the documentation, Markdown.
pub fn markdown() -> String {
    let mut out = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (metric.full_name(), labels.join(", "));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{name}` | {kind} | {labels} | {} |", metric.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    const BEGIN: &str = "<!-- Generated from tracer-user/src/metrics/table.rs: \
                         RAMPAGE_BLESS=1 cargo test -p tracer-user --lib metrics::table -->\n";
    const END: &str = "<!-- end -->\n";

    #[test]
    fn names_are_unique_and_well_formed() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.full_name()).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(metric.name.starts_with("rampage_") && is_plain(metric.name), "{metric:?}");
            assert!(metric.labels.iter().all(|label| is_plain(label)), "{metric:?}");
            for suffix in ["_total", "_bytes", "_seconds", "_count", "_sum", "_bucket"] {
                assert!(!metric.name.ends_with(suffix), "{metric:?}");
            }
            assert!(metric.help.len() > 8 && !metric.help.ends_with('.'), "{metric:?}");
            assert!(!metric.help.contains(['|', '\n']), "{metric:?}");
        }
    }

    #[test]
    fn the_documentation_has_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let begin = text.find(BEGIN).expect("the mark before the table") + BEGIN.len();
        let end = begin + text[begin..].find(END).expect("the mark behind the table");
        if std::env::var_os("RAMPAGE_BLESS").is_some() {
            let blessed = format!("{}{}{}", &text[..begin], markdown(), &text[end..]);
            std::fs::write(&path, blessed).unwrap();
            return;
        }
        assert!(text[begin..end] == markdown(), "renew it with RAMPAGE_BLESS=1");
    }
}
