//! Who is named as the culprit of a kill, and when nobody is.

use std::sync::Arc;

use crate::event::{Evidence, Finding, OomScope, ScopeKind, Severity, Verdict};
use crate::model::script::{MIB, Script, bytes, key, memcg};

fn evidence(finding: &Finding) -> &Verdict {
    match &finding.evidence {
        Evidence::OomVerdict(verdict) => verdict,
        _ => panic!("no verdict: {finding:?}"),
    }
}

fn culprit(finding: &Finding) -> Option<u32> {
    let culprit = evidence(finding).culprit.as_ref().map(|culprit| culprit.tgid);
    assert_eq!(culprit, finding.subject.as_ref().map(|subject| subject.tgid));
    culprit
}

/// A database (1), a worker that leaks 140 MiB in 8 s (2), a worker that does nothing (3).
fn leak() -> Script {
    let mut script = Script::new();
    script.process(1, "mariadbd", "/web/db");
    script.worker(2, "www", "/web/php");
    script.worker(3, "www", "/web/php");
    script.size(1, 100.0);
    script.size(2, 10.0);
    script.size(3, 10.0);
    for s in 1..=30 {
        script.wait(1.0).size(1, 100.0 + f64::from(s % 2));
        script.size(2, 10.0);
    }
    for s in 1..=8 {
        script.wait(1.0).size(2, 10.0 + 17.5 * f64::from(s));
    }
    script
}

#[test]
fn the_culprit_is_neither_victim_nor_trigger() {
    let mut script = leak();
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    let finding = script.oom(memcg("/web", 256.0), 3, vec![victim]);
    assert_eq!(culprit(&finding), Some(2));
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(
        finding.summary,
        "OOM kill in /web (limit 256 MiB): killed mariadbd (pid 1, 100 MiB), asked for by \
         php-fpm8.2 (pool www, pid 3); caused by php-fpm8.2 (pool www, pid 2), which grew 140 MiB \
         in 8.0 s; the victim only suffered; what helps: a memory_limit of at most 65.0 MiB keeps \
         the 2 workers of pool www below the limit; what grew before the trace began, 38 s ago, is \
         not known"
    );
    let verdict = evidence(&finding);
    assert_eq!(verdict.grown_in_window[0].grown_bytes, 140 * MIB);
    assert!(verdict.grown_since_seen[0].share > 0.95);
    assert_eq!(finding.subject.as_ref().unwrap().cgroup.as_deref(), Some("/web/php"));
}

#[test]
fn the_culprit_may_be_victim_and_trigger() {
    let mut script = leak();
    let victim = script.victim(2, "php-fpm8.2", "/web/php", 155.0);
    let finding = script.oom(memcg("/web", 256.0), 2, vec![victim]);
    assert_eq!(culprit(&finding), Some(2));
    // The event's size is newer than the model's.
    assert_eq!(evidence(&finding).grown_in_window[0].grown_bytes, 145 * MIB);
    assert!(!finding.summary.contains("suffered"));
}

#[test]
fn a_victim_that_is_already_gone_still_counts() {
    let mut script = leak();
    let victim = script.victim(2, "php-fpm8.2", "/web/php", 155.0);
    script.exit(2);
    let finding = script.wait(0.2).oom(memcg("/web", 256.0), 3, vec![victim]);
    assert_eq!(culprit(&finding), Some(2));
}

#[test]
fn the_long_dead_hold_nothing() {
    let mut script = leak();
    script.exit(2);
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    let finding = script.wait(1.0).oom(memcg("/web", 256.0), 3, vec![victim]);
    assert_eq!(culprit(&finding), None);
    assert!(finding.summary.contains("nobody was seen to grow by enough"), "{}", finding.summary);
}

#[test]
fn who_ended_between_kill_and_report_still_held_memory() {
    let mut script = leak();
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    let t_ns = script.t_ns;
    script.wait(0.1).exit(2);
    script.t_ns = t_ns;
    assert_eq!(culprit(&script.oom(memcg("/web", 256.0), 3, vec![victim])), Some(2));
}

#[test]
fn growth_outside_of_the_scope_does_not_count() {
    let mut script = leak();
    script.process(9, "backup", "/website");
    script.size(9, 0.0);
    script.wait(1.0).size(9, 2000.0);
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    assert_eq!(culprit(&script.oom(memcg("/web", 256.0), 3, vec![victim.clone()])), Some(2));
    let host = OomScope { kind: ScopeKind::Host, cgroup: None, limit_bytes: None };
    let finding = script.oom(host, 3, vec![victim]);
    assert_eq!(culprit(&finding), Some(9));
    assert!(finding.summary.starts_with("OOM kill on the host: killed"), "{}", finding.summary);
}

#[test]
fn spread_growth_has_no_single_culprit() {
    let mut script = Script::new();
    for tgid in 1..=12 {
        script.process(tgid, "make", "/ci");
        script.size(tgid, 0.0);
        script.wait(1.0).size(tgid, 20.0);
    }
    let victim = script.victim(1, "make", "/ci", 20.0);
    let finding = script.oom(memcg("/ci", 256.0), 2, vec![victim]);
    assert_eq!(culprit(&finding), None);
    assert!(
        finding.summary.contains("no single culprit: growth is spread over 12 processes"),
        "{}",
        finding.summary
    );
    assert_eq!(evidence(&finding).grown_in_window.len(), 5);
}

#[test]
fn the_two_windows_must_agree() {
    let mut script = Script::new();
    script.process(1, "cache", "/web");
    script.process(2, "php", "/web");
    script.size(1, 0.0);
    script.size(2, 0.0);
    script.wait(1.0).size(1, 150.0);
    script.wait(300.0).size(1, 150.0);
    script.wait(1.0).size(2, 90.0);
    let victim = script.victim(2, "php", "/web", 90.0);
    let finding = script.oom(memcg("/web", 256.0), 2, vec![victim]);
    assert_eq!(culprit(&finding), None);
    assert!(
        finding.summary.contains(
            "most grown in the last 60 s is php (pid 2) (90.0 MiB), since first seen it is cache \
             (pid 1) (150 MiB)"
        ),
        "{}",
        finding.summary
    );
}

#[test]
fn a_pool_is_named_when_its_workers_did_it_together() {
    let mut script = Script::new();
    script.process(90, "mariadbd", "/web");
    script.size(90, 50.0);
    script.wait(1.0).size(90, 70.0);
    for tgid in 1..=12 {
        script.worker(tgid, if tgid <= 10 { "www" } else { "api" }, "/web");
        script.size(tgid, 0.0);
        script.wait(0.1).size(tgid, 12.0);
    }
    let victim = script.victim(90, "mariadbd", "/web", 70.0);
    let finding = script.oom(memcg("/web", 256.0), 1, vec![victim]);
    assert_eq!(culprit(&finding), None);
    assert!(
        finding.summary.contains("the 10 workers of pool www together grew 120 MiB"),
        "{}",
        finding.summary
    );
}

#[test]
fn a_fork_counts_from_what_it_shared() {
    let mut script = Script::new();
    script.process(1, "php-fpm8.2", "/web");
    script.process(2, "leak", "/web");
    script.size(1, 120.0);
    script.size(2, 5.0);
    // Five children that share 120 MiB each and are never reported before the kill.
    for tgid in 11..=15 {
        script.fork(1, tgid, "php-fpm8.2", "/web");
    }
    for s in 1..=10 {
        script.wait(0.5).size(2, 5.0 + 5.0 * f64::from(s));
    }
    let victims: Vec<_> =
        (11..=15).map(|tgid| script.victim(tgid, "php-fpm8.2", "/web", 121.0)).collect();
    let finding = script.oom(memcg("/web", 256.0), 2, victims);
    assert_eq!(culprit(&finding), Some(2));
    assert_eq!(evidence(&finding).grown_in_window[1].grown_bytes, MIB);
    assert!(
        finding.summary.contains("killed 5 processes at once (605 MiB together, the largest "),
        "{}",
        finding.summary
    );
    assert!(finding.summary.contains("; the victims only suffered; "), "{}", finding.summary);
}

#[test]
fn an_unknown_limit_is_said_and_judged_by_the_common_ancestor() {
    let mut script = leak();
    script.process(9, "backup", "/other");
    script.size(9, 0.0);
    script.wait(1.0).size(9, 2000.0);
    let unknown = OomScope { kind: ScopeKind::Unknown, cgroup: None, limit_bytes: None };
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    let finding = script.oom(unknown, 3, vec![victim]);
    assert_eq!(culprit(&finding), Some(2));
    assert!(
        finding.summary.starts_with(
            "OOM kill at an unknown limit (judged by what grew in /web): killed mariadbd"
        ),
        "{}",
        finding.summary
    );
}

#[test]
fn kills_at_one_limit_are_a_cascade() {
    let mut script = leak();
    let victim = script.victim(3, "php-fpm8.2", "/web/php", 10.0);
    let first = script.oom(memcg("/web", 256.0), 2, vec![victim.clone()]);
    assert_eq!(evidence(&first).cascade.number, 1);
    let second = script.wait(40.0).oom(memcg("/web", 256.0), 2, vec![victim.clone()]);
    assert_eq!(evidence(&second).cascade.number, 2);
    assert!(
        second.summary.contains(" (kill number 2 at this limit within 40 s); "),
        "{}",
        second.summary
    );
    let later = script.wait(700.0).oom(memcg("/web", 256.0), 2, vec![victim]);
    assert_eq!(evidence(&later).cascade.number, 1);
}

#[test]
fn a_kill_of_the_unseen_is_still_judged() {
    let mut script = Script::new();
    let victim = script.victim(77, "stranger", "/web", 200.0);
    let finding = script.oom(memcg("/web", 256.0), 78, vec![victim]);
    assert_eq!(culprit(&finding), None);
    assert!(finding.summary.contains("killed stranger (pid 77, 200 MiB), asked for by gone"));
    let empty = script.oom(memcg("/web", 256.0), 78, vec![]);
    assert!(empty.summary.contains("killed nobody that was seen"));
}

#[test]
fn hostile_names_are_harmless() {
    let mut script = Script::new();
    script.process(1, "\x1b[2J\nroot", "/web\x07");
    script.size(1, 0.0);
    script.wait(1.0).size(1, 200.0);
    let mut victim = script.victim(1, "\x1b[2J\nroot", "/web\x07", 200.0);
    victim.swap_bytes = bytes(10.0);
    victim.comm = Arc::from("\u{202e}x".repeat(5000));
    let finding = script.oom(memcg("/web\x07", 256.0), 1, vec![victim]);
    assert_eq!(culprit(&finding), Some(key(1).tgid));
    assert!(!finding.summary.chars().any(|c| c.is_control() || c == '\u{202e}'));
    assert!(finding.summary.len() < 1000);
}

#[test]
fn what_no_process_holds_is_blamed_on_nobody() {
    let mut script = Script::new();
    script.process(1, "dd", "/web");
    script.size(1, 10.0);
    for s in 0..20_u32 {
        script.wait(1.0).size(1, 10.0 + f64::from(s) / 2.0);
        script.cgroup("/web", 15.0 + 12.0 * f64::from(s), 256.0, Some(0.0));
        script.tick();
    }
    let victim = script.victim(1, "dd", "/web", 20.0);
    let finding = script.oom(memcg("/web", 256.0), 1, vec![victim]);
    assert_eq!(culprit(&finding), None);
    assert_eq!(evidence(&finding).limit_rise_bytes, Some(228 * MIB));
    assert!(
        finding.summary.contains(
            "of 228 MiB that it filled up by in the last 60 s only 10.0 MiB is growth of processes"
        ),
        "{}",
        finding.summary
    );
    assert!(finding.summary.contains("df -t tmpfs"));
}

#[test]
fn shared_memory_counts_for_who_alone_maps_it() {
    let verdict = |readers: u32| {
        let mut script = Script::new();
        for tgid in 1..=1 + readers {
            script.process(tgid, "import", "/web");
            script.shared_size(tgid, 10.0, 0.0);
        }
        for s in 0..20_u32 {
            script.wait(1.0);
            for tgid in 1..=1 + readers {
                script.shared_size(tgid, 10.0, 12.0 * f64::from(s));
            }
            script.cgroup("/web", 20.0 + 12.0 * f64::from(s), 256.0, Some(0.0));
            script.tick();
        }
        let victim = script.victim(1, "import", "/web", 10.0);
        culprit(&script.oom(memcg("/web", 256.0), 1, vec![victim]))
    };
    assert_eq!(verdict(0), Some(1));
    assert_eq!(verdict(1), None);
}

#[test]
fn a_unit_is_named_that_set_the_limit_and_who_else_suffered() {
    let mut script = Script::new();
    let path = "/system.slice/import.service";
    script.process(1, "import", path);
    script.process(2, "helper", path);
    script.size(1, 10.0);
    script.size(2, 10.0);
    script.wait(5.0).size(1, 200.0);
    let victim = script.victim(2, "helper", path, 10.0);
    let finding = script.oom(memcg(path, 256.0), 1, vec![victim]);
    let verdict = evidence(&finding);
    assert_eq!(verdict.bystanders, [2]);
    assert!(
        finding.summary.contains("(limit 256 MiB, set by unit import.service)"),
        "{}",
        finding.summary
    );
    let victim = script.victim(1, "import", path, 200.0);
    let finding = script.oom(memcg(path, 256.0), 1, vec![victim]);
    assert!(evidence(&finding).bystanders.is_empty());
    assert!(finding.summary.ends_with("import needs a higher limit, or leaks"), "{finding:?}");
}

#[test]
fn what_was_lost_in_the_window_is_said() {
    let mut script = leak();
    script.lost("ring:growth", 1203);
    script.lost("php:stacks", 9);
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    let finding = script.oom(memcg("/web", 256.0), 3, vec![victim.clone()]);
    let words = "; 1,203 records were lost meanwhile: figures may be too low";
    assert!(finding.summary.ends_with(words), "{}", finding.summary);
    let verdict = evidence(&finding);
    assert_eq!((verdict.lost_records, verdict.watched_s), (1203, Some(38.0)));
    for _ in 0..61 {
        script.wait(1.0).tick();
    }
    let finding = script.oom(memcg("/web", 256.0), 3, vec![victim]);
    let verdict = evidence(&finding);
    assert_eq!((verdict.lost_records, verdict.watched_s), (0, None));
    assert!(!finding.summary.contains("lost") && !finding.summary.contains("began"));
}

#[test]
fn pools_of_one_name_are_told_apart_by_their_master() {
    let mut script = leak();
    for tgid in 20..40 {
        script.worker_of(tgid, "www", "/web/other", 950);
        script.size(tgid, 1.0);
    }
    let victim = script.victim(1, "mariadbd", "/web/db", 100.0);
    let finding = script.oom(memcg("/web", 256.0), 3, vec![victim]);
    assert_eq!(culprit(&finding), Some(2));
    // 90 % of 256 MiB, less 100 of the database and 20 of the other pool, for two workers.
    let advice = evidence(&finding).advice.as_deref();
    let expected =
        "a memory_limit of at most 55.0 MiB keeps the 2 workers of pool www below the limit";
    assert_eq!(advice, Some(expected));
}
