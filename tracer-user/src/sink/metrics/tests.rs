//! Snapshots of a whole pipeline.

use std::collections::HashSet;

use super::*;
use crate::enrich::usage::Usage;
use crate::event::look::Activity;
use crate::event::{Event, FindingState, StallKind, Stamped, Tick};
use crate::kernel::cost::ProgramCost;
use crate::metrics::{Family, Kind, table};
use crate::model::script::{MIB, Script, memcg};
use crate::outbox::frame::encode;
use crate::outbox::protocol::{Delivery, MAX_FRAME_BYTES, Order};
use crate::sink::recorder::Totals;

fn settings() -> settings::Metrics {
    settings::Metrics::default()
}

/// Everything that can be told.
fn extra() -> Extra {
    Extra {
        ready: true,
        usage: vec![("tracer", Usage { resident_bytes: 9 * MIB, ..Usage::default() })],
        bpf_map_bytes: Some(MIB),
        programs: vec![ProgramCost {
            name: "rss_stat".into(),
            runs: 10,
            run_ns: 1000,
            over_s: 1.0,
        }],
        courier_ends: Some(2),
        recorder: Some(Totals { events: 5, ..Totals::default() }),
        deliveries: vec![
            Delivery { receiver: "webhook:a\n".into(), lost: 3, ..Delivery::default() },
            Delivery { receiver: "endpoint".into(), lost: 4, ..Delivery::default() },
            Delivery { receiver: "metrics:b".into(), retried: 5, lost: 6, ..Delivery::default() },
        ],
        settings_ok: Some(false),
    }
}

/// A sink that has seen the events, beside the model that took them.
fn told(script: &Script, events: Vec<Event>, settings: &settings::Metrics) -> Vec<Family> {
    let mut sink = MetricsSink::with_clock(|| 2_000_000_000_000);
    for event in events {
        let at = Stamped { t_ns: script.t_ns, wall_ns: 0, event };
        sink.event(&script.model, &at).unwrap();
    }
    sink.metrics().snapshot(&script.model, settings, &extra()).families
}

fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let family = families.iter().find(|family| family.name == name)?;
    let mut found = family.samples.iter().filter(|sample| {
        let has = |(name, value): &(&str, &str)| {
            sample.labels.iter().any(|label| label.0 == *name && label.1 == *value)
        };
        labels.iter().all(has)
    });
    let value = found.next().map(|sample| sample.value);
    assert_eq!(found.count(), 0, "{name} {labels:?} is not one series");
    value
}

/// A host with a full cgroup, a pool in it, and a runaway.
fn scene() -> (Script, Vec<Event>) {
    let mut script = Script::new();
    script.host(1000.0, 600.0, 100.0);
    script.cgroup_with("/system.slice/php.service", 90.0, |cgroup| {
        cgroup.max_bytes = Some(100 * MIB);
        cgroup.high_bytes = Some(95 * MIB);
        cgroup.events = Some(crate::event::CgroupEvents { max: 4, ..Default::default() });
    });
    script.cgroup_with("/other", 1.0, |cgroup| cgroup.max_bytes = None);
    script.psi("/system.slice/php.service", 25.0, 5.0);
    for tgid in 11..=13 {
        script.worker(tgid, "www", "/system.slice/php.service");
        script.size(tgid, f64::from(tgid));
    }
    script.look(11, |look| (look.requests, look.activity) = (Some(3), Activity::Request));
    for step in 0..10 {
        script.wait(0.5);
        script.size(13, 13.0 + 3.0 * f64::from(step));
        script.tick();
    }
    script.stall(12, StallKind::Memcg, 2.0);
    let victims = vec![script.victim(12, "php-fpm", "/system.slice/php.service", 12.0)];
    script.oom(memcg("/system.slice/php.service", 100.0), 13, victims);
    let mut events: Vec<Event> = script
        .findings
        .iter()
        .map(|(_, finding)| Event::Finding(Box::new(finding.clone())))
        .collect();
    events.push(Event::Tick(Tick {}));
    (script, events)
}

#[test]
fn host_cgroups_pools_and_processes_are_told() {
    let (script, events) = scene();
    let now = told(&script, events, &settings());
    let mib = MIB as f64;
    assert_eq!(value(&now, "rampage_host_memory", &[]), Some(1000.0 * mib));
    assert_eq!(value(&now, "rampage_host_memory_used", &[]), Some(400.0 * mib));
    let php = [("cgroup", "/system.slice/php.service"), ("unit", "php.service")];
    assert!(value(&now, "rampage_cgroup_memory_usage", &php).unwrap() >= 90.0 * mib);
    assert_eq!(value(&now, "rampage_cgroup_memory_limit", &php), Some(100.0 * mib));
    assert_eq!(value(&now, "rampage_cgroup_memory_limit", &[("cgroup", "/other")]), None);
    assert!(value(&now, "rampage_cgroup_time_left", &php).is_some());
    let some = [("unit", "php.service"), ("waiting", "some")];
    assert_eq!(value(&now, "rampage_cgroup_pressure", &some), Some(0.25));
    let hit = [("unit", "php.service"), ("event", "max")];
    assert_eq!(value(&now, "rampage_cgroup_events", &hit), Some(4.0));
    let www = [("pool", "www"), ("cgroup", "/system.slice/php.service")];
    assert_eq!(value(&now, "rampage_pool_workers", &www), Some(3.0));
    assert_eq!(value(&now, "rampage_pool_workers_busy", &www), Some(1.0));
    assert_eq!(value(&now, "rampage_pool_largest_worker", &www), Some(40.0 * mib));
    assert_eq!(value(&now, "rampage_pool_memory", &www), Some((11.0 + 12.0 + 40.0) * mib));
    let largest = [("tgid", "13"), ("pool", "www")];
    assert_eq!(value(&now, "rampage_top_process_memory", &largest), Some(40.0 * mib));
    assert!(value(&now, "rampage_top_process_growth", &largest).unwrap() > mib);
    assert_eq!(value(&now, "rampage_next_victim_memory", &[("limit", "host")]), Some(40.0 * mib));
}

#[test]
fn findings_and_what_others_know_are_told() {
    let (script, events) = scene();
    let open = script.findings.iter().filter(|(_, finding)| finding.state == FindingState::Raised);
    assert!(open.count() > 0);
    let now = told(&script, events, &settings());
    let runaway = [("kind", "runaway"), ("tgid", "13"), ("pool", "www")];
    assert_eq!(value(&now, "rampage_finding_active", &runaway), Some(1.0));
    let verdict = [("kind", "oom_verdict"), ("severity", "critical")];
    assert_eq!(value(&now, "rampage_findings", &verdict), Some(1.0));
    assert_eq!(value(&now, "rampage_tracer_resident_memory", &[]), Some(9.0 * MIB as f64));
    assert_eq!(value(&now, "rampage_alerts_lost", &[]), Some(3.0));
    let failed = [("receiver", "b"), ("outcome", "failed")];
    assert_eq!(value(&now, "rampage_metrics_exports", &failed), Some(5.0));
    let refused = [("outcome", "refused")];
    assert_eq!(value(&now, "rampage_endpoint_requests", &refused), Some(4.0));
    assert_eq!(value(&now, "rampage_settings_last_reload_successful", &[]), Some(0.0));
    assert_eq!(value(&now, "rampage_bpf_program_run", &[]), Some(1e-7));
    assert_eq!(value(&now, "rampage_events", &[("type", "tick")]), Some(1.0));
    let latency = value(&now, "rampage_event_latency", &[("statistic", "max")]);
    assert_eq!(latency, Some((2e12 - script.t_ns as f64) / 1e9));
}

/// Every family is one of the table, with no label that the table lacks, and no series twice.
#[test]
fn nothing_is_told_that_the_table_lacks() {
    let (script, events) = scene();
    let now = told(&script, events, &settings());
    let mut names = HashSet::new();
    for family in &now {
        assert!(names.insert(&family.name), "{} is there twice", family.name);
        let of = table::ALL.iter().find(|of| of.name == family.name).unwrap();
        assert_eq!((of.kind, of.unit, of.help), (family.kind, &*family.unit, &*family.help));
        let mut series = HashSet::new();
        for sample in &family.samples {
            assert!(series.insert(&sample.labels), "{}: {:?}", family.name, sample.labels);
            assert!(sample.labels.iter().all(|(name, _)| of.labels.contains(&&**name)));
            assert!(sample.value.is_finite(), "{} {:?}", family.name, sample.labels);
            assert!(family.kind == Kind::Gauge || sample.value >= 0.0);
        }
    }
}

#[test]
fn series_are_bounded_by_the_settings() {
    let mut script = Script::new();
    for n in 0..300_u32 {
        script.cgroup(&format!("/c{n}"), f64::from(n) / 3.0, 100.0, None);
        script.worker(1000 + n, &format!("pool{n}"), &format!("/c{n}"));
        script.size(1000 + n, f64::from(n));
    }
    let few = settings::Metrics {
        top_processes: 3,
        max_cgroups: 4,
        max_pools: 5,
        ..settings::Metrics::default()
    };
    let now = told(&script, vec![], &few);
    let series = |name: &str| {
        now.iter().find(|family| family.name == name).map_or(0, |family| family.samples.len())
    };
    assert_eq!(series("rampage_top_process_memory"), 3);
    assert_eq!(series("rampage_cgroup_memory_usage"), 4);
    assert_eq!(series("rampage_pool_workers"), 5);
    assert_eq!(value(&now, "rampage_processes_omitted", &[]), Some(297.0));
    assert_eq!(value(&now, "rampage_cgroups_omitted", &[]), Some(296.0));
    assert_eq!(value(&now, "rampage_pools_omitted", &[]), Some(295.0));
    assert!(value(&now, "rampage_cgroup_memory_usage", &[("cgroup", "/c299")]).is_some());
    let none = settings::Metrics { top_processes: 0, max_cgroups: 0, max_pools: 0, ..few };
    let now = told(&script, vec![], &none);
    assert_eq!(value(&now, "rampage_processes", &[]), Some(300.0));
    assert_eq!(value(&now, "rampage_cgroups_omitted", &[]), Some(300.0));
}

/// Names as long and as hostile as they can be, and as much of everything as the settings allow.
#[test]
fn the_largest_snapshot_fits_a_frame() {
    let most = 200;
    let quotes = "\"".repeat(240);
    let mut script = Script::new();
    script.host(64_000.0, 6000.0, 100.0);
    for n in 0..most {
        let pod = "kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice";
        let path = format!("/{pod}/lxc/{n}{quotes}/{n}{quotes}.scope");
        script.cgroup_with(&path, 50.0, |cgroup| {
            cgroup.max_bytes = Some(100 * MIB);
            cgroup.high_bytes = Some(95 * MIB);
            cgroup.events = Some(crate::event::CgroupEvents { max: 4, ..Default::default() });
        });
        script.psi(&path, 33.333_333, 12.345_678);
        let tgid = 4_000_000 + n;
        script.worker(tgid, &format!("{n}{quotes}"), &path);
        script.look(tgid, |look| (look.requests, look.activity) = (Some(3), Activity::Request));
        for step in 0..4 {
            script.wait(0.01);
            script.size(tgid, f64::from(n + 1) + f64::from(step) / 3.0);
        }
    }
    let all = settings::Metrics {
        top_processes: most,
        max_cgroups: most,
        max_pools: most,
        ..settings::Metrics::default()
    };
    let finding = |id| {
        let text = include_str!("../../outbox/finding.json");
        let mut finding: crate::event::Finding = serde_json::from_str(text).unwrap();
        finding.id = id;
        if let Some(subject) = &mut finding.subject {
            subject.pool = Some(quotes.as_str().into());
            subject.cgroup = Some(quotes.as_str().into());
        }
        Event::Finding(Box::new(finding))
    };
    let families = told(&script, (0..200).map(finding).collect(), &all);
    let series: usize = families.iter().map(|family| family.samples.len()).sum();
    let snapshot = crate::metrics::Snapshot { families, ..Default::default() };
    let order = Order::Metrics { id: u64::MAX, snapshot: Box::new(snapshot) };
    let mut bytes = Vec::new();
    encode(&order, &mut bytes).unwrap();
    println!("{series} series, {} bytes", bytes.len());
    // Not every series is there: without a forecast no time left, without a request no limit of PHP.
    let all = 26 * most as usize + 400;
    assert!(series > 22 * most as usize, "{series} series");
    assert!(bytes.len() / series * all < MAX_FRAME_BYTES, "{} bytes", bytes.len());
}

/// Of the measurement below.
const EVENTS: u128 = 100_000;

/// Prints the figures of the documentation: `cargo test --release -p tracer-user --lib -- --nocapture cost_of`.
/// The bounds are those of an unoptimised build on a busy machine.
#[test]
fn cost_of_an_event_and_of_a_snapshot() {
    let mut script = Script::new();
    script.host(16_000.0, 6000.0, 100.0);
    for n in 0..200_u32 {
        let path = format!("/kubepods.slice/kubepods-burstable.slice/c{n}.scope");
        script.cgroup(&path, 50.0, 100.0, Some(1.0));
    }
    for n in 0..1000_u32 {
        let path = format!("/kubepods.slice/kubepods-burstable.slice/c{}.scope", n % 200);
        script.worker(1000 + n, &format!("pool{}", n % 60), &path);
        for step in 0..4 {
            script.wait(0.01);
            script.size(1000 + n, f64::from(n + 1) + f64::from(step));
        }
    }
    let mut sink = MetricsSink::default();
    let growth = crate::event::Growth { tgid: 1, ..Default::default() };
    let at = Stamped { t_ns: clock::boot_ns(), wall_ns: 0, event: Event::Growth(growth) };
    let mut least = (u128::MAX, u128::MAX);
    for round in 0..5 {
        let began = std::time::Instant::now();
        for _ in 0..EVENTS {
            sink.event(&script.model, std::hint::black_box(&at)).unwrap();
        }
        let event_ns = began.elapsed().as_nanos() / EVENTS;
        let metrics = sink.metrics();
        let began = std::time::Instant::now();
        let snapshot = metrics.snapshot(&script.model, &settings(), &extra());
        let snapshot_us = began.elapsed().as_micros();
        let series: usize = snapshot.families.iter().map(|family| family.samples.len()).sum();
        let bytes = serde_json::to_vec(&snapshot).unwrap().len();
        least = (least.0.min(event_ns), least.1.min(snapshot_us));
        println!(
            "{round}: {event_ns} ns an event, {snapshot_us} µs for {series} series, {bytes} bytes of JSON"
        );
    }
    assert!(least.0 < 10_000, "{} ns an event", least.0);
    assert!(least.1 < 500_000, "{} µs a snapshot", least.1);
}
