//! The command line: what is wrong is said in words that help, with exit code 2; help and manual
//! pages work everywhere.

mod binary;

use std::process::Stdio;

use binary::{rampage, run};

const COMMANDS: [&str; 10] =
    ["watch", "record", "replay", "php", "audit", "serve", "config", "incidents", "doctor", "demo"];

fn wrong(arguments: &[&str], message: &str) {
    let (code, stdout, stderr) = run(rampage().args(arguments));
    assert_eq!(code, 2, "{arguments:?}: {stderr}");
    assert_eq!(stdout, "", "{arguments:?}");
    assert!(stderr.contains(message), "{arguments:?}: {stderr}");
}

#[test]
fn wrong_usage_says_what_is_wrong_and_what_to_write() {
    wrong(&["--frobnicate"], "--frobnicate");
    wrong(&["wach"], "watch");
    wrong(&["watch", "--comm", "php("], "unclosed group");
    wrong(&["watch", "--step", "63K"], "the least is 64K");
    wrong(&["watch", "--step", "4X"], "use K, M or G");
    wrong(&["watch", "--interval", "1ms"], "the least is 100ms");
    wrong(&["watch", "--duration", "soon"], "try 30s, 10m or 2h");
    wrong(&["watch", "--tgid", "php"], "--tgid");
    wrong(&["watch", "--json", "--plain"], "cannot be used with");
    wrong(&["record"], "--output");
    wrong(&["record", "-o", "t", "--max-size", "1K"], "the least is 64K");
    wrong(&["record", "-o", "t", "--keep", "2"], "--max-size");
    wrong(&["replay", "t", "--speed", "fast"], "use max or a number above 0");
    wrong(&["replay", "t", "--cgroup", "/a/../b"], "must not contain `..`");
    wrong(&["php", "www"], "TGID");
    wrong(&["man", "wach"], "no command wach");
    wrong(&["audit", "--root", "/nonexistent"], "give the folder of an unpacked file system");
    wrong(
        &["audit", "--fail-on", "never mind"],
        "[possible values: info, warning, critical, never]",
    );
}

#[test]
fn a_missing_cgroup_is_wrong_usage() {
    for command in [&["watch"][..], &["record", "-o", "/dev/null"]] {
        let cgroup = ["--cgroup", "/no/such/\u{1b}[2Jcgroup"];
        let (code, _, stderr) = run(rampage().args(command).args(cgroup));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("no memory cgroup /no/such/\\x1b[2Jcgroup"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_wrong_usage() {
    for path in ["/nonexistent/t.jsonl", "/"] {
        let (code, _, stderr) = run(rampage().args(["record", "-o", path]));
        assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
        assert!(stderr.contains(path) && stderr.contains("choose a file"), "{stderr}");
    }
    let (code, _, stderr) = run(rampage().args(["record", "-o", "-", "--max-size", "1M"]));
    assert_eq!(code, 2, "{stderr}");
}

/// Runs an audit of a file system of the fixtures.
fn audit(fixture: &str, more: &[&str]) -> (i32, String, String) {
    run(rampage().args(["audit", "--root", &root(fixture)]).args(more))
}

fn root(fixture: &str) -> String {
    format!("{}/../tracer-audit/tests/fixtures/{fixture}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn an_audit_fails_when_it_found_what_it_was_to_look_for() {
    let (code, stdout, stderr) = audit("incident", &[]);
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("1 finding at or above --fail-on critical"), "{stderr}");
    let first = stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with("CRITICAL pool www may use 160 GiB"), "{first}");
    assert!(!stdout.contains('\x1b'), "no colour where it is no terminal");
    assert_eq!(audit("incident", &["--fail-on", "never"]).0, 0);
    assert_eq!(audit("healthy", &["--fail-on", "warning"]).0, 0);
    let (code, stdout, _) = audit("incident", &["--json", "--plan"]);
    assert_eq!(code, 5);
    let object: serde_json::Value = serde_json::from_str(&stdout).expect("one object");
    let plan = &object["plan"];
    let rows = plan["rows"].as_array().expect("rows");
    let sum: u64 = rows.iter().filter_map(|row| row["proposed_bytes"].as_u64()).sum();
    assert_eq!(Some(sum), plan["total_bytes"].as_u64());
    assert_eq!(object["findings"][0]["kind"], "php_pool_too_large");
}

#[test]
fn a_damaged_trace_is_said_and_what_was_found_counts_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.jsonl");
    std::fs::write(&path, "noise\n").expect("a file");
    let trace = path.to_string_lossy();
    let (code, stdout, stderr) = audit("healthy", &["--trace", &trace]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("no header"), "{stderr}");
    assert!(stdout.contains("no worker of a PHP pool is in the trace"), "{stdout}");
    let (code, _, stderr) = audit("incident", &["--trace", &trace]);
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("no header"), "{stderr}");
}

#[test]
fn drop_in_files_are_written_also_when_nobody_reads_the_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = rampage();
    command.args(["audit", "--root", &root("incident"), "--emit"]).arg(folder.path());
    let status = command.stdout(writer).status().expect("rampage");
    assert_eq!(status.code(), Some(0), "a reader that goes away is no failure");
    assert!(folder.path().join("etc/php").is_dir());
}

#[test]
fn help_has_examples_whatever_the_environment() {
    for command in COMMANDS {
        let (code, stdout, _) = run(rampage().env_clear().args([command, "--help"]));
        assert_eq!(code, 0);
        assert!(stdout.contains("Examples:\n  rampage "), "{command}: {stdout}");
    }
    let (code, stdout, _) = run(rampage().env_clear().arg("--help"));
    assert_eq!(code, 0);
    assert!(COMMANDS.iter().all(|command| stdout.contains(command)), "{stdout}");
    let (code, stdout, _) = run(rampage().arg("--version"));
    assert_eq!((code, stdout), (0, format!("rampage {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn every_command_has_a_manual_page() {
    let (code, page, _) = run(rampage().arg("man"));
    assert_eq!(code, 0);
    assert!(page.contains(".TH rampage 1"), "{page}");
    for command in COMMANDS {
        let (code, page, _) = run(rampage().args(["man", command]));
        assert_eq!(code, 0);
        assert!(page.contains(&format!(".TH rampage-{command} 1")), "{page}");
        assert!(page.contains("Examples:"), "{page}");
    }
}

#[test]
fn a_reader_that_goes_away_is_a_success() {
    for arguments in [&["man"][..], &["--help"], &["replay", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, _, stderr) =
            run(rampage().args(arguments).stdout(writer).stderr(Stdio::piped()));
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
    }
}
