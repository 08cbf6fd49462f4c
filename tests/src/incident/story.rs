//! What happened, in the order of time: for those who read it, and for the docs.

use rampage::event::{Event, FindingState, Oom};

use super::load::Log;
use super::site::Site;
use super::witness::Witness;
use crate::trace::{Line, Trace};

/// A timeline.
#[derive(Debug)]
pub struct Story {
    zero_ns: u64,
    lines: Vec<(u64, String)>,
}

impl Story {
    /// One that begins at `zero_ns` of the boot clock.
    pub fn new(zero_ns: u64) -> Self {
        Self { zero_ns, lines: Vec::new() }
    }

    /// Adds a line.
    pub fn tell(&mut self, at_ns: u64, what: impl Into<String>) {
        self.lines.push((at_ns, what.into()));
    }

    /// Imports that began, and servers that went and came.
    pub fn site(&mut self, site: &Site, witness: &Witness) {
        for incidence in site.incidences() {
            self.tell(incidence.at_ns, incidence.what);
        }
        for import in witness.imports() {
            self.tell(import.at_ns, format!("php-fpm8.2 ({}) begins an import", import.tgid));
        }
    }

    /// What rampage said of the limit of `path`, and the kills that it saw there.
    pub fn trace(&mut self, trace: &Trace, path: &str) {
        for line in &trace.lines {
            match &line.event {
                Event::Oom(oom) if crate::trace::any_in(&oom.victims, path) => {
                    self.tell(line.t_ns, format!("the kernel kills {}", victims(oom)));
                }
                Event::Finding(finding) if concerns(line, path) => {
                    let state = match finding.state {
                        FindingState::Raised => "",
                        FindingState::Updated => " (again)",
                        FindingState::Closed => continue,
                    };
                    let kind = &line.json["kind"].as_str().unwrap_or_default();
                    self.tell(line.t_ns, format!("rampage: {kind}{state}: {}", finding.summary));
                }
                _ => {}
            }
        }
    }

    /// How many pages came, every five seconds.
    pub fn pages(&mut self, log: &Log, lasts_ms: u64) {
        for from_ms in (0..lasts_ms).step_by(5000) {
            let to_ms = (from_ms + 5000).min(lasts_ms);
            let rate = log.rate(from_ms, to_ms);
            let at_ns = self.zero_ns + to_ms * 1_000_000;
            let failure = log.failure(from_ms, to_ms).map(|why| format!(" ({why})"));
            self.tell(
                at_ns,
                format!(
                    "of {} pages of the last {} s {} came: {:.0} %{}",
                    rate.asked,
                    (to_ms - from_ms) / 1000,
                    rate.answered,
                    rate.percent(),
                    failure.unwrap_or_default()
                ),
            );
        }
    }

    /// Prints it.
    pub fn print(mut self) {
        self.lines.sort_by_key(|(at_ns, _)| *at_ns);
        for (at_ns, what) in &self.lines {
            let seconds = (*at_ns as f64 - self.zero_ns as f64) / 1e9;
            println!("{seconds:6.1} s  {what}");
        }
    }
}

/// Whether a finding is about this limit or somebody in it.
pub fn concerns(line: &Line, path: &str) -> bool {
    let Event::Finding(finding) = &line.event else { return false };
    let subject = finding.subject.as_ref().and_then(|subject| subject.cgroup.as_deref());
    subject == Some(path) || finding.summary.contains(path)
}

fn victims(oom: &Oom) -> String {
    let victims = oom.victims.iter().map(|victim| {
        format!("{} ({}), {} MiB", victim.comm, victim.tgid, victim.anon_bytes >> 20)
    });
    let asked = format!("; {} ({}) asked for memory", oom.trigger.comm, oom.trigger.tgid);
    victims.collect::<Vec<_>>().join(" and ") + &asked
}
