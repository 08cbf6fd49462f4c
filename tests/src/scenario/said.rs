//! Findings as a score sees them: read from their JSON, so that a kind that is new needs nothing here.

use rampage::event::{Event, ProcessKey};
use rampage::model::Model;
use rampage::sink::{Sink, SinkError};
use serde_json::Value;

use crate::trace::Trace;

/// A finding at one moment of its life.
#[derive(Clone, Debug)]
pub struct Said {
    /// When, CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// As in the trace.
    pub json: Value,
}

/// Kinds of what happened at one moment: they blame by their evidence, or nobody.
const EVENTS: [&str; 2] = ["oom_verdict", "killed"];
/// Kinds that name a process, or a pool, as the one that grows.
const NAMING: [&str; 5] = ["runaway", "leak", "pool", "pool_too_large", "memory_limit"];

impl Said {
    /// All of a recorded trace.
    pub fn in_trace(trace: &Trace) -> Vec<Self> {
        let findings = trace.findings().into_iter();
        findings.map(|(line, _)| Self { t_ns: line.t_ns, json: line.json.clone() }).collect()
    }

    fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    /// `runaway`, `leak` …
    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    /// One plain sentence.
    pub fn summary(&self) -> &str {
        self.text("summary")
    }

    /// It is new.
    pub fn is_raised(&self) -> bool {
        matches!(self.text("state"), "raised" | "")
    }

    /// It has not ended.
    pub fn holds(&self) -> bool {
        self.text("state") != "closed"
    }

    /// It asks somebody to act.
    pub fn is_alarm(&self) -> bool {
        !self.is_event() && matches!(self.text("severity"), "warning" | "critical")
    }

    /// It tells what happened at one moment.
    pub fn is_event(&self) -> bool {
        EVENTS.contains(&self.kind())
    }

    /// It names who grows.
    pub fn names_somebody(&self) -> bool {
        NAMING.contains(&self.kind())
    }

    /// The process that it is about.
    pub fn subject(&self) -> Option<ProcessKey> {
        key(&self.json["subject"])
    }

    /// Whom a verdict blames.
    pub fn blamed(&self) -> Option<ProcessKey> {
        key(&self.json["evidence"]["culprit"])
    }

    /// Who was killed, by a verdict or a `killed`.
    pub fn victims(&self) -> Vec<ProcessKey> {
        let evidence = &self.json["evidence"];
        let listed = evidence["victims"].as_array().into_iter().flatten().filter_map(key);
        let one = if self.kind() == "killed" { self.subject() } else { None };
        listed.chain(one).collect()
    }

    /// Who killed, by a `killed`.
    pub fn by(&self) -> &str {
        self.json["evidence"]["by"].as_str().unwrap_or_default()
    }

    /// The largest worker, by a `pool`.
    pub fn largest_worker(&self) -> Option<ProcessKey> {
        key(&self.json["evidence"]["largest"][0])
    }

    /// Cgroups that it names: the subject's, the limit's, the victims'.
    pub fn cgroups(&self) -> Vec<&str> {
        let evidence = &self.json["evidence"];
        let limit = &evidence["limit"];
        let mut named = vec![
            &self.json["subject"]["cgroup"],
            &limit["path"],
            &limit["cgroup"],
            &evidence["cgroup"],
            &evidence["path"],
            &evidence["scope"],
        ];
        named.extend(evidence["victims"].as_array().into_iter().flatten().map(|v| &v["cgroup"]));
        named.into_iter().filter_map(Value::as_str).collect()
    }
}

fn key(value: &Value) -> Option<ProcessKey> {
    let number = |field: &str| value[field].as_u64();
    Some(ProcessKey {
        tgid: u32::try_from(number("tgid")?).ok().filter(|tgid| *tgid != 0)?,
        start_ns: number("start_ns")?,
    })
}

/// A sink that keeps the findings.
#[derive(Debug, Default)]
pub struct Collected(pub Vec<Said>);

impl Sink for Collected {
    fn event(&mut self, _: &Model, at: &rampage::event::Stamped) -> Result<(), SinkError> {
        if let Event::Finding(finding) = &at.event
            && let Ok(json) = serde_json::to_value(finding)
        {
            self.0.push(Said { t_ns: at.t_ns, json });
        }
        Ok(())
    }
}
