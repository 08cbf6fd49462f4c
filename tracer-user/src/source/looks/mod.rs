//! Which PHP processes are looked into, and when: each once when it is first seen, each that grew
//! by a step, at each tick those that moved, and several times a second those that have grown much,
//! as far as the budget goes. The looks are taken by [`threads`]; what they find becomes a `php`
//! event. Used by every source that traces this host. Where the kernel can sample the growth of
//! suspects, their stacks are named here too, and become `php_growth` events.

mod budget;
#[cfg(test)]
mod tests;
mod threads;

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use tracer_ebpf::{PHP_SUSPECTS, PhpStackRecord};

use self::budget::Budget;
use self::threads::{Ask, Told};
use crate::enrich::clock;
use crate::enrich::worker::Worker;
use crate::event::look::{Activity, Reason};
use crate::event::{Event, Growth, Php, Process, ProcessKey, Stamped};
use crate::kernel::load::Order;
use crate::php::Disclosure;

/// A process that moved by this since it was looked into is looked into again, bytes …
const STEP_BYTES: u64 = 4 << 20;
/// … but not sooner than after this, ns.
const NEAR_NS: u64 = 50_000_000;
/// A process that moved by less is looked into at a tick, but not sooner than after this, ns.
const CALM_NS: u64 = 900_000_000;
/// A process that grew by this in its present request is a suspect, bytes …
const SUSPECT_BYTES: u64 = 12 << 20;
/// … until it stands still for this long, ns …
const STILL_NS: u64 = 2_000_000_000;
/// … and is looked into this often, so that its growth can be told by function.
const SUSPECT_EVERY: Duration = Duration::from_millis(100);
/// Looks a second, all processes together, at those that are new or under suspicion: at 0.1 to 0.4 ms
/// each, about a hundredth of a core …
const LOOKS_PER_S: u64 = 40;
/// … and at those that go about their work.
const CALM_LOOKS_PER_S: u64 = 10;
/// Stacks that are named in a second, all suspects together; the rest is counted as lost.
const STACKS_PER_S: u64 = 200;
/// Frames of a stack that are kept, the innermost ones.
const FRAMES: usize = 32;

/// Looks into PHP processes as they grow.
#[derive(Debug)]
pub struct Looks {
    worker: Worker<Told, Ask>,
    subjects: FxHashMap<ProcessKey, Subject>,
    budget: Budget,
    calm: Budget,
    stacks: Budget,
    /// Whom the kernel samples.
    sampled: FxHashMap<ProcessKey, u64>,
    orders: Vec<Order>,
    /// Stacks that were not named, and suspects that are not sampled, since the start.
    unnamed: u64,
    unsampled: u64,
    /// When the suspects are looked into next; None = there are none.
    suspects_at: Option<Instant>,
}

/// A process that serves requests or runs a script.
#[derive(Debug)]
struct Subject {
    pool: Option<Arc<str>>,
    /// Anon + swap now, and when it was last looked into.
    bytes: u64,
    looked_bytes: u64,
    /// When it was last looked into; None = never.
    looked_ns: Option<u64>,
    /// A look is under way.
    asked: bool,
    /// It was reported since.
    moved: bool,
    /// The least that it had in its present request.
    least_bytes: u64,
    /// When it last grew; 0 = never.
    grew_ns: u64,
}

impl Looks {
    /// Starts the threads. `show`: what of a request may be shown.
    pub fn start(show: Disclosure) -> io::Result<Self> {
        Ok(Self::with(threads::start(show)?))
    }

    fn with(worker: Worker<Told, Ask>) -> Self {
        Self {
            worker,
            subjects: FxHashMap::default(),
            budget: Budget::of(LOOKS_PER_S),
            calm: Budget::of(CALM_LOOKS_PER_S),
            stacks: Budget::of(STACKS_PER_S),
            sampled: FxHashMap::default(),
            orders: Vec::new(),
            unnamed: 0,
            unsampled: 0,
            suspects_at: None,
        }
    }

    /// Is notified when there are looks to take.
    pub fn ready(&self) -> &Arc<Notify> {
        self.worker.ready()
    }

    /// Waits until the suspects are to be looked into; for ever when there are none.
    pub fn suspects(&self) -> impl Future<Output = ()> + use<> {
        let at = self.suspects_at;
        async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    /// Looks into the suspects, and says when to come again.
    pub fn look_into_suspects(&mut self, now_ns: u64) {
        let mut keys: Vec<(Option<u64>, ProcessKey)> = self
            .subjects
            .iter()
            .filter(|(_, subject)| subject.is_suspect(now_ns))
            .map(|(key, subject)| (subject.looked_ns, *key))
            .collect();
        self.suspects_at = (!keys.is_empty()).then(|| Instant::now() + SUSPECT_EVERY);
        keys.sort_unstable();
        for (_, key) in keys {
            if let Some(subject) = self.subjects.get_mut(&key) {
                Self::ask(&self.worker, &mut self.budget, key, subject, now_ns);
            }
        }
    }

    /// Sees the events of the source, in order, and asks for the looks that they call for.
    pub fn observe(&mut self, events: &[Stamped]) {
        for at in events {
            match &at.event {
                Event::Growth(growth) => self.grown(at.t_ns, growth),
                Event::Process(process) => self.introduced(at.t_ns, process),
                Event::Exit(exit) => {
                    let key = exit.key();
                    self.subjects.remove(&key);
                    self.stop(&key);
                }
                Event::Tick(_) => self.tick(at.t_ns),
                _ => {}
            }
        }
    }

    /// The next that was found, and when it was so; None for the time = now. A look that found only
    /// that the process is gone is none.
    pub fn try_next(&mut self) -> Option<(Option<u64>, Event)> {
        while let Some(told) = self.worker.try_next() {
            let (mut look, current_at) = match told {
                Told::Grown(t_ns, grown) => return Some((Some(t_ns), Event::PhpGrowth(grown))),
                Told::Look(look, current_at) => (look, current_at),
            };
            let key = look.key();
            let Some(subject) = self.subjects.get_mut(&key) else { continue };
            subject.asked = false;
            if look.activity == Activity::Idle {
                subject.least_bytes = subject.bytes;
            }
            if look.lacks(&Reason::Gone) || look.lacks(&Reason::Replaced) {
                continue;
            }
            look.pool.clone_from(&subject.pool);
            look.stack_cut |= look.stack.len() > FRAMES;
            look.stack.truncate(FRAMES);
            let is_suspect = subject.is_suspect(clock::boot_ns());
            match current_at.filter(|_| is_suspect) {
                Some(current_at) => self.sample(key, current_at),
                None => self.stop(&key),
            }
            return Some((None, Event::Php(look)));
        }
        None
    }

    /// Names a stack that the kernel saw.
    pub fn name(&mut self, record: &PhpStackRecord) {
        let asked =
            self.stacks.take(record.head.t_ns) && self.worker.request(Ask::Name(Box::new(*record)));
        self.unnamed += u64::from(!asked);
    }

    /// What the kernel is to be told, in this order.
    pub fn orders(&mut self) -> impl Iterator<Item = Order> {
        self.orders.drain(..)
    }

    /// Stacks that were not named, and suspects that the kernel does not sample, since the start.
    pub fn losses(&self) -> [u64; 2] {
        [self.unnamed, self.unsampled]
    }

    fn sample(&mut self, key: ProcessKey, current_at: u64) {
        if self.sampled.get(&key) == Some(&current_at) {
            return;
        }
        if self.sampled.len() >= PHP_SUSPECTS as usize {
            self.unsampled += 1;
            return;
        }
        self.sampled.insert(key, current_at);
        self.orders.push(Order::Sample { tgid: key.tgid, current_at });
    }

    fn stop(&mut self, key: &ProcessKey) {
        if self.sampled.remove(key).is_some() {
            self.orders.push(Order::Stop { tgid: key.tgid });
        }
    }

    fn introduced(&mut self, t_ns: u64, process: &Process) {
        let key = process.key();
        if !process.php.as_ref().is_some_and(Php::serves) {
            self.subjects.remove(&key);
            self.stop(&key);
            return;
        }
        let subject = self.subjects.entry(key).or_insert_with(Subject::new);
        subject.pool = process.php.as_ref().and_then(|php| php.pool.clone());
        if subject.looked_ns.is_none() {
            Self::ask(&self.worker, &mut self.budget, key, subject, t_ns);
        }
    }

    fn grown(&mut self, t_ns: u64, growth: &Growth) {
        let key = growth.key();
        let Some(subject) = self.subjects.get_mut(&key) else { return };
        let before = std::mem::replace(&mut subject.bytes, growth.private_bytes());
        subject.moved = true;
        subject.least_bytes = subject.least_bytes.min(subject.bytes);
        if subject.bytes > before {
            subject.grew_ns = t_ns;
        }
        if self.suspects_at.is_none() && subject.is_suspect(t_ns) {
            self.suspects_at = Some(Instant::now() + SUSPECT_EVERY);
        }
        let is_due = subject.bytes.abs_diff(subject.looked_bytes) >= STEP_BYTES
            && subject.looked_ns.is_none_or(|looked| t_ns.saturating_sub(looked) >= NEAR_NS);
        if is_due {
            let budget = subject.budget(&mut self.budget, &mut self.calm, t_ns);
            Self::ask(&self.worker, budget, key, subject, t_ns);
        }
    }

    /// Those that moved since they were looked into, the longest ago first.
    fn tick(&mut self, t_ns: u64) {
        let is_due = |subject: &Subject| match subject.looked_ns {
            Some(looked_ns) => subject.moved && t_ns.saturating_sub(looked_ns) >= CALM_NS,
            None => true,
        };
        let mut due: Vec<(Option<u64>, ProcessKey)> = self
            .subjects
            .iter()
            .filter(|(_, subject)| !subject.asked && is_due(subject))
            .map(|(key, subject)| (subject.looked_ns, *key))
            .collect();
        due.sort_unstable();
        for (_, key) in due {
            let Some(subject) = self.subjects.get_mut(&key) else { continue };
            let budget = subject.budget(&mut self.budget, &mut self.calm, t_ns);
            Self::ask(&self.worker, budget, key, subject, t_ns);
        }
    }

    /// Asks for a look, unless there is no room for it now.
    fn ask(
        worker: &Worker<Told, Ask>,
        budget: &mut Budget,
        key: ProcessKey,
        subject: &mut Subject,
        t_ns: u64,
    ) {
        if subject.asked || !budget.take(t_ns) || !worker.request(Ask::Look(key)) {
            return;
        }
        subject.asked = true;
        subject.moved = false;
        subject.looked_ns = Some(t_ns);
        subject.looked_bytes = subject.bytes;
    }
}

impl Subject {
    fn new() -> Self {
        Self {
            pool: None,
            bytes: 0,
            looked_bytes: 0,
            looked_ns: None,
            asked: false,
            moved: false,
            least_bytes: u64::MAX,
            grew_ns: 0,
        }
    }

    /// What a look at it is paid from.
    fn budget<'a>(
        &self,
        urgent: &'a mut Budget,
        calm: &'a mut Budget,
        now_ns: u64,
    ) -> &'a mut Budget {
        if self.looked_ns.is_none() || self.is_suspect(now_ns) { urgent } else { calm }
    }

    fn is_suspect(&self, now_ns: u64) -> bool {
        self.bytes.saturating_sub(self.least_bytes) >= SUSPECT_BYTES
            && now_ns.saturating_sub(self.grew_ns) < STILL_NS
    }
}
