//! `rampage replay --explain`: what each finding rests on. The trace is read twice: first for what is
//! said and when, then to note sizes at times that are known by then. So what is kept is a few points
//! for each thing that is said, however long the trace.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::account::Explained;
use crate::detect;
use crate::event::{
    Event, Evidence, Finding, FindingState, MemoryKind, ProcessKey, ScopeKind, Stamped,
};
use crate::model::{Model, Scope};
use crate::sink::{Sink, SinkError};

/// Points of a series …
const POINTS: u64 = 12;
/// … of which so many are before the growth.
const POINTS_BEFORE: u64 = 4;
/// A series begins so long before the growth, ns.
const BEFORE_NS: u64 = 10_000_000_000;
/// Where no growth is blamed, it begins so long before the finding, ns.
const WINDOW_NS: u64 = 60_000_000_000;
/// So many things that are said are explained; what comes later is only counted.
const MOST: usize = 1_000;

/// One thing that is said, and what is to be noted on the way to it.
pub(super) struct Wanted {
    /// Trace within the file, from 1: each header begins one, and its ids.
    run: u32,
    from_ns: u64,
    /// When the growth began; where none is blamed, where the first points end.
    onset_ns: u64,
    until_ns: u64,
    process: Option<(ProcessKey, MemoryKind)>,
    /// Path of the limit; None = the host; outer None = no limit.
    limit: Option<Option<std::sync::Arc<str>>>,
    noted: u64,
    points: Vec<Point>,
}

/// Sizes at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub t_ns: u64,
    /// Of the process; None = it is not known then.
    pub size: Option<Size>,
    /// Used of the limit and left of it, bytes; None = not known.
    pub limit: Option<(u64, u64)>,
}

/// Size of a process, and its growth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub bytes: u64,
    pub rate_bytes_per_s: f64,
}

impl Wanted {
    fn new(run: u32, t_ns: u64, finding: &Finding) -> Self {
        let subject = || finding.subject.as_ref().map(|subject| subject.key());
        let (process, limit, onset_ns) = match &finding.evidence {
            Evidence::Runaway(told) => {
                let is_own = told.limit.kind == ScopeKind::Php;
                let limit = (!is_own).then(|| told.limit.path.clone());
                (subject().map(|key| (key, told.memory)), limit, Some(told.onset_ns))
            }
            Evidence::OomVerdict(told) => {
                let limit = match told.limit.kind {
                    ScopeKind::Memcg => told.limit.cgroup.clone().map(Some),
                    ScopeKind::Host => Some(None),
                    ScopeKind::Cpuset | ScopeKind::Php | ScopeKind::Unknown => None,
                };
                (subject().map(|key| (key, MemoryKind::Private)), limit, None)
            }
            Evidence::Pool(told) => {
                let largest = told.largest.first();
                let key = largest
                    .map(|worker| ProcessKey { tgid: worker.tgid, start_ns: worker.start_ns });
                let limit = Some(told.limit.path.clone());
                (key.map(|key| (key, MemoryKind::Private)), limit, None)
            }
            Evidence::Pressure(told) => (
                subject().map(|key| (key, MemoryKind::Private)),
                Some(told.limit.path.clone()),
                None,
            ),
            Evidence::Leak(told) => {
                let since_ns = t_ns.saturating_sub((told.watched_s * 1e9) as u64);
                let limit = Some(told.limit.path.clone());
                (subject().map(|key| (key, MemoryKind::Private)), limit, Some(since_ns))
            }
            Evidence::Killed(_) => (subject().map(|key| (key, MemoryKind::Private)), None, None),
            Evidence::Cascade(told) => (None, told.limit.cgroup.clone().map(Some), None),
        };
        let (from_ns, onset_ns) = match onset_ns.map(|onset_ns| onset_ns.min(t_ns)) {
            Some(onset_ns) => (onset_ns.saturating_sub(BEFORE_NS), onset_ns),
            None => {
                let from_ns = t_ns.saturating_sub(WINDOW_NS);
                (from_ns, from_ns + (t_ns - from_ns) / POINTS * POINTS_BEFORE)
            }
        };
        let until_ns = t_ns;
        Self { run, from_ns, onset_ns, until_ns, process, limit, noted: 0, points: Vec::new() }
    }

    /// Notes what holds now, if a point is due. Returns when the next one is.
    fn note(&mut self, model: &Model) -> u64 {
        let now_ns = model.now_ns();
        if now_ns > self.until_ns {
            return u64::MAX;
        }
        if self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            // Points that fell into a silence are one.
            while self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
                self.noted += 1;
            }
            self.points.push(self.point(model));
        }
        self.due_ns().unwrap_or(u64::MAX)
    }

    /// When the next point is due; None = all are noted.
    fn due_ns(&self) -> Option<u64> {
        let part = |span_ns: u64, at: u64, of: u64| span_ns / of * at;
        let after = self.noted.checked_sub(POINTS_BEFORE);
        let due_ns = match after {
            _ if self.noted >= POINTS => return None,
            None => self.from_ns + part(self.onset_ns - self.from_ns, self.noted, POINTS_BEFORE),
            Some(after) => {
                let of = POINTS - POINTS_BEFORE - 1;
                self.onset_ns + part(self.until_ns - self.onset_ns, after, of)
            }
        };
        Some(due_ns)
    }

    fn point(&self, model: &Model) -> Point {
        let now_ns = model.now_ns();
        let process =
            self.process.and_then(|(key, kind)| Some((model.living_or_exited(&key)?, kind)));
        let size = process.map(|(process, kind)| {
            let rise = process.rises().find(|rise| rise.memory == kind);
            let rate_bytes_per_s = rise.map_or(0.0, |rise| rise.rate_at(now_ns));
            let bytes = match kind {
                MemoryKind::Private => process.private_bytes(),
                MemoryKind::Shared => process.memory.shmem_bytes,
            };
            Size { bytes, rate_bytes_per_s }
        });
        let told = |scope: Scope<'_>| (scope.consumed_bytes(), scope.headroom_bytes);
        let limit = self.limit.as_ref().and_then(|path| model.limit(path.as_deref())).map(told);
        Point { t_ns: now_ns, size, limit }
    }
}

/// First pass: what is said.
pub(super) struct Survey {
    id: Option<u64>,
    run: u32,
    wanted: VecDeque<Wanted>,
    left_out: u64,
}

impl Survey {
    /// Of one finding, or of all.
    pub fn new(id: Option<u64>) -> Self {
        Self { id, run: 0, wanted: VecDeque::new(), left_out: 0 }
    }
}

impl Sink for Survey {
    fn event(&mut self, _model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Header(_) => self.run += 1,
            Event::Finding(finding) if is_asked(self.id, finding) => {
                if self.wanted.len() < MOST {
                    self.wanted.push_back(Wanted::new(self.run, at.t_ns, finding));
                } else {
                    self.left_out += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Second pass: notes points, and tells each finding when its time comes.
pub(super) struct Explain<W: Write> {
    survey: Survey,
    output: W,
    json: bool,
    run: u32,
    /// No point is due before, ns.
    due_ns: u64,
    told: u64,
}

impl<W: Write> Explain<W> {
    /// Of what the first pass found.
    pub fn new(survey: Survey, output: W, json: bool) -> Self {
        Self { survey, output, json, run: 0, due_ns: 0, told: 0 }
    }

    /// How many were explained, and how many were not because there are too many.
    pub fn told(&self) -> (u64, u64) {
        (self.told, self.survey.left_out)
    }

    fn tell(&mut self, model: &Model, at: &Stamped, finding: &Finding) -> Result<(), SinkError> {
        let Some(mut wanted) = self.survey.wanted.pop_front() else { return Ok(()) };
        // The last point is the finding itself.
        if wanted.points.last().is_some_and(|last| last.t_ns >= model.now_ns()) {
            wanted.points.pop();
        }
        wanted.points.push(wanted.point(model));
        let explained = Explained {
            at,
            finding,
            points: &wanted.points,
            account: detect::account(model, at.t_ns, finding),
        };
        let text = if self.json { explained.json() } else { explained.text() };
        self.told += 1;
        self.output
            .write_all(text.as_bytes())
            .and_then(|()| self.output.flush())
            .map_err(|error: io::Error| SinkError::writing("standard output", error))
    }
}

impl<W: Write> Sink for Explain<W> {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Header(_) => {
                self.run += 1;
                self.due_ns = 0;
            }
            Event::Finding(finding) if is_asked(self.survey.id, finding) => {
                return self.tell(model, at, finding);
            }
            _ => {}
        }
        if model.now_ns() >= self.due_ns {
            let run = self.run;
            let open = self.survey.wanted.iter_mut().filter(|wanted| wanted.run == run);
            self.due_ns = open.fold(u64::MAX, |due_ns, wanted| due_ns.min(wanted.note(model)));
        }
        Ok(())
    }
}

fn is_asked(id: Option<u64>, finding: &Finding) -> bool {
    finding.state != FindingState::Closed && id.is_none_or(|id| id == finding.id)
}
