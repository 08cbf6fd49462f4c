//! The end of a process as a finding: severity, sentence and evidence.

use super::{Ended, SIGKILL, SIGTERM};
use crate::detect::{sentence, work};
use crate::event::look::Request;
use crate::event::{Evidence, Finding, FindingKind, Killed, KilledBy, Severity};
use crate::model::{Model, Process};
use crate::text;

/// An end that came later than this after SIGTERM took its time, s.
const AT_ONCE_S: f64 = 0.5;

pub(super) fn finding(model: &Model, process: &Process, ended: &Ended) -> Finding {
    let by = ended.by();
    let request = request(process, ended);
    let lost_records = sentence::lost_lately(model);
    let mut summary = match by {
        KilledBy::FpmTimeout => timed_out(process, request.as_ref()),
        _ => killed(process, ended, request.as_ref()),
    };
    summary.push_str(&sentence::lost(lost_records));
    let severity = match by {
        KilledBy::FpmTimeout | KilledBy::Earlyoom | KilledBy::SystemdOomd => Severity::Warning,
        KilledBy::Unknown if ended.signal == SIGKILL => Severity::Warning,
        _ => Severity::Info,
    };
    let evidence = Killed {
        by,
        signal: ended.signal,
        sender: ended.sent.as_ref().and_then(|sent| sent.sender.clone()),
        used_bytes: process.private_bytes(),
        peak_bytes: ended.peak_bytes,
        request,
        term_s: ended.term_s,
        lost_records,
    };
    let subject = Some(sentence::subject(process));
    let evidence = Evidence::Killed(Box::new(evidence));
    Finding::new(FindingKind::Killed, severity, subject, summary, evidence)
}

/// What it was in, and for how long when the signal came.
fn request(process: &Process, ended: &Ended) -> Option<Request> {
    let insight = process.insight.as_ref()?;
    let mut request = insight.request()?.clone();
    let sent_ns = ended.sent.as_ref().map_or(0, |sent| sent.t_ns);
    let since_ns = sent_ns.saturating_sub(insight.looked_ns);
    request.elapsed_ns = request.elapsed_ns.map(|elapsed_ns| elapsed_ns.saturating_add(since_ns));
    Some(request)
}

fn timed_out(process: &Process, request: Option<&Request>) -> String {
    let after = match request.and_then(|request| request.elapsed_ns) {
        Some(elapsed_ns) => format!(" after {}", text::seconds(elapsed_ns as f64 / 1e9)),
        None => String::new(),
    };
    let served = request.map_or_else(String::new, |asked| format!(" in {}", work::request(asked)));
    format!(
        "{} was ended by its master's request_terminate_timeout{after}{served}, with {}",
        sentence::process(process),
        text::bytes(process.private_bytes()),
    )
}

fn killed(process: &Process, ended: &Ended, request: Option<&Request>) -> String {
    let verb = if ended.signal == SIGKILL { "killed (SIGKILL)" } else { "ended (SIGTERM)" };
    let late = match ended.term_s.filter(|term_s| *term_s >= AT_ONCE_S) {
        Some(term_s) if ended.signal == SIGTERM => {
            format!(", and was gone {} later", text::seconds(term_s))
        }
        Some(term_s) => format!(", {} after SIGTERM", text::seconds(term_s)),
        None => String::new(),
    };
    let served =
        request.map_or_else(String::new, |asked| format!("; it served {}", work::request(asked)));
    format!("{} was {verb}{}{late}{served}", sized(process), sender(process, ended))
}

fn sized(process: &Process) -> String {
    let named = sentence::process(process);
    let size = text::bytes(process.private_bytes());
    match named.strip_suffix(')') {
        Some(open) => format!("{open}, {size})"),
        None => named,
    }
}

fn sender(process: &Process, ended: &Ended) -> String {
    let Some(sent) = &ended.sent else { return "; the sender was not seen".to_owned() };
    let Some(sender) = &sent.sender else {
        return " by the kernel, which did not call it out of memory".to_owned();
    };
    if sender.key() == process.key {
        return " by itself".to_owned();
    }
    let from = if sent.by == KilledBy::Shell { ", from a shell" } else { "" };
    format!(" by {}{from}", sentence::named(&sender.comm, None, sender.tgid))
}
