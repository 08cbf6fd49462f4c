//! The fixtures themselves: a hog in a limited cgroup is really killed, its count survives, cgroups
//! leave nothing behind, php-fpm serves, and the FastCGI client agrees with cgi-fcgi.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::cgroup::{MemoryCgroup, Version};
use tests::clock;
use tests::counters::Slot;
use tests::fastcgi::{FastCgiError, Response};
use tests::hog::Hog;
use tests::marks::Marks;
use tests::needs;
use tests::php::{Manager, PhpFpm};
use tests::proc;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn hog_is_oom_killed_and_its_count_survives() -> Result<()> {
    needs!(Tracefs);
    let cgroup = MemoryCgroup::new("fixture", 48 << 20)?;
    let marks = Marks::record()?;
    let mut hog = Hog::spawn(&cgroup, "wait anon:96")?;
    assert_eq!(cgroup.processes()?, [hog.pid()]);
    hog.go()?;
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    assert_eq!(cgroup.oom_kills()?, 1);
    assert_eq!(marks.tids()?, [hog.pid()]);
    let touched = hog.count(Slot::Anon);
    assert!((40 << 20..=48 << 20).contains(&touched), "{touched}");
    Ok(())
}

#[test]
fn hog_holds_what_it_says() -> Result<()> {
    let cgroup = MemoryCgroup::new("fixture", 256 << 20)?;
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(8 << 20)?;
    let script = format!(
        "anon:24 wait thp:16 wait shm:12 wait file:{} wait free wait thread {{ anon:10 hold }} \
         sleep:300 wait exec anon:4 hold",
        file.path().display()
    );
    let mut hog = Hog::spawn(&cgroup, &script)?;
    let error_bytes = proc::counter_error_bytes_of(2)?;
    for step in ["anon", "thp", "shm", "file", "free", "sleep", "anon"] {
        let report = hog.done(step, SOON)?;
        let memory = proc::memory(hog.pid())?;
        // The program itself has some 2 MiB of file pages and under 1 MiB of its own memory.
        for (what, said, seen) in [
            ("anon", report.anon_bytes, memory.anon_bytes),
            ("shmem", report.shmem_bytes, memory.shmem_bytes),
            ("file", report.file_bytes, memory.file_bytes),
        ] {
            let least = said.saturating_sub(error_bytes);
            assert!((least..said + (4 << 20)).contains(&seen), "{step}: {what} {said} {seen}");
        }
        hog.go().ok();
    }
    Ok(())
}

#[test]
fn hog_grows_at_its_rate() -> Result<()> {
    needs!(RealTime);
    let cgroup = MemoryCgroup::new("fixture", 256 << 20)?;
    let started = Instant::now();
    Hog::spawn(&cgroup, "anon:20:20")?.done("anon", SOON)?;
    let took = started.elapsed();
    assert!((0.95..1.5).contains(&took.as_secs_f64()), "{took:?}");
    Ok(())
}

#[test]
fn hog_counts_forks() -> Result<()> {
    let cgroup = MemoryCgroup::new("fixture", 256 << 20)?;
    let before = proc::tasks_made()?;
    let hog = Hog::spawn(&cgroup, "repeat:50 { fork { anon:1 exit:3 } reap } hold")?;
    let report = hog.done("repeat", SOON)?;
    assert_eq!((report.forks, report.reaped), (50, 50));
    assert_eq!(hog.count(Slot::ChildBytes), 50 << 20);
    assert!(proc::tasks_made()? >= before + 51);
    Ok(())
}

#[test]
fn cgroup_is_removed_with_what_is_inside() -> Result<()> {
    let parent = MemoryCgroup::new("fixture", 64 << 20)?;
    let child = parent.child("inner")?;
    assert_eq!(child.path(), format!("{}/inner", parent.path()));
    let mut hog = Hog::spawn(&child, "anon:8 hold")?;
    hog.done("anon", SOON)?;
    assert!(parent.usage_bytes()? >= 8 << 20);
    if parent.version() == Version::V1 {
        child.set_swappiness(10)?;
    }
    let (inner, outer) = (child.folder().to_owned(), parent.folder().to_owned());
    // The hog is a child of this test: it leaves the cgroup at its death, reaped or not.
    drop(child);
    drop(parent);
    assert!(!inner.exists() && !outer.exists());
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    Ok(())
}

#[test]
fn php_serves_as_cgi_fcgi_says() -> Result<()> {
    needs!(PhpFpm, CgiFcgi);
    let cgroup = MemoryCgroup::new("php", 256 << 20)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(3))?;
    // The first one may answer before the last is forked.
    let workers = clock::wait_for("three workers", SOON, || {
        let workers = fpm.workers()?;
        Ok((workers.len() == 3).then_some(workers))
    })?;
    let inside = cgroup.processes()?;
    assert!(workers.iter().all(|worker| inside.contains(worker)));
    let ours = fpm.get("normal.php", "")?;
    let body = String::from_utf8_lossy(&ours.body).into_owned();
    assert!(body.starts_with("<ul><li>") && body.contains("</ul>"), "{body}");
    let worker: u32 = ours.header("X-Worker").context("X-Worker")?.parse()?;
    assert!(workers.contains(&worker));

    let ours = fpm.get("ping.php", "a=1")?;
    let output = Command::new("cgi-fcgi")
        .args(["-bind", "-connect"])
        .arg(fpm.socket())
        .env_clear()
        .env("REQUEST_METHOD", "GET")
        .env("SCRIPT_FILENAME", fpm.script("ping.php"))
        .output()
        .context("cgi-fcgi of libfcgi-bin")?;
    let theirs = Response::split(&output.stdout, Vec::new());
    let stable = |response: &Response| {
        let headers = response.headers.iter().filter(|line| !line.starts_with("X-Worker"));
        (headers.cloned().collect::<Vec<_>>(), response.body.clone())
    };
    assert_eq!(stable(&ours), stable(&theirs));
    Ok(())
}

#[test]
fn leaking_worker_breaks_its_request() -> Result<()> {
    needs!(PhpFpm);
    let cgroup = MemoryCgroup::new("php", 128 << 20)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Dynamic(3))?;
    let (request, worker) = fpm.leak(100)?;
    assert!(fpm.workers()?.contains(&worker));
    assert!(matches!(request.finish(), Err(FastCgiError::Broken)));
    assert_eq!(cgroup.oom_kills()?, 1);
    clock::wait_for("a new worker", SOON, || {
        let workers = fpm.workers()?;
        Ok((!workers.is_empty() && !workers.contains(&worker)).then_some(()))
    })?;
    fpm.get("ping.php", "")?;
    Ok(())
}
