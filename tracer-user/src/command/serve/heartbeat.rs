//! What systemd (sd_notify(3)) and /readyz hear of the service: that it is ready, that it lives, how it is.
//! Without systemd nothing is said to it.
//!
//! A thread of its own speaks: the socket of a systemd that thrashes can be full, and would hold the
//! pipeline up. What it cannot take in time is left out, which for a watchdog is right.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use sd_notify::NotifyState;

use crate::event::{Event, FindingState, Stamped};
use crate::model::Model;
use crate::outbox::Handle;
use crate::sink::{Sink, SinkError};

/// Messages that wait at most.
const WAITING: usize = 8;
/// Enough for a datagram.
const STACK_BYTES: usize = 64 << 10;
/// Pulses, seconds, between two lines of status.
const STATUS_EVERY: u64 = 10;

/// What systemd is to hear.
#[derive(Debug)]
enum Word {
    Ready(String),
    Status(String),
    Alive,
    Reloading,
    Reloaded,
    Stopping,
}

/// Speaks to systemd; may be cloned.
#[derive(Clone, Debug)]
pub struct Systemd {
    words: SyncSender<Word>,
}

impl Systemd {
    /// Starts the thread.
    pub fn connect() -> io::Result<Self> {
        let (words, heard) = mpsc::sync_channel(WAITING);
        let thread = thread::Builder::new().name("systemd".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || speak(&heard))?;
        Ok(Self { words })
    }

    /// A reload is under way, or over.
    pub fn reloading(&self, under_way: bool) {
        self.say(if under_way { Word::Reloading } else { Word::Reloaded });
    }

    fn say(&self, word: Word) {
        if let Err(error) = self.words.try_send(word) {
            tracing::debug!("systemd does not listen: {error}");
        }
    }
}

fn speak(heard: &Receiver<Word>) {
    for word in heard {
        let sent = match &word {
            Word::Ready(status) => {
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
            }
            Word::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Word::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Word::Reloaded => sd_notify::notify(&[NotifyState::Ready]),
            Word::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        };
        if let Err(error) = sent {
            tracing::debug!("systemd does not hear: {error}");
        }
    }
}

/// Says that the pipeline moves: it has a pulse only while it takes events.
#[derive(Debug)]
pub struct Heartbeat {
    systemd: Systemd,
    outbox: Option<Handle>,
    ready: Rc<Cell<bool>>,
    pulses: u64,
    open_findings: u64,
}

impl Heartbeat {
    /// Speaks through `systemd`.
    pub fn new(systemd: Systemd) -> Self {
        Self { systemd, outbox: None, ready: Rc::default(), pulses: 0, open_findings: 0 }
    }

    /// Speaks through the way out, too.
    pub fn also_through(&mut self, outbox: Handle) {
        self.outbox = Some(outbox);
    }

    /// Whether the first look at all processes is done.
    pub fn ready(&self) -> Rc<Cell<bool>> {
        self.ready.clone()
    }

    fn status(&self, model: &Model) -> String {
        let processes = model.processes().count();
        format!("processes: {processes}, open findings: {}", self.open_findings)
    }
}

impl Sink for Heartbeat {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Tick(_) if !self.ready.replace(true) => {
                self.systemd.say(Word::Ready(self.status(model)));
                if let Some(outbox) = &self.outbox {
                    outbox.ready(true, "");
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
        self.systemd.say(Word::Alive);
        self.pulses += 1;
        if self.pulses.is_multiple_of(STATUS_EVERY) && self.ready.get() {
            self.systemd.say(Word::Status(self.status(model)));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.systemd.say(Word::Stopping);
        Ok(())
    }
}
