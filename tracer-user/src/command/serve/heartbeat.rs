//! What systemd (sd_notify(3)) and /readyz hear of the service: that it is ready, that it lives, how it is.
//! Without systemd nothing is said to it.
//!
//! A thread of its own speaks: the socket of a systemd that thrashes can be full, and would hold the
//! pipeline up.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::event::{Event, FindingState, Stamped};
use crate::model::Model;
use crate::outbox::Handle;
use crate::sink::{Sink, SinkError};

/// Enough for a datagram.
const STACK_BYTES: usize = 64 << 10;
/// Time between two lines of status.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// What systemd is to hear. A newer word takes the place of an older one of its kind, so that nothing piles up
/// and nothing that is said once is lost.
#[derive(Debug, Default)]
struct Words {
    ready: bool,
    /// A reload has begun …
    reloading: bool,
    /// … and the last one is over.
    reloaded: bool,
    status: Option<String>,
    alive: bool,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Shared {
    words: Mutex<Words>,
    said: Condvar,
}

/// Speaks to systemd; may be cloned.
#[derive(Clone, Debug)]
pub struct Systemd(Arc<Shared>);

impl Systemd {
    /// Starts the thread, which goes on until the end of the process.
    pub fn connect() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("systemd".to_owned()).stack_size(STACK_BYTES);
        let heard = Arc::clone(&shared);
        thread.spawn(move || speak(&heard))?;
        Ok(Self(shared))
    }

    /// A reload is under way, or over.
    pub fn reloading(&self, under_way: bool) {
        self.say(|words| {
            words.reloading |= under_way;
            words.reloaded = !under_way;
        });
    }

    fn say(&self, change: impl FnOnce(&mut Words)) {
        change(&mut self.0.words.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.said.notify_one();
    }
}

fn speak(shared: &Shared) {
    loop {
        let words = {
            let mut words = shared.words.lock().unwrap_or_else(PoisonError::into_inner);
            while words.is_nothing() {
                words = shared.said.wait(words).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::take(&mut *words)
        };
        for states in words.states() {
            if let Err(error) = sd_notify::notify(&states) {
                tracing::debug!("systemd does not hear: {error}");
            }
        }
    }
}

impl Words {
    fn is_nothing(&self) -> bool {
        let Self { ready, reloading, reloaded, status, alive, stopping } = self;
        status.is_none()
            && ![ready, reloading, reloaded, alive, stopping].into_iter().any(|said| *said)
    }

    /// As messages, in the order in which they are to be heard.
    fn states(&self) -> Vec<Vec<NotifyState<'_>>> {
        let mut all = Vec::new();
        if self.ready {
            all.push(vec![NotifyState::Ready]);
        }
        if self.reloading {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => all.push(vec![NotifyState::Reloading, now]),
                Err(error) => tracing::debug!("systemd is not told of the reload: {error}"),
            }
        }
        all.extend(self.reloaded.then(|| vec![NotifyState::Ready]));
        all.extend(self.status.as_deref().map(|status| vec![NotifyState::Status(status)]));
        all.extend(self.alive.then(|| vec![NotifyState::Watchdog]));
        all.extend(self.stopping.then(|| vec![NotifyState::Stopping]));
        all
    }
}

/// Says that the pipeline moves: it has a pulse only while it takes events.
#[derive(Debug)]
pub struct Heartbeat {
    systemd: Systemd,
    outbox: Option<Handle>,
    ready: Rc<Cell<bool>>,
    /// Why it is never ready; empty = it will be.
    lacks: &'static str,
    is_begun: bool,
    told: Instant,
    open_findings: u64,
}

impl Heartbeat {
    /// Speaks through `systemd`. With something that it `lacks` the service runs, but is not ready.
    pub fn new(systemd: Systemd, lacks: &'static str) -> Self {
        Self {
            systemd,
            outbox: None,
            ready: Rc::default(),
            lacks,
            is_begun: false,
            told: Instant::now(),
            open_findings: 0,
        }
    }

    /// Speaks through the way out, too.
    pub fn also_through(&mut self, outbox: Handle) {
        self.outbox = Some(outbox);
    }

    /// Whether the first look at all processes is done, and nothing is lacking.
    pub fn ready(&self) -> Rc<Cell<bool>> {
        self.ready.clone()
    }

    fn status(&self, model: &Model) -> String {
        let processes = model.processes().count();
        let status = format!("processes: {processes}, open findings: {}", self.open_findings);
        if self.lacks.is_empty() { status } else { format!("{status}; {}", self.lacks) }
    }
}

impl Sink for Heartbeat {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Tick(_) if !std::mem::replace(&mut self.is_begun, true) => {
                let status = self.status(model);
                self.systemd.say(|words| {
                    words.ready = true;
                    words.status = Some(status);
                });
                self.ready.set(self.lacks.is_empty());
                if let Some(outbox) = &self.outbox {
                    outbox.ready(self.lacks.is_empty(), self.lacks);
                }
            }
            Event::Finding(finding) if finding.kind.has_end() => match finding.state {
                FindingState::Raised => self.open_findings += 1,
                FindingState::Closed => {
                    self.open_findings = self.open_findings.saturating_sub(1);
                }
                FindingState::Updated => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        let is_due = self.is_begun && self.told.elapsed() >= STATUS_EVERY;
        let status = is_due.then(|| self.status(model));
        if is_due {
            self.told = Instant::now();
        }
        self.systemd.say(|words| {
            words.alive = true;
            words.status = status.or(words.status.take());
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.systemd.say(|words| words.stopping = true);
        Ok(())
    }
}
