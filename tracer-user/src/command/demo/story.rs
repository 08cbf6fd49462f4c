//! Tells what happens in the demo's cgroup, line by line, and remembers what the end needs.

use std::io::Write;

use tokio::sync::mpsc;

use crate::cli::DemoRole;
use crate::event::{Event, Evidence, Finding, FindingState, Oom, Severity, Stamped, Verdict};
use crate::model::Model;
use crate::run::Control;
use crate::sink::{Sink, SinkError};
use crate::text::printable;

const MIB: f64 = 1_048_576.0;

/// The warning that came first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warning {
    /// When, CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// Time left that it gave, s.
    pub eta_s: f64,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// First warning that named the leaker.
    pub warning: Option<Warning>,
    /// When the OOM killer struck, CLOCK_BOOTTIME ns.
    pub killed_ns: Option<u64>,
    /// The judgement about it.
    pub verdict: Option<Verdict>,
}

/// A sink that tells the story and ends the run at the verdict.
pub struct Story<W> {
    out: W,
    colour: bool,
    cgroup: String,
    control: mpsc::Sender<Control>,
    began_ns: Option<u64>,
    seen: Seen,
}

impl<W: Write> Story<W> {
    /// A story about `cgroup`, told to `out`.
    pub fn new(out: W, colour: bool, cgroup: &str, control: mpsc::Sender<Control>) -> Self {
        let (cgroup, seen) = (cgroup.to_owned(), Seen::default());
        Self { out, colour, cgroup, control, began_ns: None, seen }
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Says something that is no event.
    pub fn say(&mut self, text: &str) -> Result<(), SinkError> {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(unwritable)
    }

    fn tell(&mut self, t_ns: u64, severity: Severity, text: &str) -> Result<(), SinkError> {
        let began_ns = *self.began_ns.get_or_insert(t_ns);
        let seconds = t_ns.saturating_sub(began_ns) as f64 / 1e9;
        let (on, off) = match severity {
            _ if !self.colour => ("", ""),
            Severity::Info => ("", ""),
            Severity::Warning => ("\x1b[33m", "\x1b[0m"),
            Severity::Critical => ("\x1b[1;31m", "\x1b[0m"),
        };
        let text = printable(text);
        self.say(&format!("{seconds:5.1} s  {on}{text}{off}"))
    }

    fn tick(&mut self, model: &Model, t_ns: u64) -> Result<(), SinkError> {
        let Some(cgroup) = model.cgroup(&self.cgroup) else { return Ok(()) };
        let used = cgroup.usage_bytes as f64 / MIB;
        let limit = cgroup.max_bytes.map_or(String::new(), |max| format!(" of {}", max >> 20));
        self.tell(t_ns, Severity::Info, &format!("cgroup uses {used:.0}{limit} MiB"))
    }

    fn oom(&mut self, oom: &Oom, t_ns: u64) -> Result<(), SinkError> {
        let ours = |path: &Option<std::sync::Arc<str>>| path.as_deref() == Some(&*self.cgroup);
        if !ours(&oom.scope.cgroup) && !oom.victims.iter().any(|victim| ours(&victim.cgroup)) {
            return Ok(());
        }
        self.seen.killed_ns.get_or_insert(t_ns);
        let victims: Vec<String> =
            oom.victims.iter().map(|victim| format!("{} ({})", victim.comm, victim.tgid)).collect();
        let text = format!(
            "the OOM killer kills {}; {} ({}) asked for memory",
            victims.join(", "),
            oom.trigger.comm,
            oom.trigger.tgid
        );
        self.tell(t_ns, Severity::Critical, &text)
    }

    fn finding(&mut self, finding: &Finding, t_ns: u64) -> Result<(), SinkError> {
        if finding.state == FindingState::Closed {
            return Ok(());
        }
        let ours = |path: Option<&str>| path == Some(&*self.cgroup);
        match &finding.evidence {
            Evidence::Runaway(runaway) if ours(runaway.limit.path.as_deref()) => {
                let leaker = DemoRole::Leaker.comm();
                let names_leaker =
                    finding.subject.as_ref().is_some_and(|subject| &*subject.comm == leaker);
                if names_leaker && self.seen.killed_ns.is_none() {
                    self.seen.warning.get_or_insert(Warning { t_ns, eta_s: runaway.eta_s });
                }
                self.tell(t_ns, finding.severity, &format!("RUNAWAY {}", finding.summary))
            }
            Evidence::OomVerdict(verdict)
                if ours(verdict.limit.cgroup.as_deref())
                    || verdict.victims.iter().any(|victim| ours(victim.cgroup.as_deref())) =>
            {
                self.seen.verdict.get_or_insert_with(|| (**verdict).clone());
                // Full: a request to end is waiting already, or the time limit ends the run.
                let _ = self.control.try_send(Control::Quit("verdict"));
                self.tell(t_ns, finding.severity, &format!("VERDICT {}", finding.summary))
            }
            _ => Ok(()),
        }
    }
}

impl<W: Write> Sink for Story<W> {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Header(_) => {
                self.began_ns = Some(at.t_ns);
                Ok(())
            }
            Event::Tick(_) if self.seen.verdict.is_none() => self.tick(model, at.t_ns),
            Event::Oom(oom) => self.oom(oom, at.t_ns),
            Event::Finding(finding) => self.finding(finding, at.t_ns),
            _ => Ok(()),
        }
    }
}

fn unwritable(error: std::io::Error) -> SinkError {
    SinkError::writing("the story of the demo", error)
}
