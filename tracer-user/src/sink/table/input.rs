//! Keys and resizes, read by a thread of its own: they go to the table, and wake the loop that
//! drives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use std::{io, thread};

use crossterm::event::{self, Event};

use crate::run::Control;

/// Stack of the reading thread: the parser of escape sequences needs little.
const STACK_BYTES: usize = 128 << 10;
/// Keys that wait for the table; more are dropped.
const WAITING: usize = 64;
/// The loop is woken at least this often, for what came after the last drawing.
const WAKE: Duration = Duration::from_millis(250);

/// The receiving end of the input.
pub(super) struct Input {
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
}

impl Input {
    /// Starts to read; `control` goes to the loop.
    pub(super) fn spawn(control: tokio::sync::mpsc::Sender<Control>) -> io::Result<Self> {
        let (sender, events) = mpsc::sync_channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("keys".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                while !stopped.load(Ordering::Relaxed) {
                    let read = match event::poll(WAKE) {
                        Ok(true) => event::read().map(Some),
                        Ok(false) => Ok(None),
                        Err(error) => Err(error),
                    };
                    match read {
                        Ok(Some(event)) => drop(sender.try_send(event)),
                        Ok(None) => {}
                        Err(_) => {
                            let _ = control.blocking_send(Control::Quit("terminal closed"));
                            return;
                        }
                    }
                    // Full: the loop is being woken already.
                    let _ = control.try_send(Control::Refresh);
                }
            },
        )?;
        Ok(Self { events, stop })
    }

    /// The next key or resize, if there is one.
    pub(super) fn next(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
