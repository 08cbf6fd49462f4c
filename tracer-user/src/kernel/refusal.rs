//! What a refusal of the kernel means for the user: whether it is for want of privilege, and the
//! reason in one line.

use std::fs;
use std::io;

use aya::programs::ProgramError;

use super::Unsupported;
use super::facts::capability_names;
use crate::enrich::status::effective_capabilities;

/// What to do where BPF cannot be used.
pub(super) const POLL: &str = "trace by polling: rampage watch --source procfs";

/// Longest part of the verifier's log that is shown, characters.
const MAX_VERDICT_CHARS: usize = 120;

/// Lines below the verdict in a verifier's log.
const STATISTICS: [&str; 4] = ["verification time ", "stack depth ", "processed ", "max_states"];

/// Whether an error, or what caused it, is a refusal for want of privilege. EACCES is also what the
/// verifier says to a program that reads where it may not; then it says why.
pub(super) fn permission(error: &anyhow::Error) -> bool {
    let judged = verdict(error).is_some();
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| {
        match cause.raw_os_error() {
            Some(libc::EACCES) => !judged,
            Some(libc::EPERM) => true,
            _ => false,
        }
    })
}

/// The error that ends the loading.
pub(super) fn refusal(what: &str, error: &anyhow::Error) -> Unsupported {
    if permission(error) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let remedy = if is_filtered(&status) {
            "it has CAP_BPF, but a seccomp filter, as containers have, may forbid bpf and perf_event_open: run \
             the container with --security-opt seccomp=unconfined"
        } else {
            "run it as root (or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE)"
        };
        Unsupported {
            reason: format!("this process may not load BPF programs ({})", short(error)),
            remedy: format!("{remedy}, or {POLL}"),
        }
    } else {
        Unsupported {
            reason: format!("{what}: {}", short(error)),
            remedy: format!("`rampage doctor` shows what this host has; or {POLL}"),
        }
    }
}

/// Whether a process with this /proc/PID/status has the capabilities, and a filter of system calls.
fn is_filtered(status: &str) -> bool {
    let held = capability_names(effective_capabilities(status.as_bytes()).unwrap_or(0));
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    ["CAP_BPF", "CAP_PERFMON"].iter().all(|name| held.contains(name))
        && mode.is_some_and(|mode| mode.trim() == "2")
}

/// The last cause, and of the verifier's log its verdict.
pub(super) fn short(error: &anyhow::Error) -> String {
    let cause = error.root_cause().to_string();
    let cause = cause.lines().next().unwrap_or_default();
    match verdict(error) {
        Some(verdict) => format!("{cause}: {verdict}"),
        None => cause.to_owned(),
    }
}

/// The verifier's verdict on a program.
fn verdict(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| match cause.downcast_ref()? {
        ProgramError::LoadError { verifier_log, .. } => last_word(&verifier_log.to_string()),
        _ => None,
    })
}

/// The last line of a verifier's log above its statistics. The log itself is walked through
/// instructions, which are no news to a user.
fn last_word(log: &str) -> Option<String> {
    let line = log.lines().map(str::trim).rfind(|line| {
        !line.is_empty() && !STATISTICS.iter().any(|statistic| line.starts_with(statistic))
    })?;
    Some(line.chars().take(MAX_VERDICT_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(code: i32) -> anyhow::Error {
        anyhow::Error::from(io::Error::from_raw_os_error(code)).context("loading")
    }

    #[test]
    fn a_refusal_names_the_privilege() {
        for code in [libc::EPERM, libc::EACCES] {
            assert!(permission(&os(code)));
            assert!(refusal("", &os(code)).remedy.contains("CAP_BPF"));
        }
        assert!(!permission(&os(libc::EINVAL)));
        let refused = refusal("the maps", &os(libc::EINVAL));
        assert!(refused.remedy.contains("doctor"));
        assert_eq!(refused.reason, "the maps: Invalid argument (os error 22)");
    }

    #[test]
    fn a_filter_is_seen_where_privilege_is_not_what_lacks() {
        let status = |capabilities: &str, filter: u8| {
            format!(
                "Name:\tx\nCapEff:\t{capabilities}\nNoNewPrivs:\t0\nSeccomp:\t{filter}\nSeccomp_filters:\t1\n"
            )
        };
        assert!(is_filtered(&status("000000c000080004", 2)));
        assert!(!is_filtered(&status("000000c000080004", 0)));
        assert!(!is_filtered(&status("0000008000080004", 2)));
        assert!(!is_filtered(&status("x", 2)) && !is_filtered(""));
    }

    #[test]
    fn the_verdict_stands_above_the_statistics() {
        let log = "\
0: (18) r2 = 0xffff91a76fb05dc4
21: (79) r3 = *(u64 *)(r3 +0)
Type 'atomic_long_t' is not a struct
verification time 962 usec
stack depth 0+0+0
processed 19 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
";
        assert_eq!(last_word(log).as_deref(), Some("Type 'atomic_long_t' is not a struct"));
        assert_eq!(last_word("\n"), None);
        assert_eq!(last_word(&"x".repeat(5000)).map(|line| line.len()), Some(MAX_VERDICT_CHARS));
    }
}
