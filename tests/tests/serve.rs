//! `rampage serve` as a service: what systemd hears, what it gives away, a second instance, reloads, and
//! what is left when it ends.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::bpf;
use tests::clock;
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
    let home = home("")?;
    let service = Service::start(&home)?;
    for key in ["CapEff", "CapPrm"] {
        for set in service.status(key)? {
            let extra = u64::from_str_radix(&set, 16)? & !KEPT;
            ensure!(extra == 0, "{key}: {set}");
        }
    }
    assert!(service.status("NoNewPrivs")?.iter().all(|set| set == "1"));
    assert!(service.status("Seccomp")?.iter().all(|mode| mode == "2"));
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
