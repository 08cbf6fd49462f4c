//! When a runaway is named, and when not.

mod certainty;
mod life;
mod limits;
mod php;
mod quiet;
mod shared;

use crate::event::look::{Activity, Memory};
use crate::event::{
    Config, Evidence, Filters, Finding, FindingKind, FindingState, MemoryKind, ProcessCause,
    Runaway, ScopeKind, Severity,
};
use crate::model::script::{MIB, Script, bytes, in_request};

fn evidence(finding: &Finding) -> &Runaway {
    match &finding.evidence {
        Evidence::Runaway(runaway) => runaway,
        _ => panic!("no runaway: {finding:?}"),
    }
}

fn raised(script: &Script) -> Vec<&(f64, Finding)> {
    script.of_kind(FindingKind::Runaway)
}

/// Three idle workers and one (pid 4) that will grow, in a cgroup of 256 MiB with 60 MiB of charge
/// that belongs to nobody.
fn pool(script: &mut Script) {
    script.host(8192.0, 6000.0, 0.0);
    script.cgroup("/web", 100.0, 256.0, Some(0.0));
    for tgid in 1..=4 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 10.0);
    }
    for _ in 0..30 {
        script.wait(1.0).cgroup("/web", 100.0, 256.0, Some(0.0));
        script.host(8192.0, 6000.0, 0.0);
        script.tick();
    }
}

/// Worker 4 grows at a rate (MiB/s), reported each 4 MiB or each second, until nothing is left.
/// `cgroup_events`: usage comes with the growth too. Gives the time of the kill.
fn leak(script: &mut Script, rate: f64, cgroup_events: bool) -> f64 {
    let mut since_tick = 0.0;
    let step = (4.0 / rate).min(1.0);
    let start = script.now();
    loop {
        script.wait(step);
        since_tick += step;
        let grown = (script.now() - start) * rate;
        if grown > 156.0 {
            return script.now();
        }
        script.size(4, 10.0 + grown);
        if cgroup_events {
            script.cgroup("/web", 100.0 + grown, 256.0, None);
        }
        if since_tick >= 1.0 {
            since_tick -= 1.0;
            script.cgroup("/web", 100.0 + grown, 256.0, Some(0.0));
            script.host(8192.0, 6000.0 - grown, 0.0);
            script.tick();
        }
    }
}

#[test]
fn a_leak_is_named_once_at_every_pace() {
    for rate in [1.0, 5.0, 50.0, 400.0] {
        for cgroup_events in [false, true] {
            let mut script = Script::new();
            pool(&mut script);
            let killed = leak(&mut script, rate, cgroup_events);
            let raised = raised(&script);
            assert_eq!(raised.len(), 1, "at {rate} MiB/s: {raised:?}");
            let (t, finding) = raised[0];
            let runaway = evidence(finding);
            let subject = finding.subject.as_ref().unwrap();
            assert_eq!((subject.tgid, subject.pool.as_deref()), (4, Some("www")));
            assert_eq!(runaway.limit.path.as_deref(), Some("/web"));
            let left = killed - t;
            assert!(left > 0.5 * (156.0 / rate).min(60.0), "at {rate} MiB/s only {left} s left");
            let error = (runaway.eta_s - left).abs() / left;
            assert!(error < 0.2, "at {rate} MiB/s {} s for {left} s", runaway.eta_s);
            let measured = runaway.rate_bytes_per_s / MIB as f64;
            assert!((measured / rate - 1.0).abs() < 0.15, "{measured} at {rate} MiB/s");
            let critical = runaway.eta_s < 10.0;
            assert_eq!(finding.severity == Severity::Critical, critical);
        }
    }
}

#[test]
fn the_summary_is_a_sentence() {
    let mut script = Script::new();
    pool(&mut script);
    leak(&mut script, 50.0, true);
    let summary = &raised(&script)[0].1.summary;
    assert_eq!(
        summary,
        "php-fpm8.2 (pool www, pid 4) grows 50.0 MiB/s, has 42.0 MiB, and reaches the 256 MiB limit \
         of /web in about 2.5 s"
    );
}

#[test]
fn a_leak_beside_page_cache_is_named_when_it_eats_the_cache() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 10.0);
    for s in 0..40 {
        let anon = 10.0 + 5.0 * f64::from(s);
        script.wait(1.0).size(1, anon);
        script.cgroup("/web", 256.0, 256.0, Some(246.0 - 5.0 * f64::from(s)));
        script.tick();
    }
    let raised = raised(&script);
    assert_eq!(raised.len(), 1);
    let left = evidence(&raised[0].1).limit.headroom_bytes / MIB;
    assert!((150..=200).contains(&left), "{left}");
}

#[test]
fn a_process_that_is_swapped_out_still_grows() {
    let mut script = Script::new();
    pool(&mut script);
    for s in 1..=60_u32 {
        let growth = crate::event::Growth {
            tgid: 4,
            start_ns: crate::model::script::key(4).start_ns,
            anon_bytes: bytes(10.0),
            swap_bytes: bytes(4.0 * f64::from(s)),
            ..Default::default()
        };
        script.wait(1.0).feed(crate::event::Event::Growth(growth));
    }
    assert_eq!(raised(&script).len(), 1);
}

#[test]
fn filters_restrict_what_is_named() {
    let named = |filters: Filters| {
        let mut script = Script::with(Config { filters, ..Config::default() });
        pool(&mut script);
        leak(&mut script, 50.0, true);
        raised(&script).len()
    };
    assert_eq!(named(Filters { php: true, ..Filters::default() }), 1);
    assert_eq!(named(Filters { tgid: vec![4], ..Filters::default() }), 1);
    assert_eq!(named(Filters { tgid: vec![1], ..Filters::default() }), 0);
    assert_eq!(named(Filters { comm: Some("maria".to_owned()), ..Filters::default() }), 0);
    assert_eq!(named(Filters { cgroup: Some("/db".to_owned()), ..Filters::default() }), 0);
}
