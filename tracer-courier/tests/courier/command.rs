//! Commands that record, fail and hang.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rampage::settings::{Alerts, CommandAlert, Span};
use rustix::process::Gid;
use rustix::thread::set_thread_groups;

use crate::tracer::{Tracer, nobody, until};

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn command(name: &str, run: &[&str]) -> CommandAlert {
    CommandAlert {
        name: name.to_owned(),
        run: run.iter().map(|word| (*word).to_owned()).collect(),
        min_severity: None,
        timeout: Span::from_secs(1),
    }
}

#[test]
fn each_finding_is_given_to_one_run_without_shell_privileges_or_environment() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let path = script(
        folder.path(),
        "record",
        "cat >> \"$1\"; echo >> \"$1\"; env > \"$1.env\"; echo \"$2\" > \"$1.arg\"\n\
         cat /proc/self/oom_score_adj > \"$1.oom\"; grep Cap /proc/self/status > \"$1.caps\"\n\
         grep Groups: /proc/self/status > \"$1.groups\"",
    );
    // As root: one that the courier shall not have.
    let is_in_group = set_thread_groups(&[Gid::from_raw(4)]).is_ok();
    let run = [path.to_str().unwrap(), out.to_str().unwrap(), "$(touch /tmp/never) *"];
    let mut tracer = Tracer::start(Alerts { command: vec![command("one", &run)], ..nobody() });
    tracer.tell(1..=5);
    let delivery = tracer.wait("command:one", |now| now.delivered == 5);
    assert_eq!((delivery.retried, delivery.lost), (0, 0));
    let ids: Vec<_> = fs::read_to_string(&out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let read = |suffix: &str| fs::read_to_string(format!("{}.{suffix}", out.display())).unwrap();
    assert_eq!(read("arg"), "$(touch /tmp/never) *\n");
    assert_eq!(read("oom"), "0\n");
    let environment = read("env");
    assert!(environment.contains("RAMPAGE_KIND=pressure\n"));
    assert!(environment.contains("RAMPAGE_COMM=evil\n\"$(id)\n"));
    assert!(!environment.contains("HOME=") && !environment.contains("CARGO"), "{environment}");
    assert!(!is_in_group || read("groups").trim() == "Groups:", "{}", read("groups"));
    for line in read("caps").lines() {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

#[test]
fn a_command_that_fails_or_hangs_is_ended_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let hangs = script(
        folder.path(),
        "hangs",
        "trap '' TERM; sleep 1000 & echo $! >> \"$1\"; echo $$ >> \"$1\"; wait; sleep 1000",
    );
    let fails = script(folder.path(), "fails", "exec 0<&-; echo no pager >&2; exit 3");
    let leaves = script(folder.path(), "leaves", "sleep 5 & exit 0");
    let hangs = command("hangs", &[hangs.to_str().unwrap(), pids.to_str().unwrap()]);
    let fails = command("fails", &[fails.to_str().unwrap()]);
    let leaves = command("leaves", &[leaves.to_str().unwrap()]);
    let talks = script(folder.path(), "talks", "yes | head -c 200000 >&2; exit 0");
    let talks = command("talks", &[talks.to_str().unwrap()]);
    let missing = command("missing", &["/nonexistent/pager"]);
    let relative = command("relative", &["pager"]);
    let all = vec![hangs, fails, leaves, talks, missing, relative];
    let mut tracer = Tracer::start(Alerts { command: all, ..nobody() });
    tracer.tell(1..=2);
    for name in ["fails", "missing", "relative", "hangs"] {
        let delivery = tracer.wait(&format!("command:{name}"), |now| now.lost == 2);
        assert_eq!((delivery.delivered, delivery.retried), (0, 0), "{name}");
    }
    tracer.wait("command:leaves", |now| now.delivered == 2);
    tracer.wait("command:talks", |now| now.delivered == 2);
    assert_eq!(tracer.problems.len(), 2, "{:?}", tracer.problems);
    let pids = fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.lines().count(), 4);
    for pid in pids.lines() {
        until("what hangs is ended", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
    }
}
