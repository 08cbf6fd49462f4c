//! Lost work as a finding: the sentence and the evidence.

use super::SOME;
use crate::detect::sentence;
use crate::event::{
    Evidence, Finding, FindingKind, Limit, LimitSetting, LostForm, LostWork, Severity, Waiting,
};
use crate::model::{Model, Process, Strain};
use crate::text::{bytes, rate};

/// So many are shown of each list …
const SHOWN: usize = 5;
/// … and named in the sentence.
const NAMED: usize = 2;

/// Waiting is summed up over so long, ns.
const LOST_NS: u64 = 10_000_000_000;

pub(super) fn finding(
    model: &Model,
    strain: &Strain<'_>,
    form: LostForm,
    severity: Severity,
) -> Finding {
    let waiters = strain.waiters();
    let share = |process: &Process| {
        let own = waiters.iter().find(|(waiter, _)| waiter.key == process.key);
        own.map_or(0.0, |(_, share)| *share)
    };
    let growers = strain.growers();
    let largest = strain.largest();
    let place = place(strain.path.map(|path| &**path));
    let limit = bytes(strain.limit_bytes);
    let mut summary = match form {
        LostForm::Hung => format!(
            "tasks {place} hang: its {limit} limit is reached and its OOM killer is disabled"
        ),
        LostForm::Throttled => format!(
            "work is being lost {place}: {}; it is throttled by its memory.high of {limit}",
            lost(strain)
        ),
        LostForm::Stalled => format!("work is being lost {place}: {}", lost(strain)),
    };
    // Whoever hangs grows no more.
    let growing = if form == LostForm::Hung { &[] } else { &growers[..] };
    let causes: Vec<String> = match (growing, largest) {
        ([], Some(process)) => {
            let size = bytes(process.private_bytes());
            vec![format!("{} holds most ({size})", sentence::process(process))]
        }
        (growers, _) => {
            let grows = |process: &&Process| {
                let rate = rate(process.rate_bytes_per_s);
                format!("{} grows {}", sentence::process(process), rate.trim_start_matches('+'))
            };
            growers.iter().take(NAMED).map(grows).collect()
        }
    };
    let sufferer = waiters.first().map(|(process, share)| {
        let percent = share * 100.0;
        format!("{} waits most ({percent:.0} % of its time)", sentence::process(process))
    });
    let people: Vec<String> = causes.into_iter().chain(sufferer).collect();
    if !people.is_empty() {
        summary.push_str("; ");
        summary.push_str(&people.join(", "));
    }
    let since_ns = model.now_ns().saturating_sub(LOST_NS);
    let stalls = model.stalls_lost_since(since_ns);
    let lost_records = model.lost_since(since_ns).saturating_add(stalls);
    summary.push_str(&sentence::lost(lost_records));
    let shown = |process: &Process| waiting(process, share(process));
    let evidence = LostWork {
        form,
        limit: Limit {
            kind: strain.kind,
            path: strain.path.cloned(),
            setting: match strain.is_throttled {
                true => LimitSetting::High,
                false => LimitSetting::Max,
            },
            bytes: strain.limit_bytes,
            headroom_bytes: strain.headroom_bytes,
        },
        stall_share: strain.stall_share,
        some_avg10: strain.some_avg10,
        full_avg10: strain.full_avg10,
        growers: growers.iter().take(SHOWN).map(|process| shown(process)).collect(),
        waiters: waiters.iter().take(SHOWN).map(|(process, _)| shown(process)).collect(),
        largest: largest.map(shown),
        lost_records,
    };
    let subject = growers.first().map(|process| sentence::subject(process));
    let evidence = Evidence::Pressure(Box::new(evidence));
    Finding::new(FindingKind::Pressure, severity, subject, summary, evidence)
}

/// It is over.
pub(super) fn over(path: Option<&str>, is_gone: bool) -> String {
    match (is_gone, path) {
        (true, Some(path)) => format!("{} was removed", sentence::name(path)),
        _ => format!("work goes on {}: hardly anybody waits for memory any more", place(path)),
    }
}

fn place(path: Option<&str>) -> String {
    path.map_or_else(|| "on the host".to_owned(), |path| format!("in {}", sentence::name(path)))
}

/// How much.
fn lost(strain: &Strain<'_>) -> String {
    let psi = match (strain.some_avg10, strain.full_avg10) {
        (Some(some), Some(full)) => format!(" (PSI some {some:.0} %, full {full:.0} %)"),
        (Some(some), None) => format!(" (PSI some {some:.0} %)"),
        (None, _) => String::new(),
    };
    let share = strain.stall_share;
    match strain.some_avg10 {
        Some(some) if some >= SOME => {
            format!("{some:.0} % of the time is spent waiting for memory{psi}")
        }
        _ if share < 1.0 => {
            format!("{:.0} % of one process's time is spent waiting for memory{psi}", share * 100.0)
        }
        _ => format!("{share:.1} processes at a time wait for memory{psi}"),
    }
}

fn waiting(process: &Process, stall_share: f64) -> Waiting {
    Waiting {
        tgid: process.key.tgid,
        start_ns: process.key.start_ns,
        comm: std::sync::Arc::clone(&process.comm),
        pool: sentence::pool(process),
        used_bytes: process.private_bytes(),
        rate_bytes_per_s: process.rate_bytes_per_s.max(0.0),
        stall_share,
    }
}
