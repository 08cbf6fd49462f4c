//! `rampage serve` as a service: what systemd hears, what it gives away, a second instance, reloads, and
//! what is left when it ends.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::Event;
use tests::bpf;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::service::{Home, Service};

/// CAP_DAC_READ_SEARCH, CAP_IPC_LOCK, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF (capabilities(7)).
const KEPT: u64 = 1 << 2 | 1 << 14 | 1 << 19 | 1 << 38 | 1 << 39;

fn home(settings: &str) -> Result<Home> {
    let home = Home::new()?;
    home.set(settings)?;
    Ok(home)
}

#[test]
fn systemd_hears_that_it_is_ready_alive_and_ended() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    let service = Service::start(&home)?;
    service.wait_to_hear("WATCHDOG=1", Duration::from_secs(5))?;
    service.wait_to_hear("STATUS=processes: ", Duration::from_secs(5))?;
    let ended = service.finish()?;
    assert!(ended.heard.iter().any(|word| word == "STOPPING=1"), "{:?}", ended.heard);
    Ok(())
}

#[test]
fn a_pipeline_that_does_not_move_is_not_said_to_live() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    let service = Service::start(&home)?;
    service.wait_to_hear("WATCHDOG=1", Duration::from_secs(5))?;
    service.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(200));
    let before = service.heard()?.len();
    std::thread::sleep(Duration::from_secs(3));
    let after = service.heard()?.len();
    service.signal(libc::SIGCONT);
    assert_eq!(before, after);
    service.wait_to_hear_after(after, "WATCHDOG=1", Duration::from_secs(5))?;
    service.finish().map(drop)
}

#[test]
fn each_thread_gives_away_what_it_does_not_need() -> Result<()> {
    needs!(Btf);
    for settings in ["", "watch.usdt = true"] {
        let home = home(settings)?;
        let service = Service::start(&home)?;
        for key in ["CapEff", "CapPrm"] {
            for set in service.status(key)? {
                let extra = u64::from_str_radix(&set, 16)? & !KEPT;
                ensure!(extra == 0, "{key}: {set}");
            }
        }
        assert!(service.status("NoNewPrivs")?.iter().all(|set| set == "1"));
        assert!(service.status("Seccomp")?.iter().all(|mode| mode == "2"));
        service.finish()?;
    }
    Ok(())
}

#[test]
fn without_kernel_programs_it_runs_and_is_not_ready() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    // As in a container that lacks the capabilities for BPF.
    let lacks = "-bpf,-perfmon,-sys_admin";
    let bounded = ["setpriv", "--bounding-set", lacks, "--inh-caps", lacks];
    let service = Service::start_by(&home, &bounded)?;
    clock::wait_for("/readyz", Duration::from_secs(5), || {
        let answer = home.get("/readyz")?;
        Ok((answer.starts_with("HTTP/1.1 503") && answer.contains("polling /proc")).then_some(()))
    })?;
    assert!(home.get("/metrics")?.contains("\nrampage_ready 0\n"));
    assert!(home.get("/healthz")?.starts_with("HTTP/1.1 200"));
    service.finish().map(drop)
}

#[test]
fn a_second_one_is_refused_with_the_pid_of_the_first() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    let service = Service::start(&home)?;
    let refused = Service::begin(&home)?.ended()?;
    assert_eq!(refused.status.code(), Some(1));
    let pid = format!("another rampage (process {})", service.pid());
    assert!(refused.stderr.contains(&pid), "{}", refused.stderr);
    service.kill()?;
    Service::start(&home)?.finish().map(drop)
}

#[test]
fn nothing_of_it_stays_in_the_kernel() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    let before = bpf::objects()?;
    let service = Service::start(&home)?;
    let its: Vec<_> = bpf::objects()?.difference(&before).copied().collect();
    assert!(its.len() > 10, "{its:?}");
    service.kill()?;
    clock::wait_for("the end of its programs", Duration::from_secs(5), || {
        let objects = bpf::objects()?;
        Ok(its.iter().all(|object| !objects.contains(object)).then_some(()))
    })
}

#[test]
fn a_bad_file_leaves_the_old_settings_in_force() -> Result<()> {
    needs!(Btf);
    let home = home("findings.horizon = \"20m\"")?;
    let service = Service::start(&home)?;
    service.reload()?;
    fs::write(home.settings(), "findings.horizon = 7")?;
    service.reload()?;
    home.set("findings.horizon = \"30m\"")?;
    service.reload()?;
    let ended = service.finish()?;
    let said = ended.stderr.matches("the settings stay as they were").count();
    assert_eq!(said, 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("settings reloaded").count(), 2, "{}", ended.stderr);
    Ok(())
}

/// `$RAMPAGE_RELOADS` or a few: good and bad files in turn, while processes come, grow and go.
#[test]
fn reloads_lose_nothing() -> Result<()> {
    needs!(Btf);
    let times: u32 = match std::env::var("RAMPAGE_RELOADS") {
        Ok(text) => text.parse()?,
        Err(_) => 12,
    };
    let home = home("")?;
    let service = Service::start(&home)?;
    let cgroup = MemoryCgroup::new("reload", 256 << 20)?;
    let script =
        "comm:busy repeat:1000000 { repeat:20 { fork { anon:1 exit:0 } } reap anon:20:80 free }";
    let busy = Hog::spawn(&cgroup, script)?;
    for number in 0..times {
        if number % 4 == 3 {
            fs::write(home.settings(), "findings = 3")?;
        } else {
            home.set(&format!("findings.horizon = \"{}s\"", 60 + number))?;
        }
        service.reload().with_context(|| format!("reload {number}"))?;
    }
    drop(busy);
    let ended = service.finish()?;
    let refused = ended.stderr.matches("the settings stay as they were").count() as u32;
    assert_eq!(refused, times / 4, "{}", ended.stderr);
    let trace = home.recorded()?;
    let horizons: Vec<f64> = trace
        .events()
        .filter_map(|event| match event {
            Event::Config(config) => Some(config.horizon_s),
            _ => None,
        })
        .collect();
    let expected: Vec<f64> =
        (0..times).filter(|number| number % 4 != 3).map(|number| f64::from(60 + number)).collect();
    assert_eq!(horizons, expected);
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    trace.check_order()
}

#[test]
fn after_a_kill_the_gap_is_told() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    Service::start(&home)?.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    let service = Service::start(&home)?;
    let ended = service.finish()?;
    assert!(ended.stderr.contains("the run before was cut off at"), "{}", ended.stderr);
    let trace = home.recorded()?;
    let gaps: Vec<_> = trace
        .events()
        .filter_map(|event| match event {
            Event::Header(header) => header.gap.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(!gaps[0].clean && gaps[0].seconds.is_some_and(|seconds| seconds >= 1.0), "{gaps:?}");
    Ok(())
}

#[test]
fn a_stop_of_ten_seconds_is_lived_through() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    let service = Service::start(&home)?;
    let cgroup = MemoryCgroup::new("stopped", 64 << 20)?;
    let forks =
        Hog::spawn(&cgroup, "comm:forks repeat:1000000 { repeat:50 { fork { exit:0 } } reap }")?;
    service.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(10));
    service.signal(libc::SIGCONT);
    let heard = service.heard()?.len();
    service.wait_to_hear_after(heard, "WATCHDOG=1", Duration::from_secs(10))?;
    drop(forks);
    service.finish()?;
    let trace = home.recorded()?;
    let losses = trace.losses();
    // More than the ring holds was missed: it is said how much, and of what.
    assert!(losses.keys().any(|source| source.starts_with("ring:")), "lost: {losses:?}");
    trace.check_order()
}

#[test]
fn where_nothing_can_be_written_it_serves_all_the_same() -> Result<()> {
    needs!(Btf);
    let home = home("recorder.directory = \"/proc/rampage\"")?;
    let service = Service::start(&home)?;
    let metrics = home.get("/metrics")?;
    assert!(metrics.contains("\nrampage_recorder_failing 1\n"), "{metrics}");
    let ended = service.finish()?;
    assert!(ended.stderr.contains("nothing is recorded until the next start"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn whoever_asks_hears_that_it_is_ready() -> Result<()> {
    needs!(Btf);
    let home = home("")?;
    let service = Service::start(&home)?;
    // The courier hears it with the next pulse.
    clock::wait_for("/readyz", Duration::from_secs(5), || {
        let answer = home.get("/readyz")?;
        Ok(answer.starts_with("HTTP/1.1 200").then_some(()))
    })?;
    let metrics = home.get("/metrics")?;
    assert!(metrics.contains("\nrampage_ready 1\n"), "{metrics}");
    service.signal(libc::SIGSTOP);
    clock::wait_for("a tracer that stands still", Duration::from_secs(20), || {
        Ok(home.get("/healthz")?.starts_with("HTTP/1.1 503").then_some(()))
    })?;
    service.signal(libc::SIGCONT);
    service.finish().map(drop)
}

#[test]
fn a_taken_port_is_told_with_what_to_do() -> Result<()> {
    needs!(Btf);
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let home = home(&format!("metrics.listen = \"{address}\""))?;
    let ended = Service::begin(&home)?.ended()?;
    assert!(!ended.status.success());
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("listen"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn settings_that_cannot_be_used_are_wrong_usage() -> Result<()> {
    let home = Home::new()?;
    let missing = Service::begin(&home)?.ended()?;
    assert_eq!(missing.status.code(), Some(2), "{}", missing.stderr);
    fs::write(home.settings(), "[recorder]\nsegment_sise = \"64MiB\"\n")?;
    let ended = Service::begin(&home)?.ended()?;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    let said = &ended.stderr;
    assert!(said.contains("rampage.toml:2") && said.contains("segment_size"), "{said}");
    Ok(())
}
