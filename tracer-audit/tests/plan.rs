//! The plan for the host of the incident: it adds up, and once its files are in place the audit finds nothing
//! that would exhaust the memory.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::fs;
use std::path::{Path, PathBuf};

use audit::observed::Pool;
use audit::plan::EmitError;
use audit::{Observed, Plan, Report, Root, Severity, Subject};

/// A copy of a fixture, that can be written to.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    copy_into(&from, folder.path());
    folder
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_into(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn plan(folder: &Path) -> (Report, Plan) {
    plan_with(folder, &Observed::default())
}

fn plan_with(folder: &Path, observed: &Observed) -> (Report, Plan) {
    let root = Root::new(folder).unwrap();
    let (facts, notes) = audit::read(&root);
    let report = audit::judge(&facts, observed, notes);
    let plan = Plan::new(&facts, &report, observed);
    (report, plan)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn it_adds_up_and_once_applied_nothing_exhausts_the_memory() {
    let folder = copy("incident");
    let (before, plan) = self::plan(folder.path());
    assert_eq!(before.worst(), Some(Severity::Critical));
    let sum: u64 = plan.rows.iter().map(|row| row.proposed_bytes).sum();
    assert_eq!(sum, plan.total_bytes);
    let pool = plan.proposals.iter().find(|one| one.key == "innodb_buffer_pool_size").unwrap();
    assert_eq!(pool.to, "2G", "as was meant");
    assert!(plan.proposals.iter().any(|one| one.key == "memory_limit"), "{:?}", plan.proposals);

    let unit = plan.proposals.iter().find(|one| one.key == "MemoryMax").unwrap();
    let limit = format!("\nMemoryMax={}\n", unit.to);

    let present = files(folder.path());
    let emitted = plan.emit(folder.path()).unwrap();
    let mut expected: Vec<PathBuf> = present.iter().chain(&emitted.files).cloned().collect();
    expected.sort();
    assert_eq!(files(folder.path()), expected, "only its own files are new");
    let text =
        fs::read_to_string(folder.path().join(unit.file.strip_prefix("/").unwrap())).unwrap();
    assert!(text.contains(&limit) && text.matches("MemoryMax").count() == 1, "{text}");
    assert!(text.contains("\nOOMPolicy=continue\n"), "{text}");

    let (after, again) = self::plan(folder.path());
    let critical: Vec<_> =
        after.findings.iter().filter(|one| one.severity == Severity::Critical).collect();
    let of_memory = critical.iter().filter(|one| one.subject != Subject::Mysql);
    assert_eq!(of_memory.count(), 0, "{critical:#?}");
    let twice = after.findings.iter().find(|one| one.kind == "php_memory_limit_set_twice");
    assert_eq!(twice.map(|one| one.severity), Some(Severity::Info), "its own line is no mistake");
    let php = after.budget.worst_bytes(Subject::Php).unwrap();
    assert!(php <= after.budget.room_for_bytes(Subject::Php), "{:#?}", after.budget);
    assert!(again.proposals.is_empty(), "{:#?}", again.proposals);
    // What it wrote itself it may write again.
    plan.emit(folder.path()).unwrap();
}

#[test]
fn a_file_of_somebody_else_is_left_alone_and_nothing_is_written() {
    let folder = copy("incident");
    let (_, plan) = plan(folder.path());
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join(plan.proposals[0].file.strip_prefix("/").unwrap());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "; mine\n").unwrap();
    let error = plan.emit(target.path()).unwrap_err();
    assert!(matches!(error, EmitError::Foreign { .. }), "{error}");
    assert_eq!(files(target.path()), std::slice::from_ref(&file));
    assert_eq!(fs::read_to_string(&file).unwrap(), "; mine\n");
}

#[test]
fn a_host_on_which_all_fits_has_nothing_to_change() {
    let folder = copy("healthy");
    let (_, plan) = plan(folder.path());
    assert!(plan.proposals.is_empty(), "{:#?}", plan.proposals);
    let sum: u64 = plan.rows.iter().map(|row| row.proposed_bytes).sum();
    assert_eq!(sum, plan.total_bytes);
}

#[test]
fn workers_that_were_seen_to_be_small_may_stay() {
    let folder = copy("incident");
    let meminfo = "MemTotal: 4194304 kB\nMemAvailable: 3145728 kB\n";
    fs::write(folder.path().join("proc/meminfo"), meminfo).unwrap();
    let seen = Pool {
        name: "www".to_owned(),
        workers: 20,
        p50_bytes: 5 << 20,
        p95_bytes: 5 << 20,
        largest_bytes: 6 << 20,
        leak_bytes_per_request: None,
    };
    let with_trace = Observed { pools: vec![seen], ..Observed::default() };
    let workers = |observed: &Observed| {
        let (_, plan) = plan_with(folder.path(), observed);
        let proposal = plan.proposals.into_iter().find(|one| one.key == "pm.max_children");
        proposal.map_or(20, |proposal| proposal.to.parse::<u32>().unwrap())
    };
    assert!(workers(&Observed::default()) < 20, "128 MiB each do not fit");
    assert_eq!(workers(&with_trace), 20);
}

#[test]
fn without_known_memory_nothing_is_planned() {
    let folder = copy("incident");
    fs::remove_file(folder.path().join("proc/meminfo")).unwrap();
    let (_, plan) = plan(folder.path());
    assert!(plan.proposals.is_empty() && plan.rows.is_empty());
    assert!(plan.remarks[0].contains("meminfo"), "{:?}", plan.remarks);
    let target = tempfile::tempdir().unwrap();
    assert!(plan.emit(target.path()).unwrap().files.is_empty());
}
