//! What kind of process sent a signal. A comm is what its process says of itself: a name that would
//! excuse a kill must be borne out by the executable or the cgroup.

use std::sync::Arc;

use super::SIGTERM;
use crate::event::{KilledBy, Party, Signal};
use crate::model::{Model, Process};

/// Where people type.
const SHELLS: [&str; 8] = ["bash", "sh", "dash", "zsh", "fish", "ksh", "ash", "busybox"];
/// What they type to end a process.
const TOOLS: [&str; 7] = ["kill", "pkill", "killall", "skill", "htop", "top", "btop"];
/// What may stand between a shell and the tool.
const WRAPPERS: [&str; 7] = ["sudo", "su", "doas", "xargs", "timeout", "env", "watch"];
/// A tool is not further from its shell than this.
const STEPS: usize = 6;

/// The sender's kind, as far as it is known when the signal is sent. `FpmTimeout` = FPM's master
/// signalled its own worker: why, shows later.
pub(super) fn classify(model: &Model, signal: &Signal) -> KilledBy {
    let Signal { sender, target, .. } = signal;
    if signal.from_kernel {
        return KilledBy::Kernel;
    }
    let process = model.living_or_exited(&sender.key());
    if sender.tgid == 1 || is_systemd(sender, process) {
        return KilledBy::Systemd;
    }
    if model.living_or_exited(&target.key()).and_then(master_of) == Some(sender.tgid) {
        return KilledBy::FpmTimeout;
    }
    match &*sender.comm {
        "systemd-oomd" if is_program(process, "systemd-oomd") => KilledBy::SystemdOomd,
        "earlyoom" if is_program(process, "earlyoom") => KilledBy::Earlyoom,
        comm if SHELLS.contains(&comm) => KilledBy::Shell,
        comm if TOOLS.contains(&comm) && is_from_shell(model, process) => KilledBy::Shell,
        _ => KilledBy::Process,
    }
}

/// FPM's master of a worker.
pub(super) fn master_of(process: &Process) -> Option<u32> {
    let php = process.php.as_ref().filter(|php| &*php.sapi == "fpm" && php.pool.is_some())?;
    php.master_tgid.or((process.ppid != 0).then_some(process.ppid))
}

/// Whether FPM's master had a reason to end this worker alone: it has one kind of SIGTERM for one
/// worker, and SIGKILL for idle ones, too (fpm_process_ctl.c).
pub(super) fn is_timeout(process: &Process, signal: u32) -> bool {
    let is_busy = process.insight.as_ref().is_some_and(|insight| insight.request().is_some());
    signal == SIGTERM || is_busy
}

/// The manager of a user's session is not process 1: anybody may be called so.
fn is_systemd(sender: &Party, process: Option<&Process>) -> bool {
    let Some(process) = process.filter(|_| &*sender.comm == "systemd") else { return false };
    match &process.exe {
        Some(exe) => file_name(exe) == "systemd",
        None => process.cgroup.as_ref().is_some_and(|path| path.ends_with("/init.scope")),
    }
}

/// Whether nothing is known that speaks against this program.
fn is_program(process: Option<&Process>, name: &str) -> bool {
    let exe = process.and_then(|process| process.exe.as_ref());
    exe.is_none_or(|exe| file_name(exe) == name)
}

fn file_name(exe: &Arc<str>) -> &str {
    let path = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a tool was started from a shell; what is not known speaks for it.
fn is_from_shell(model: &Model, tool: Option<&Process>) -> bool {
    let mut child = tool;
    for _ in 0..STEPS {
        let Some(parent) = child.and_then(|child| model.by_tgid(child.ppid)) else { return true };
        if SHELLS.contains(&&*parent.comm) {
            return true;
        }
        if !WRAPPERS.contains(&&*parent.comm) {
            return false;
        }
        child = Some(parent);
    }
    false
}
