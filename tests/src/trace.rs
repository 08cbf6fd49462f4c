//! A trace as a test sees it: its lines, whole and decoded, and questions to them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rampage::event::{
    Cgroup, Event, Evidence, Exit, Finding, FindingKind, FindingState, Growth, Header, Oom,
    Process, ProcessCause, Runaway, Stall, Verdict, Victim,
};
use rampage::model::is_below;
use serde::Deserialize;
use serde_json::Value;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Time of the event, CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// When this test read it, CLOCK_BOOTTIME ns; 0 for a finished file.
    pub arrival_ns: u64,
    /// What happened.
    pub event: Event,
    /// The line as it was written.
    pub json: Value,
}

#[derive(Deserialize)]
struct Decoded {
    t: u64,
    time: String,
    #[serde(flatten)]
    event: Event,
}

impl Line {
    /// Decodes a line, strictly: every type and field that the schema asks for must be there.
    pub fn parse(text: &str, arrival_ns: u64) -> Result<Self> {
        let fail = || format!("line {text}");
        let json: Value = serde_json::from_str(text).with_context(fail)?;
        let decoded: Decoded = serde_json::from_value(json.clone()).with_context(fail)?;
        ensure!(decoded.event != Event::Unknown, "unknown type: {text}");
        ensure!(decoded.time.ends_with('Z') && decoded.time.contains('T'), "time: {text}");
        Ok(Self { t_ns: decoded.t, arrival_ns, event: decoded.event, json })
    }
}

/// Whether the cgroup of a victim is `path` or below it.
pub fn any_in(victims: &[Victim], path: &str) -> bool {
    let is_in = |cgroup: &str| is_below(cgroup, path);
    victims.iter().any(|victim| victim.cgroup.as_deref().is_some_and(is_in))
}

/// All lines so far.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order in which they were written.
    pub lines: Vec<Line>,
}

impl Trace {
    /// Reads a file, compressed by its name, up to its last whole line; fails on any line that is
    /// damaged before that.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mut plain = Vec::new();
        if path.extension().is_some_and(|name| name == "zst") {
            // What a cut-off frame still yields counts; the error at its end does not.
            zstd::stream::read::Decoder::new(bytes.as_slice())?.read_to_end(&mut plain).ok();
        } else {
            plain = bytes;
        }
        let whole = plain.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Self::parse(std::str::from_utf8(&plain[..whole])?)
    }

    /// Decodes whole lines.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(|line| Line::parse(line, 0)).collect::<Result<_>>()?;
        Ok(Self { lines })
    }

    /// The first line.
    pub fn header(&self) -> Result<&Header> {
        match self.lines.first().map(|line| &line.event) {
            Some(Event::Header(header)) => Ok(header),
            other => anyhow::bail!("the first line is no header but {other:?}"),
        }
    }

    /// All events.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.lines.iter().map(|line| &line.event)
    }

    /// OOM events.
    pub fn ooms(&self) -> Vec<&Oom> {
        let ooms = self.events().filter_map(|event| match event {
            Event::Oom(oom) => Some(&**oom),
            _ => None,
        });
        ooms.collect()
    }

    /// OOM events with a victim whose cgroup is `path` or below it.
    pub fn ooms_in(&self, path: &str) -> Vec<&Oom> {
        self.ooms().into_iter().filter(|oom| any_in(&oom.victims, path)).collect()
    }

    /// Findings with their lines.
    pub fn findings(&self) -> Vec<(&Line, &Finding)> {
        let findings = self.lines.iter().filter_map(|line| match &line.event {
            Event::Finding(finding) => Some((line, &**finding)),
            _ => None,
        });
        findings.collect()
    }

    /// `runaway` findings when they were raised.
    pub fn runaways(&self) -> Vec<(&Line, &Finding, &Runaway)> {
        let mut found = Vec::new();
        for (line, finding) in self.findings() {
            if let Evidence::Runaway(runaway) = &finding.evidence
                && finding.kind == FindingKind::Runaway
                && finding.state == FindingState::Raised
            {
                found.push((line, finding, &**runaway));
            }
        }
        found
    }

    /// `oom_verdict` findings.
    pub fn verdicts(&self) -> Vec<(&Line, &Finding, &Verdict)> {
        let mut found = Vec::new();
        for (line, finding) in self.findings() {
            if let Evidence::OomVerdict(verdict) = &finding.evidence {
                found.push((line, finding, &**verdict));
            }
        }
        found
    }

    /// Lines about a tgid.
    pub fn about(&self, tgid: u32) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.json["tgid"] == tgid)
    }

    /// `process` events of a tgid.
    pub fn processes(&self, tgid: u32) -> Vec<&Process> {
        let processes = self.events().filter_map(|event| match event {
            Event::Process(process) if process.tgid == tgid => Some(process),
            _ => None,
        });
        processes.collect()
    }

    /// `stall` events of a tgid.
    pub fn stalls(&self, tgid: u32) -> Vec<&Stall> {
        let stalls = self.events().filter_map(|event| match event {
            Event::Stall(stall) if stall.tgid == tgid => Some(stall),
            _ => None,
        });
        stalls.collect()
    }

    /// `cgroup` events of a path: what was seen of it, in order.
    pub fn cgroups(&self, path: &str) -> Vec<&Cgroup> {
        let looks = self.events().filter_map(|event| match event {
            Event::Cgroup(seen) if *seen.path == *path => Some(&**seen),
            _ => None,
        });
        looks.collect()
    }

    /// `growth` events of a tgid.
    pub fn growths(&self, tgid: u32) -> Vec<&Growth> {
        let growths = self.events().filter_map(|event| match event {
            Event::Growth(growth) if growth.tgid == tgid => Some(growth),
            _ => None,
        });
        growths.collect()
    }

    /// The last `growth` event of a tgid.
    pub fn last_growth(&self, tgid: u32) -> Result<&Growth> {
        self.growths(tgid).last().copied().with_context(|| format!("no growth of {tgid}"))
    }

    /// `exit` events of a tgid.
    pub fn exits(&self, tgid: u32) -> Vec<&Exit> {
        let exits = self.events().filter_map(|event| match event {
            Event::Exit(exit) if exit.tgid == tgid => Some(exit),
            _ => None,
        });
        exits.collect()
    }

    /// Records lost at `source`.
    pub fn lost(&self, source: &str) -> u64 {
        self.losses().get(source).copied().unwrap_or(0)
    }

    /// Records lost at `source` by the events since `from_ns`.
    pub fn lost_since(&self, source: &str, from_ns: u64) -> u64 {
        let later = self.lines.iter().filter(|line| line.t_ns >= from_ns);
        let records = later.filter_map(|line| match &line.event {
            Event::Lost(lost) if &*lost.source == source => Some(lost.records),
            _ => None,
        });
        records.sum()
    }

    /// Records lost by source, for messages.
    pub fn losses(&self) -> BTreeMap<String, u64> {
        let mut losses = BTreeMap::new();
        for line in &self.lines {
            if let Event::Lost(lost) = &line.event {
                *losses.entry(lost.source.to_string()).or_default() += lost.records;
            }
        }
        losses
    }

    /// Findings as JSON, for comparison with those of a replay.
    pub fn findings_json(&self) -> Vec<&Value> {
        self.findings().into_iter().map(|(line, _)| &line.json).collect()
    }

    /// Who is alive by the events before `until_ns`: tgid → start, ns.
    pub fn alive(&self, until_ns: u64) -> BTreeMap<u32, u64> {
        let mut alive = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line.t_ns <= until_ns) {
            match &line.event {
                Event::Process(process) => {
                    alive.insert(process.tgid, process.start_ns);
                }
                Event::Exit(exit) if alive.get(&exit.tgid) == Some(&exit.start_ns) => {
                    alive.remove(&exit.tgid);
                }
                _ => {}
            }
        }
        alive
    }

    /// Checks that no line is older than the one before it.
    pub fn check_order(&self) -> Result<()> {
        for (at, pair) in self.lines.windows(2).enumerate() {
            let [(first, first_ns), (second, second_ns)] =
                [&pair[0], &pair[1]].map(|line| (&line.json["type"], line.t_ns));
            ensure!(
                first_ns <= second_ns,
                "line {} ({second}) is {} ns older than the {first} before it",
                at + 2,
                first_ns - second_ns
            );
        }
        Ok(())
    }

    /// Whether a process was ever reported as forked.
    pub fn forked(&self, tgid: u32) -> bool {
        self.processes(tgid).iter().any(|process| process.cause == ProcessCause::Fork)
    }
}
