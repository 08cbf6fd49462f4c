//! Who ended whom, and of whom nothing is said.

use super::{SIGKILL, SIGTERM};
use crate::event::{Evidence, Finding, FindingKind, Killed, KilledBy, ProcessCause, Severity};
use crate::model::script::{MIB, Script, memcg};

fn killed(script: &Script) -> Vec<(&Finding, &Killed)> {
    let found = script.news_of(FindingKind::Killed).into_iter();
    found
        .filter_map(|(_, finding)| match &finding.evidence {
            Evidence::Killed(killed) => Some((finding, &**killed)),
            _ => None,
        })
        .collect()
}

/// The only one.
fn only(script: &mut Script) -> (Finding, Killed) {
    for _ in 0..4 {
        script.wait(1.0).tick();
    }
    let found = killed(script);
    assert_eq!(found.len(), 1, "{found:?}");
    (found[0].0.clone(), found[0].1.clone())
}

fn by(script: &mut Script) -> (KilledBy, Severity) {
    let (finding, killed) = only(script);
    (killed.by, finding.severity)
}

fn nobody(script: &mut Script) {
    for _ in 0..100 {
        script.wait(1.0).tick();
    }
    assert!(killed(script).is_empty(), "{:?}", killed(script));
}

/// A database (77) of 412 MiB, a master (900) with three workers of pool www (4 to 6).
fn scene() -> Script {
    let mut script = Script::new();
    script.process(77, "mysqld", "/db");
    script.size(77, 412.0);
    script.process(900, "php-fpm8.2", "/web");
    for tgid in 4..=6 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 12.0);
    }
    script.wait(10.0);
    script
}

#[test]
fn earlyoom_is_named() {
    let mut script = scene();
    script.process(9, "earlyoom", "/system");
    script.signal(9, 77, SIGKILL);
    script.wait(0.2).exit_by(77, SIGKILL);
    let (finding, killed) = only(&mut script);
    assert_eq!(
        finding.summary,
        "mysqld (pid 77, 412 MiB) was killed (SIGKILL) by earlyoom (pid 9)"
    );
    assert_eq!((finding.severity, killed.by), (Severity::Warning, KilledBy::Earlyoom));
    assert_eq!((killed.signal, killed.used_bytes, killed.term_s), (9, 412 * MIB, None));
    assert_eq!(killed.sender.map(|sender| sender.tgid), Some(9));
    assert_eq!(finding.subject.map(|subject| subject.tgid), Some(77));
}

#[test]
fn a_request_that_takes_too_long_is_told_with_its_time() {
    let mut script = scene();
    script.size(4, 212.0);
    script.look_in_request(4, "/slow", 28.0, 7);
    script.wait(2.0).signal(900, 4, SIGTERM);
    script.wait(0.01).exit_by(4, SIGTERM);
    assert!(killed(&script).is_empty(), "what the master does next decides");
    let (finding, killed) = only(&mut script);
    assert_eq!(
        finding.summary,
        "php-fpm8.2 (pool www, pid 4) was ended by its master's request_terminate_timeout after \
         30 s in GET /slow, with 212 MiB"
    );
    assert_eq!((finding.severity, killed.by), (Severity::Warning, KilledBy::FpmTimeout));
    assert_eq!(killed.request.and_then(|request| request.elapsed_ns), Some(30_000_000_000));
}

#[test]
fn several_requests_may_take_too_long_at_once() {
    let mut script = scene();
    for tgid in [4, 5] {
        script.signal(900, tgid, SIGTERM);
        script.exit_by(tgid, SIGTERM);
    }
    for _ in 0..4 {
        script.wait(1.0).tick();
    }
    assert_eq!(killed(&script).len(), 2, "the third worker goes on");
}

#[test]
fn a_master_that_stops_alarms_nobody() {
    let mut script = scene();
    for tgid in 4..=6 {
        script.signal(900, tgid, SIGTERM);
    }
    for tgid in 4..=6 {
        script.exit_by(tgid, SIGTERM);
    }
    script.exit(900);
    nobody(&mut script);
    // Nor while it still waits for somebody.
    let mut script = scene();
    for tgid in 4..=6 {
        script.signal(900, tgid, SIGTERM);
    }
    script.exit_by(4, SIGTERM);
    script.exit_by(5, SIGTERM);
    nobody(&mut script);
}

#[test]
fn a_master_that_reloads_alarms_nobody() {
    let mut script = scene();
    // All others left when they were asked to (SIGQUIT, which is not traced).
    script.exit(5);
    script.exit(6);
    script.look_in_request(4, "/slow", 9.0, 7);
    script.signal(900, 4, SIGTERM);
    script.exit_by(4, SIGTERM);
    script.wait(0.1).state(900, "php-fpm8.2", Some("/web"), ProcessCause::Exec);
    for tgid in 14..=16 {
        script.worker(tgid, "www", "/web");
    }
    nobody(&mut script);
}

#[test]
fn an_idle_worker_that_the_master_has_no_use_for_is_no_news() {
    let mut script = scene();
    script.signal(900, 4, SIGKILL);
    script.exit_by(4, SIGKILL);
    nobody(&mut script);
}

#[test]
fn victims_of_the_oom_killer_have_their_verdict() {
    let mut script = scene();
    let victim = script.victim(77, "mysqld", "/db", 412.0);
    script.signal_from_kernel(77, SIGKILL);
    script.oom(memcg("/db", 512.0), 77, vec![victim.clone()]);
    script.wait(0.1).exit_by(77, SIGKILL);
    nobody(&mut script);
    // The event of a group kill comes after the end.
    let mut script = scene();
    script.signal_from_kernel(77, SIGKILL);
    script.wait(0.1).exit_by(77, SIGKILL);
    script.wait(0.1).oom(memcg("/db", 512.0), 77, vec![victim]);
    nobody(&mut script);
}

#[test]
fn the_kernel_may_kill_without_being_out_of_memory() {
    let mut script = scene();
    script.signal_from_kernel(77, SIGKILL);
    script.exit_by(77, SIGKILL);
    let (finding, killed) = only(&mut script);
    assert_eq!((finding.severity, killed.by), (Severity::Info, KilledBy::Kernel));
    assert_eq!(killed.sender, None, "who ran at the time has nothing to do with it");
}

#[test]
fn systemd_is_patient_and_then_not() {
    let mut script = scene();
    script.program(0, 1, "systemd", "/usr/lib/systemd/systemd");
    script.signal(1, 77, SIGTERM);
    script.wait(90.0).signal(1, 77, SIGKILL);
    script.wait(0.1).exit_by(77, SIGKILL);
    let (finding, killed) = only(&mut script);
    assert_eq!(
        finding.summary,
        "mysqld (pid 77, 412 MiB) was killed (SIGKILL) by systemd (pid 1), 90 s after SIGTERM"
    );
    assert_eq!((finding.severity, killed.by), (Severity::Info, KilledBy::Systemd));
    assert!(killed.term_s.is_some_and(|s| (s - 90.1).abs() < 1e-9));
}

#[test]
fn a_handled_sigterm_ends_a_process_too() {
    let mut script = scene();
    script.process(8, "bash", "/user");
    script.signal(8, 77, SIGTERM);
    script.wait(3.0).exit(77);
    let (finding, killed) = only(&mut script);
    assert_eq!(
        finding.summary,
        "mysqld (pid 77, 412 MiB) was ended (SIGTERM) by bash (pid 8), from a shell, and was gone \
         3.0 s later"
    );
    assert_eq!((killed.by, killed.signal), (KilledBy::Shell, 15));
    let mut script = scene();
    script.signal(8, 77, SIGTERM);
    script.wait(91.0).exit(77);
    nobody(&mut script);
}

#[test]
fn a_tool_counts_for_who_used_it() {
    let mut script = scene();
    script.program(1, 20, "bash", "/usr/bin/bash");
    script.program(20, 21, "sudo", "/usr/bin/sudo");
    script.program(21, 22, "pkill", "/usr/bin/pkill");
    script.signal(22, 77, SIGKILL);
    script.exit_by(77, SIGKILL);
    assert_eq!(by(&mut script), (KilledBy::Shell, Severity::Info));
    let mut script = scene();
    script.program(1, 20, "monit", "/usr/bin/monit");
    script.program(20, 22, "pkill", "/usr/bin/pkill");
    script.signal(22, 77, SIGKILL);
    script.exit_by(77, SIGKILL);
    assert_eq!(by(&mut script), (KilledBy::Process, Severity::Info));
}

#[test]
fn a_name_alone_makes_no_systemd() {
    for (comm, exe, expected) in [
        ("systemd", "/tmp/systemd-evil", KilledBy::Process),
        ("systemd", "/usr/lib/systemd/systemd", KilledBy::Systemd),
        ("systemd-oomd", "/usr/lib/systemd/systemd-oomd", KilledBy::SystemdOomd),
        ("systemd-oomd", "/tmp/x", KilledBy::Process),
        ("earlyoom", "/tmp/x", KilledBy::Process),
        ("earlyoom", "/usr/bin/earlyoom (deleted)", KilledBy::Earlyoom),
        ("supervisord", "/usr/bin/python3.11", KilledBy::Process),
    ] {
        let mut script = scene();
        script.program(1, 30, comm, exe);
        script.signal(30, 77, SIGKILL);
        script.exit_by(77, SIGKILL);
        assert_eq!(by(&mut script).0, expected, "{comm} {exe}");
    }
    let mut script = scene();
    script.process(30, "systemd", "/user.slice/web");
    script.signal(30, 77, SIGKILL);
    script.exit_by(77, SIGKILL);
    assert_eq!(by(&mut script).0, KilledBy::Process);
}

#[test]
fn an_unseen_sender_is_said_to_be() {
    let mut script = scene();
    script.exit_by(77, SIGKILL);
    let (finding, killed) = only(&mut script);
    assert_eq!(
        finding.summary,
        "mysqld (pid 77, 412 MiB) was killed (SIGKILL); the sender was not seen"
    );
    assert_eq!((finding.severity, killed.by), (Severity::Warning, KilledBy::Unknown));
}

#[test]
fn only_who_matters_is_told_of() {
    let mut script = scene();
    script.process(40, "sleep", "/db");
    script.size(40, 63.0);
    script.signal(8, 40, SIGKILL);
    script.exit_by(40, SIGKILL);
    // Nor who crashed, nor who just ended.
    script.exit_by(77, 11);
    script.exit(4);
    nobody(&mut script);
}

#[test]
fn the_subject_of_an_open_finding_matters_however_small() {
    let mut script = Script::new();
    script.process(1, "leak", "/web");
    script.cgroup("/web", 20.0, 64.0, Some(0.0));
    script.size(1, 5.0);
    for s in 1..=10 {
        script.wait(1.0).size(1, 5.0 + 4.0 * f64::from(s));
        script.cgroup("/web", 20.0 + 4.0 * f64::from(s), 64.0, Some(0.0));
        script.tick();
    }
    assert_eq!(script.of_kind(FindingKind::Runaway).len(), 1);
    script.process(8, "zsh", "/user");
    script.signal(8, 1, SIGKILL);
    script.exit_by(1, SIGKILL);
    assert_eq!(by(&mut script), (KilledBy::Shell, Severity::Info));
}

#[test]
fn memory_is_bounded() {
    let mut script = Script::new();
    for tgid in 2..20_000 {
        script.worker(tgid, "www", "/web");
        script.signal(900, tgid, SIGTERM);
        script.signal_from_kernel(tgid, SIGKILL);
        if tgid % 2 == 0 {
            script.exit_by(tgid, SIGKILL);
        }
    }
    let mut detector = super::KilledDetector::new(script.model.config());
    let mut ledger = crate::detect::Ledger::default();
    for tgid in 2..20_000 {
        let signal = crate::event::Signal {
            signal: SIGTERM,
            sender: crate::event::Party { tgid: 900, start_ns: 1, comm: "x".into(), cgroup: None },
            target: crate::event::Party { tgid, start_ns: 1, comm: "x".into(), cgroup: None },
            from_kernel: tgid % 2 == 0,
        };
        detector.signal(&script.model, &signal, 1);
    }
    assert!(detector.sent.len() <= super::MOST && detector.by_masters.len() <= super::MOST);
    detector.settle(&script.model, 1, &mut ledger);
    detector.forget(super::REMEMBERED_NS + 2);
    assert!(detector.sent.is_empty());
}
