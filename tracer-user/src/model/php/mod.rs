//! What looks into a PHP process told, and what follows from one look to the next: which request
//! grew, in which code, and whether the floor of the worker rises.

mod floors;
mod requests;
mod spots;
mod template;

use std::sync::Arc;

use floors::Floors;
pub use floors::Leak;
pub(super) use requests::Requests;
pub use requests::{RequestGrowth, RequestKind};
use spots::Spots;

use super::intern::Interner;
use crate::event::look::{Activity, Frame, Look, Memory, Missing, Request};
use crate::event::{PhpGrowth, ProcessKey, RequestEdge, RequestPhase, Spot};

/// Starts of requests that differ by less are the same: a look is dated when it is taken in, ns.
const SAME_START_NS: u64 = 100_000_000;
/// Frames of a stack that are kept.
const FRAMES: usize = 64;

/// What is known of a PHP process from inside.
#[derive(Clone, Debug, Default)]
pub struct Insight {
    /// What it did at the last look.
    pub activity: Activity,
    /// When that was, CLOCK_BOOTTIME ns.
    pub looked_ns: u64,
    /// Its stack then, innermost frame first; empty = not read.
    pub stack: Vec<Frame>,
    /// What could not be read then.
    pub missing: Vec<Missing>,
    memory: Option<MemoryAt>,
    /// Anon + swap at the last look.
    looked_bytes: u64,
    /// Anon + swap at the last sample of its growth; None = it was not sampled yet.
    sampled_bytes: Option<u64>,
    requests: Option<u64>,
    current: Option<Current>,
    floors: Floors,
}

/// The memory manager's figures, and the anon + swap that belongs to them.
#[derive(Clone, Copy, Debug)]
struct MemoryAt {
    memory: Memory,
    private_bytes: u64,
}

/// The request that a process is in.
#[derive(Clone, Debug)]
struct Current {
    request: Request,
    kind: Arc<RequestKind>,
    started_ns: u64,
    grown_bytes: u64,
    spots: Spots,
}

/// How far a process is from its memory_limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit in force.
    pub limit_bytes: u64,
    /// What is left of it: the manager's figures at the last look, carried on by growth since.
    pub headroom_bytes: u64,
}

impl Insight {
    /// The request or script that it was in at the last look.
    pub fn request(&self) -> Option<&Request> {
        self.current.as_ref().map(|current| &current.request)
    }

    /// The kind of that request.
    pub fn kind(&self) -> Option<&RequestKind> {
        self.current.as_ref().map(|current| &*current.kind)
    }

    /// Growth of anon + swap since that request was first seen, bytes.
    pub fn grown_in_request_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.grown_bytes)
    }

    /// Growth of that request by PHP function, largest first, as far as it was sampled.
    pub fn spots(&self) -> Vec<Spot> {
        self.current.as_ref().map_or_else(Vec::new, |current| current.spots.functions())
    }

    /// Samples of the growth of that request.
    pub fn samples(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.spots.samples())
    }

    /// PHP's memory manager at the last look that could read it.
    pub fn memory(&self) -> Option<Memory> {
        self.memory.map(|at| at.memory)
    }

    /// Requests that the worker has had.
    pub fn requests(&self) -> Option<u64> {
        self.requests
    }

    /// A floor that rises from request to request.
    pub fn leak(&self) -> Option<Leak> {
        self.floors.leak()
    }

    /// Its memory_limit when the process has `private_bytes` now; None = not known, or none.
    pub(super) fn memory_limit(&self, private_bytes: u64) -> Option<MemoryLimit> {
        let at = self.memory?;
        let limit_bytes = at.memory.limit_bytes?;
        let grown = private_bytes.saturating_sub(at.private_bytes);
        let used = at.memory.real_bytes.saturating_add(grown);
        Some(MemoryLimit { limit_bytes, headroom_bytes: limit_bytes.saturating_sub(used) })
    }

    /// The process has `bytes` now.
    pub(super) fn grown(&mut self, bytes: u64) {
        self.floors.see(bytes);
    }

    /// The process ended with `bytes`: what it grew since the last look belongs to what it did
    /// then.
    pub(super) fn ended(&mut self, key: ProcessKey, t_ns: u64, bytes: u64, all: &mut Requests) {
        let grown = bytes.saturating_sub(self.looked_bytes);
        if self.current.is_some() {
            self.give(key, t_ns, grown, all);
        } else {
            all.unattributed(grown);
        }
    }

    /// Takes in a look at a process that has `bytes` of anon + swap.
    pub(super) fn take(
        &mut self,
        t_ns: u64,
        look: &Look,
        bytes: u64,
        names: &mut Interner,
        all: &mut Requests,
    ) {
        let key = look.key();
        let is_first = self.looked_ns == 0;
        let grown = if is_first { 0 } else { bytes.saturating_sub(self.looked_bytes) };
        let since_ns = t_ns.saturating_sub(self.looked_ns);
        let was_idle = self.activity == Activity::Idle;
        let stack: Vec<Frame> =
            look.stack.iter().take(FRAMES).map(|frame| intern_frame(frame, names)).collect();
        match (look.activity, &look.request) {
            (Activity::Request | Activity::Finishing, Some(request)) => {
                let started_ns = t_ns.saturating_sub(request.elapsed_ns.unwrap_or(since_ns));
                if self.is_same(look, request, started_ns) {
                    if let Some(current) = &mut self.current {
                        current.request.elapsed_ns = request.elapsed_ns;
                    }
                    self.give(key, t_ns, grown, all);
                } else {
                    // What was grown before it began is another one's, which was missed.
                    let is_all_its_own = was_idle || started_ns <= self.looked_ns;
                    self.current = Some(Current::new(request, look, started_ns, names));
                    if is_all_its_own {
                        self.give(key, t_ns, grown, all);
                    } else {
                        all.unattributed(grown);
                    }
                }
            }
            (Activity::Idle, _) => {
                let is_after = self.requests == look.requests;
                if is_after && self.current.is_some() {
                    self.give(key, t_ns, grown, all);
                } else {
                    all.unattributed(grown);
                }
                self.current = None;
            }
            // Not read: it may still be the same request.
            _ => all.unattributed(grown),
        }
        if let Some(number) = look.requests {
            self.floors.note(number, bytes);
        }
        if let Some(memory) = look.memory {
            self.memory = Some(MemoryAt { memory, private_bytes: bytes });
        }
        self.stack = stack;
        self.activity = look.activity;
        self.missing.clone_from(&look.missing);
        self.requests = look.requests;
        self.looked_bytes = bytes;
        self.looked_ns = t_ns;
    }

    fn is_same(&self, look: &Look, request: &Request, started_ns: u64) -> bool {
        let Some(current) = &self.current else { return false };
        let same_text = current.request.uri == request.uri
            && current.request.method == request.method
            && current.request.script == request.script;
        same_text
            && match (self.requests, look.requests) {
                (Some(before), Some(now)) => before == now,
                _ => current.started_ns.abs_diff(started_ns) < SAME_START_NS,
            }
    }

    /// The kernel saw it grow in this code.
    pub(super) fn sampled(&mut self, grown: &PhpGrowth, names: &mut Interner) {
        let bytes = grown.private_bytes;
        let before = self.sampled_bytes.replace(bytes);
        if let (Some(before), Some(current)) = (before, &mut self.current) {
            let frame = grown.stack.iter().find(|frame| frame.file.is_some());
            let frame = frame.map(|frame| intern_frame(frame, names));
            current.spots.add(frame.as_ref(), bytes.saturating_sub(before));
        }
    }

    /// A request begins or has ended.
    pub(super) fn edge(&mut self, t_ns: u64, edge: &RequestEdge, all: &mut Requests) {
        let bytes = edge.anon_bytes.saturating_add(edge.swap_bytes);
        let grown = bytes.saturating_sub(self.looked_bytes);
        match edge.phase {
            RequestPhase::End if self.current.is_some() => self.give(edge.key(), t_ns, grown, all),
            // What was grown before it began is another one's.
            RequestPhase::Begin | RequestPhase::End => all.unattributed(grown),
        }
        self.current = None;
        self.activity = Activity::Idle;
        self.looked_bytes = bytes;
    }

    /// Gives growth to the present request.
    fn give(&mut self, key: ProcessKey, t_ns: u64, bytes: u64, all: &mut Requests) {
        let Some(current) = &mut self.current else { return };
        if bytes == 0 {
            return;
        }
        current.grown_bytes = current.grown_bytes.saturating_add(bytes);
        all.grow(&current.kind, key, bytes, current.grown_bytes, t_ns);
    }
}

impl Current {
    fn new(request: &Request, look: &Look, started_ns: u64, names: &mut Interner) -> Self {
        let empty: Arc<str> = Arc::from("");
        let mut name = |text: &Option<Arc<str>>| {
            text.as_ref().map_or_else(|| Arc::clone(&empty), |text| names.get(text))
        };
        let template: Option<Arc<str>> = request.uri.as_ref().map(|uri| template::fold(uri).into());
        let kind = RequestKind {
            method: name(&request.method),
            template: name(&template),
            script: name(&request.script),
            pool: name(&look.pool),
        };
        Self {
            request: request.clone(),
            kind: Arc::new(kind),
            started_ns,
            grown_bytes: 0,
            spots: Spots::default(),
        }
    }
}

fn intern_frame(frame: &Frame, names: &mut Interner) -> Frame {
    let mut name = |text: &Option<Arc<str>>| text.as_ref().map(|text| names.get(text));
    Frame {
        class: name(&frame.class),
        function: name(&frame.function),
        file: name(&frame.file),
        line: frame.line,
    }
}

#[cfg(test)]
mod tests;
