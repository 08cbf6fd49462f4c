//! `killed`: who ended a process that matters. [`sender`] tells kinds of senders apart, [`said`]
//! puts it into words. Kills of the OOM killer are left to its verdict, and what FPM's master ends
//! when it stops or reloads is no news.

mod said;
mod sender;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::account::Account;
use super::rule::{Needs, Rule};
use super::{Detector, Ledger};
use crate::event::{
    Config, Event, Exit, Finding, FindingKind, Killed, KilledBy, Oom, Party, Php, ProcessKey,
    Signal, Stamped,
};
use crate::model::{Model, Process};
use crate::sink::filter::Filter;

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// A process with less is missed by nobody who watches memory: shells, helpers and idle workers stay
/// below, databases, caches and PHP at work are above; and it is a quarter of a small container.
const LARGE_BYTES: u64 = 64 << 20;
/// Whoever exits by itself within this time of SIGTERM does so because of it: systemd waits as long
/// before it sends SIGKILL (DefaultTimeoutStopSec), ns.
const HANDLED_NS: u64 = 90_000_000_000;
/// Signals to processes that live on are remembered this long, ns …
const REMEMBERED_NS: u64 = 600_000_000_000;
/// … and at most so many: of targets, of OOM victims, of signals of FPM masters.
const MOST: usize = 4096;
/// A master that stops or reloads signals all workers at once, and is another program soon after, ns.
const STOP_NS: u64 = 2_000_000_000;
/// The `oom` event of a group kill comes when no victim followed for a while, perhaps after the exits
/// of some, ns.
const OOM_NS: u64 = 1_000_000_000;

/// Finds out who ended whom.
pub struct KilledDetector {
    filter: Filter,
    /// Signals to processes that live still.
    sent: FxHashMap<ProcessKey, SentTo>,
    /// Whom FPM's masters signalled lately.
    by_masters: VecDeque<ByMaster>,
    /// Victims of the OOM killer, and when they were told of.
    victims: FxHashMap<ProcessKey, u64>,
    /// Findings whose sender is not certain yet.
    pending: VecDeque<Pending>,
}

/// The first of each kind counts: what follows is impatience.
#[derive(Debug, Default)]
struct SentTo {
    term: Option<Sent>,
    kill: Option<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    t_ns: u64,
    by: KilledBy,
    /// None = the kernel.
    sender: Option<Party>,
}

struct ByMaster {
    t_ns: u64,
    master: ProcessKey,
    worker: ProcessKey,
}

struct Pending {
    due_ns: u64,
    target: ProcessKey,
    sent: Sent,
    finding: Finding,
}

/// How a process ended.
struct Ended {
    signal: u32,
    /// None = nobody was seen to send it.
    sent: Option<Sent>,
    /// From SIGTERM until the end.
    term_s: Option<f64>,
    peak_bytes: Option<u64>,
}

impl KilledDetector {
    /// For these settings.
    pub fn new(config: &Config) -> Self {
        Self {
            filter: Filter::of(config),
            sent: FxHashMap::default(),
            by_masters: VecDeque::new(),
            victims: FxHashMap::default(),
            pending: VecDeque::new(),
        }
    }

    fn signal(&mut self, model: &Model, signal: &Signal, t_ns: u64) {
        let target = signal.target.key();
        let by = sender::classify(model, signal);
        if by == KilledBy::FpmTimeout {
            if self.by_masters.len() >= MOST {
                self.by_masters.pop_front();
            }
            let master = signal.sender.key();
            self.by_masters.push_back(ByMaster { t_ns, master, worker: target });
        }
        if self.sent.len() >= MOST && !self.sent.contains_key(&target) {
            return;
        }
        let sender = (by != KilledBy::Kernel).then(|| signal.sender.clone());
        let sent = Sent { t_ns, by, sender };
        let to = self.sent.entry(target).or_default();
        match signal.signal {
            SIGKILL => _ = to.kill.get_or_insert(sent),
            SIGTERM if to.term.as_ref().is_none_or(|term| !term.is_handled_at(t_ns)) => {
                to.term = Some(sent);
            }
            _ => {}
        }
    }

    fn oom(&mut self, oom: &Oom, t_ns: u64) {
        for victim in &oom.victims {
            if self.victims.len() < MOST {
                self.victims.insert(victim.key(), t_ns);
            }
        }
    }

    fn exit(&mut self, model: &Model, exit: &Exit, t_ns: u64, ledger: &mut Ledger) {
        let target = exit.key();
        let sent = self.sent.remove(&target).unwrap_or_default();
        let Some(ended) = Ended::of(exit, sent, t_ns) else { return };
        let Some(process) = model.living_or_exited(&target) else { return };
        let is_watched = is_watched(process) || ledger.is_subject(&target);
        if !is_watched
            || self.victims.contains_key(&target)
            || !self.filter.matches_process(process)
            || model.config().ignores(process.pool(), FindingKind::Killed)
        {
            return;
        }
        let by = ended.sent.as_ref().map(|sent| sent.by);
        if by == Some(KilledBy::FpmTimeout) && !sender::is_timeout(process, ended.signal) {
            return;
        }
        let finding = said::finding(model, process, &ended);
        let Some(sent) = ended.sent else { return ledger.happened(finding) };
        let due_ns = match sent.by {
            KilledBy::FpmTimeout => sent.t_ns.saturating_add(STOP_NS),
            KilledBy::Kernel => t_ns.saturating_add(OOM_NS),
            _ => return ledger.happened(finding),
        };
        if self.pending.len() < MOST {
            self.pending.push_back(Pending { due_ns, target, sent, finding });
        }
    }

    /// Raises what has become certain.
    fn settle(&mut self, model: &Model, t_ns: u64, ledger: &mut Ledger) {
        for _ in 0..self.pending.len() {
            let Some(pending) = self.pending.pop_front() else { return };
            if t_ns < pending.due_ns {
                self.pending.push_back(pending);
            } else if self.is_so(model, &pending) {
                ledger.happened(pending.finding);
            }
        }
    }

    fn is_so(&self, model: &Model, pending: &Pending) -> bool {
        match &pending.sent.sender {
            Some(master) => self.goes_on(model, &master.key(), pending),
            None => !self.victims.contains_key(&pending.target),
        }
    }

    /// Whether a master ended one worker and goes on with the others. When it stops or reloads it
    /// signals all that are left, and then exits or runs itself anew.
    fn goes_on(&self, model: &Model, master: &ProcessKey, pending: &Pending) -> bool {
        let sent_ns = pending.sent.t_ns;
        let has_stayed = |process: &Process| process.first_seen_ns <= sent_ns;
        if !model.process(master).is_some_and(has_stayed) {
            return false;
        }
        let signalled: Vec<&ProcessKey> = self
            .by_masters
            .iter()
            .filter(|by| by.master == *master && by.t_ns.abs_diff(sent_ns) <= STOP_NS)
            .map(|by| &by.worker)
            .collect();
        let is_spared = |process: &Process| {
            sender::master_of(process) == Some(master.tgid)
                && has_stayed(process)
                && !signalled.contains(&&process.key)
        };
        signalled.iter().all(|worker| **worker == pending.target)
            || model.processes().any(is_spared)
    }

    fn forget(&mut self, t_ns: u64) {
        let is_recent = |since_ns: u64| t_ns.saturating_sub(since_ns) <= REMEMBERED_NS;
        self.sent.retain(|_, to| to.last_ns().is_some_and(is_recent));
        self.victims.retain(|_, told_ns| is_recent(*told_ns));
        while self.by_masters.front().is_some_and(|by| t_ns.saturating_sub(by.t_ns) > 2 * STOP_NS) {
            self.by_masters.pop_front();
        }
    }
}

impl Detector for KilledDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        let t_ns = model.now_ns();
        match &at.event {
            Event::Signal(signal) => self.signal(model, signal, t_ns),
            Event::Oom(oom) => self.oom(oom, t_ns),
            Event::Exit(exit) => self.exit(model, exit, t_ns, ledger),
            Event::Tick(_) => {
                self.settle(model, t_ns, ledger);
                self.forget(t_ns);
            }
            _ => {}
        }
    }

    fn configure(&mut self, config: &Config) {
        self.filter = Filter::of(config);
    }
}

impl SentTo {
    fn last_ns(&self) -> Option<u64> {
        self.term.iter().chain(&self.kill).map(|sent| sent.t_ns).max()
    }
}

impl Sent {
    /// Whether an exit now is because of this SIGTERM.
    fn is_handled_at(&self, t_ns: u64) -> bool {
        t_ns.saturating_sub(self.t_ns) <= HANDLED_NS
    }
}

impl Ended {
    /// None = nobody ended it: it exited by itself, or crashed.
    fn of(exit: &Exit, SentTo { term, kill }: SentTo, t_ns: u64) -> Option<Self> {
        let since_s = |sent: &Sent| t_ns.saturating_sub(sent.t_ns) as f64 / 1e9;
        let term_s = term.as_ref().map(since_s);
        let handled = term.clone().filter(|term| term.is_handled_at(t_ns));
        let (signal, sent) = match (exit.signal, exit.code) {
            (Some(SIGKILL), _) => (SIGKILL, kill),
            (Some(SIGTERM), _) => (SIGTERM, term),
            (Some(_), _) => return None,
            // Its exit was missed.
            (None, None) if kill.is_some() => (SIGKILL, kill),
            (None, _) => (SIGTERM, Some(handled?)),
        };
        Some(Self { signal, sent, term_s, peak_bytes: exit.peak_bytes })
    }

    fn by(&self) -> KilledBy {
        self.sent.as_ref().map_or(KilledBy::Unknown, |sent| sent.by)
    }
}

fn is_watched(process: &Process) -> bool {
    process.php.as_deref().is_some_and(Php::serves) || is_large(process.private_bytes()).holds()
}

fn is_large(bytes: u64) -> Rule {
    Rule::bytes("size of what was ended", bytes, Needs::AtLeast, LARGE_BYTES)
}

/// The rules of a finding that was told just now.
pub(super) fn account(killed: &Killed) -> Account {
    let late = killed.term_s.filter(|_| killed.signal == SIGTERM).map(|term_s| {
        let handled_s = HANDLED_NS as f64 / 1e9;
        Rule::seconds("from SIGTERM to an exit of its own", term_s, Needs::AtMost, handled_s)
    });
    Account {
        choices: [is_large(killed.used_bytes)].into_iter().chain(late).collect(),
        therefore: Some(
            "what is smaller counts when it serves PHP, or an open finding is about it; what dies of \
             SIGTERM does so however late"
                .to_owned(),
        ),
        ..Account::default()
    }
}
