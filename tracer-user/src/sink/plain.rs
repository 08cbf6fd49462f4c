//! Plain lines on the standard output: one for each finding, one for each tick, one for each loss,
//! and growth by request and totals at the end. For terminals without a table, logs and pipes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use super::filter::Filter;
use super::{Sink, SinkError, next_victim, requests};
use crate::event::{End, Event, Finding, FindingState, Lost, Severity, Stamped};
use crate::model::{Cgroup, Forecast, Model, Process};
use crate::text::{self, printable};

const NS_PER_DAY: i64 = 86_400_000_000_000;
const NS_PER_S: i64 = 1_000_000_000;

/// Prints plain lines.
pub struct Plain<W: Write> {
    output: W,
    filter: Filter,
    colour: bool,
    line: String,
    findings: u64,
}

impl Plain<io::StdoutLock<'static>> {
    /// To the standard output; in colour on a terminal, unless `NO_COLOR` is set.
    pub fn stdout(filter: Filter) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = wanted && io::stdout().is_terminal();
        Self::new(io::stdout().lock(), filter, colour)
    }
}

impl<W: Write> Plain<W> {
    /// To `output`.
    pub fn new(output: W, filter: Filter, colour: bool) -> Self {
        Self { output, filter, colour, line: String::new(), findings: 0 }
    }

    /// Writes one whole line at once.
    fn print(
        &mut self,
        wall_ns: i64,
        text: &str,
        severity: Option<Severity>,
    ) -> Result<(), SinkError> {
        self.line.clear();
        clock(&mut self.line, wall_ns);
        self.line.push_str("  ");
        let colour = severity.filter(|_| self.colour).map(|severity| match severity {
            Severity::Info => "\x1b[36m",
            Severity::Warning => "\x1b[33m",
            Severity::Critical => "\x1b[1;31m",
        });
        self.line.push_str(colour.unwrap_or(""));
        self.line.push_str(&printable(text));
        self.line.push_str(if colour.is_some() { "\x1b[0m\n" } else { "\n" });
        self.output
            .write_all(self.line.as_bytes())
            .and_then(|()| self.output.flush())
            .map_err(|error| SinkError::writing("standard output", error))
    }
}

impl<W: Write> Sink for Plain<W> {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Tick(_) => {
                let text = summary(model, &self.filter);
                self.print(at.wall_ns, &text, None)
            }
            Event::Finding(finding) => {
                self.findings += u64::from(finding.state == FindingState::Raised);
                let colour = match finding.state {
                    FindingState::Closed => None,
                    FindingState::Raised | FindingState::Updated => Some(finding.severity),
                };
                self.print(at.wall_ns, &finding_text(finding), colour)
            }
            Event::Lost(lost) => self.print(at.wall_ns, &lost_text(lost), Some(Severity::Warning)),
            Event::End(end) => {
                for line in requests::summary(model, &self.filter) {
                    self.print(at.wall_ns, &format!("grown     {line}"), None)?;
                }
                let text = end_text(end, self.findings);
                self.print(at.wall_ns, &text, None)
            }
            _ => Ok(()),
        }
    }
}

/// `14:03:59Z`.
pub(crate) fn clock(line: &mut String, wall_ns: i64) {
    let second = wall_ns.rem_euclid(NS_PER_DAY) / NS_PER_S;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a String cannot fail.
    let _ = write!(line, "{hour:02}:{minute:02}:{second:02}Z");
}

fn finding_text(finding: &Finding) -> String {
    let word = match (finding.state, finding.severity) {
        (FindingState::Closed, _) => "OVER",
        (_, Severity::Info) => "INFO",
        (_, Severity::Warning) => "WARNING",
        (_, Severity::Critical) => "CRITICAL",
    };
    format!("{word:8}  {}", finding.summary)
}

fn lost_text(lost: &Lost) -> String {
    format!("LOST      {} records ({})", lost.records, lost.source)
}

fn end_text(end: &End, findings: u64) -> String {
    let s = if findings == 1 { "" } else { "s" };
    format!(
        "end       {}: {} events, {findings} finding{s}, {} records lost",
        end.reason, end.events, end.lost
    )
}

/// Host, the memory cgroup closest to its limit, who would be killed next, and who grows fastest.
fn summary(model: &Model, filter: &Filter) -> String {
    let host = model.host();
    let mut text = if host.available_bytes == 0 {
        "host memory is not known yet".to_owned()
    } else {
        format!(
            "host {:>9} available, swap {:>9} free",
            text::bytes(host.available_bytes),
            text::bytes(host.swap_free_bytes)
        )
    };
    if let (Some(some), Some(full)) = (host.some_avg10, host.full_avg10) {
        let _ = write!(text, ", psi {some:4.1}/{full:4.1} %");
    }
    let shares = model
        .cgroups()
        .filter(|cgroup| filter.matches_cgroup(Some(&cgroup.path)))
        .filter_map(|cgroup| Some((share(cgroup)?, cgroup)));
    let worst = shares.max_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| y.path.cmp(&x.path)));
    if let Some((share, cgroup)) = worst {
        let _ = write!(
            text,
            " | {:>3.0} % of {:>9} in {}",
            share * 100.0,
            text::bytes(cgroup.max_bytes.unwrap_or(0)),
            short(&cgroup.path, 40)
        );
    }
    if let Some(words) = next_victim::words(model, filter, short) {
        let _ = write!(text, " | {words}");
    }
    let growing = model
        .processes()
        .filter(|process| process.rate_bytes_per_s >= 1.0 && filter.matches_process(process));
    let top = growing.max_by(|a, b| {
        a.rate_bytes_per_s.total_cmp(&b.rate_bytes_per_s).then_with(|| b.key.cmp(&a.key))
    });
    if let Some(process) = top {
        let _ = write!(text, " | {}", grower(process, model.forecast(process)));
    }
    text
}

/// What part of its limit a cgroup has used, reclaimable file pages not counted; None = no limit.
fn share(cgroup: &Cgroup) -> Option<f64> {
    let limit = cgroup.max_bytes.filter(|bytes| *bytes > 0)?;
    Some(cgroup.usage_bytes.saturating_sub(cgroup.reclaimable_bytes) as f64 / limit as f64)
}

fn grower(process: &Process, forecast: Option<Forecast>) -> String {
    let pool = process.php.as_ref().and_then(|php| php.pool.as_deref());
    let mut text = format!(
        "{:>12} {:>9} {}[{}]",
        text::rate(process.rate_bytes_per_s),
        text::bytes(process.memory.private_bytes()),
        short(&process.comm, 16),
        process.key.tgid
    );
    if let Some(pool) = pool {
        let _ = write!(text, " pool {}", short(pool, 24));
    }
    if let Some(eta_s) = forecast.and_then(|forecast| forecast.eta_s) {
        let _ = write!(text, ", {} left", text::seconds(eta_s));
    }
    text
}

fn short(name: &str, columns: usize) -> String {
    text::fit(&printable(name), columns).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Config, Evidence, FindingKind, Limit, Runaway, Tick};

    fn finding(summary: &str) -> Event {
        let limit = Limit { bytes: 1, headroom_bytes: 1, ..Limit::default() };
        Event::Finding(Box::new(Finding {
            id: 1,
            state: FindingState::Raised,
            kind: FindingKind::Runaway,
            severity: Severity::Critical,
            subject: None,
            summary: summary.to_owned(),
            evidence: Evidence::Runaway(Box::new(Runaway {
                rate_bytes_per_s: 1.0,
                limit_rate_bytes_per_s: 1.0,
                used_bytes: 1,
                grown_bytes: 1,
                growing_s: 1.0,
                share: 1.0,
                limit,
                eta_s: 1.0,
                ..Runaway::default()
            })),
        }))
    }

    fn printed(events: &[Event], colour: bool) -> String {
        let model = Model::new(&Config::default());
        let mut out = Vec::new();
        let mut sink = Plain::new(&mut out, Filter::default(), colour);
        for event in events {
            let wall_ns = 86_399 * NS_PER_S + NS_PER_DAY;
            sink.event(&model, &Stamped { t_ns: 1, wall_ns, event: event.clone() }).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_has_its_time_and_its_word() {
        let events = [
            finding("php-fpm[7] grows"),
            Event::Lost(Lost { source: "ring:growth".into(), records: 12 }),
            Event::Tick(Tick {}),
            Event::End(End { reason: "signal".to_owned(), events: 4, lost: 12 }),
        ];
        assert_eq!(
            printed(&events, false),
            "23:59:59Z  CRITICAL  php-fpm[7] grows\n\
             23:59:59Z  LOST      12 records (ring:growth)\n\
             23:59:59Z  host memory is not known yet\n\
             23:59:59Z  end       signal: 4 events, 1 finding, 12 records lost\n"
        );
    }

    #[test]
    fn a_tick_says_who_would_be_killed_next() {
        let mut script = crate::model::script::Script::new();
        script.host(1000.0, 900.0, 0.0);
        script.process(12, "maria\x1bdb", "/web");
        script.size(12, 60.0);
        script.cgroup("/web", 62.0, 64.0, None);
        assert_eq!(
            summary(&script.model, &Filter::default()),
            "host   900 MiB available, swap       0 B free |  97 % of  64.0 MiB in /web | \
             next to be killed: maria\\x1bdb (pid 12), by the limit of /web"
        );
    }

    #[test]
    fn hostile_names_stay_on_their_line_and_without_effect() {
        let hostile = "x\x1b[2J\n23:59:59Z  CRITICAL  forged\r\u{202e}\u{9b}H";
        let lost = Event::Lost(Lost { source: hostile.into(), records: 1 });
        let end = Event::End(End { reason: hostile.to_owned(), events: 1, lost: 1 });
        let text = printed(&[finding(hostile), lost, end], false);
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));
    }

    #[test]
    fn growth_by_request_comes_before_the_end() {
        let mut script = crate::model::script::Script::new();
        script.worker(4, "www", "/web");
        script.size(4, 10.0);
        script.look(4, |look| look.activity = crate::event::look::Activity::Idle);
        script.wait(1.0).size(4, 40.0);
        script.look_in_request(4, "/orders/17/export", 0.5, 7);
        let mut out = Vec::new();
        let mut sink = Plain::new(&mut out, Filter::default(), false);
        let end = Event::End(End { reason: "signal".to_owned(), events: 4, lost: 0 });
        sink.event(&script.model, &Stamped { t_ns: 1, wall_ns: 0, event: end }).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "00:00:00Z  grown     30.0 MiB in 1 request: GET /orders/{n}/export, pool www, \
             /srv/index.php\n\
             00:00:00Z  end       signal: 4 events, 0 findings, 0 records lost\n"
        );
    }

    #[test]
    fn colour_is_set_and_reset_on_the_same_line() {
        let text = printed(&[finding("x")], true);
        assert_eq!(text, "23:59:59Z  \x1b[1;31mCRITICAL  x\x1b[0m\n");
    }
}
