//! Each diagnosis from a pool made for it, and none where nothing is wrong.

use crate::event::Event;
use crate::event::look::Activity;
use crate::event::{Diagnosis, Evidence, Finding, FindingKind, Growth, PoolDiagnosis, Severity};
use crate::model::script::{MIB, Script, bytes, key};

fn diagnoses(script: &Script) -> Vec<(&Finding, &PoolDiagnosis)> {
    script
        .of_kinds(&[FindingKind::Pool, FindingKind::PoolTooLarge, FindingKind::Leak])
        .into_iter()
        .map(|(_, finding)| match &finding.evidence {
            Evidence::Pool(pool) => (finding, pool),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Workers 1 … of these sizes (MiB), in a cgroup with a limit, watched for some seconds.
fn pool(sizes: &[f64], limit: f64) -> Script {
    let mut script = Script::new();
    script.host(65_536.0, 60_000.0, 0.0);
    for (tgid, size) in (1..).zip(sizes) {
        script.worker(tgid, "www", "/web");
        script.size(tgid, *size);
    }
    let usage: f64 = sizes.iter().sum();
    for _ in 0..5 {
        script.cgroup("/web", usage + 10.0, limit, Some(0.0));
        script.wait(1.0).tick();
    }
    script
}

#[test]
fn one_large_worker_is_a_runaway() {
    let mut sizes = vec![40.0; 19];
    sizes.push(3000.0);
    let script = pool(&sizes, 4096.0);
    let found = diagnoses(&script);
    assert_eq!(found.len(), 1, "said once");
    let (finding, pool) = found[0];
    assert_eq!((pool.diagnosis, pool.workers), (Diagnosis::RunawayWorker, 20));
    assert_eq!((pool.largest[0].tgid, pool.median_bytes), (20, 40 * MIB));
    assert_eq!(
        finding.summary,
        "pool www: 1 of 20 workers holds 2.9 GiB of its 3.7 GiB (the others have about 40.0 MiB \
         each), and 92 % of the 4.0 GiB limit of /web is used; the largest is pid 20"
    );
    assert_eq!(finding.severity, Severity::Warning);
}

#[test]
fn many_moderate_workers_are_too_many_and_it_is_said_how_many_fit() {
    let script = pool(&[200.0; 20], 4096.0);
    let found = diagnoses(&script);
    assert_eq!(found.len(), 1);
    let (finding, pool) = found[0];
    assert_eq!((pool.diagnosis, pool.workers_that_fit), (Diagnosis::PoolTooLarge, Some(18)));
    assert_eq!(
        finding.summary,
        "pool www is too large: 20 workers of about 200 MiB each take 3.9 GiB, and 98 % of the \
         4.0 GiB limit of /web is used; 18 would fit: lower pm.max_children to 18"
    );
    assert_eq!(finding.severity, Severity::Critical);
}

#[test]
fn a_pool_with_room_is_fine_and_so_is_one_that_is_not_what_fills_the_limit() {
    let mut sizes = vec![40.0; 19];
    sizes.push(1500.0);
    assert!(diagnoses(&pool(&sizes, 8192.0)).is_empty());
    let mut script = pool(&[20.0; 20], 4096.0);
    script.process(50, "mysqld", "/web");
    script.size(50, 3500.0);
    for _ in 0..5 {
        script.cgroup("/web", 3900.0, 4096.0, Some(0.0));
        script.wait(1.0).tick();
    }
    assert!(diagnoses(&script).is_empty());
}

/// Each of four workers serves requests that leave something behind, and need 30 MiB meanwhile.
fn leak(script: &mut Script, requests: u64, left_behind: f64) {
    for number in 1..=requests {
        for tgid in 1..=4 {
            let floor = 20.0 + number as f64 * left_behind;
            script.wait(0.01).size(tgid, floor + 30.0);
            script.look(tgid, |look| {
                look.activity = Activity::Request;
                look.requests = Some(number);
            });
            script.wait(0.01).size(tgid, floor);
        }
        script.wait(0.92).tick();
    }
}

#[test]
fn a_slow_leak_is_measured_and_bounded() {
    let mut script = pool(&[20.0; 4], 1024.0);
    leak(&mut script, 100, 0.5);
    let found = diagnoses(&script);
    assert_eq!(found.len(), 1);
    let (finding, pool) = found[0];
    assert_eq!((pool.diagnosis, finding.severity), (Diagnosis::SlowLeak, Severity::Info));
    let each = pool.leak_bytes_per_request.unwrap() / bytes(0.5) as f64;
    assert!((each - 1.0).abs() < 0.1, "{each}");
    // 90 % of 1024 MiB, 10 MiB of others, 20 MiB for each worker and 30 MiB for its request: 178
    // MiB are left for each, 355 requests of half a MiB.
    let most = pool.max_requests.unwrap();
    assert!((300..=360).contains(&most), "{most}");
    let expected = format!("pm.max_requests = {most} keeps 4 workers below the 1.0 GiB limit");
    assert!(finding.summary.contains(&expected), "{}", finding.summary);
}

#[test]
fn requests_that_leave_nothing_behind_are_no_leak() {
    let mut script = pool(&[20.0; 4], 1024.0);
    leak(&mut script, 100, 0.0);
    assert!(diagnoses(&script).is_empty());
}

#[test]
fn memory_that_is_only_shared_is_no_problem() {
    let mut script = pool(&[8.0; 20], 1024.0);
    for tgid in 1..=20 {
        script.feed(Event::Growth(Growth {
            tgid,
            start_ns: key(tgid).start_ns,
            anon_bytes: bytes(8.0),
            shmem_bytes: bytes(400.0),
            ..Growth::default()
        }));
    }
    for _ in 0..3 {
        script.cgroup("/web", 570.0, 1024.0, Some(0.0));
        script.wait(1.0).tick();
    }
    let found = diagnoses(&script);
    assert_eq!(found.len(), 1);
    let (finding, pool) = found[0];
    assert_eq!((pool.diagnosis, finding.severity), (Diagnosis::SharedMemory, Severity::Info));
    assert_eq!(
        finding.summary,
        "pool www is no problem, though its 20 workers look like 8.0 GiB in ps and top: 400 MiB \
         of it is one piece of memory that they share (opcache, APCu), and their own is 160 MiB"
    );
}

#[test]
fn what_lasts_is_said_once_and_what_comes_back_again() {
    let mut script = pool(&[200.0; 20], 4096.0);
    let usage = |script: &mut Script, mib: f64, seconds: u32| {
        for _ in 0..seconds {
            script.cgroup("/web", mib, 4096.0, Some(0.0));
            script.wait(1.0).tick();
        }
    };
    usage(&mut script, 4010.0, 300);
    assert_eq!(diagnoses(&script).len(), 1);
    for tgid in 1..=20 {
        script.size(tgid, 10.0);
    }
    usage(&mut script, 210.0, 90);
    for tgid in 1..=20 {
        script.size(tgid, 200.0);
    }
    usage(&mut script, 4010.0, 5);
    assert_eq!(diagnoses(&script).len(), 2);
}
