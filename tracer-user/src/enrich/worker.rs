//! Reads identities off the pipeline. The command line of a process that is swapped out, or that
//! holds its mmap_lock, can take seconds to read: one thread with a small stack waits for it.
//! Both queues are bounded; what did not fit in is counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::Notify;

use super::process::{self, Identity};
use crate::event::ProcessKey;

/// Requests, and results, that may wait.
const QUEUE: usize = 1024;

/// Stack of the thread; reading one process takes under 16 KiB of it.
const STACK_BYTES: usize = 128 << 10;

/// Hands processes to a thread and gets back who they are.
#[derive(Debug)]
pub struct Enricher {
    requests: SyncSender<ProcessKey>,
    results: Receiver<Identity>,
    ready: Arc<Notify>,
    stop: Arc<AtomicBool>,
    dropped: AtomicU64,
}

impl Enricher {
    /// Starts the thread. It ends by itself after the enricher is dropped, as soon as the read
    /// that it is in returns; nobody waits for it.
    pub fn start() -> io::Result<Self> {
        Self::with_reader(process::read)
    }

    fn with_reader(
        mut read: impl FnMut(u32) -> io::Result<Identity> + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, wanted) = sync_channel::<ProcessKey>(QUEUE);
        let (found, results) = sync_channel(QUEUE);
        let (ready, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (wake, stopped) = (Arc::clone(&ready), Arc::clone(&stop));
        thread::Builder::new().name("enrich".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                for key in wanted {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(identity) = read(key.tgid) else { continue };
                    if identity.key != key {
                        continue;
                    }
                    if found.send(identity).is_err() {
                        return;
                    }
                    wake.notify_one();
                }
            },
        )?;
        Ok(Self { requests, results, ready, stop, dropped: AtomicU64::new(0) })
    }

    /// Asks for a process. False = the queue is full: ask again later.
    pub fn request(&self, key: ProcessKey) -> bool {
        let taken = self.requests.try_send(key).is_ok();
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The next result, in the order of the requests. A process that ended, or whose tgid was
    /// reused, gives none.
    pub fn try_next(&mut self) -> Option<Identity> {
        self.results.try_recv().ok()
    }

    /// Is notified when there are results. Several results may come with one notification: take
    /// all of them.
    pub fn ready(&self) -> &Arc<Notify> {
        &self.ready
    }

    /// Requests that did not fit into the queue, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Enricher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    fn wait(enricher: &mut Enricher) -> Identity {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            loop {
                if let Some(identity) = enricher.try_next() {
                    return identity;
                }
                let ready = Arc::clone(enricher.ready());
                tokio::time::timeout(Duration::from_secs(10), ready.notified()).await.unwrap();
            }
        })
    }

    #[test]
    fn finds_this_process_and_not_a_reused_tgid() {
        let own = process::read(std::process::id()).unwrap();
        let mut enricher = Enricher::start().unwrap();
        let other = ProcessKey { start_ns: own.key.start_ns + 10_000_000, ..own.key };
        assert!(enricher.request(other));
        assert!(enricher.request(ProcessKey { tgid: u32::MAX, start_ns: 0 }));
        assert!(enricher.request(own.key));
        assert_eq!(wait(&mut enricher), own);
        assert_eq!(enricher.try_next(), None);
        assert_eq!(enricher.dropped(), 0);
    }

    #[test]
    fn a_blocked_read_fills_the_queue_and_holds_up_nobody() {
        let (started, entered) = channel();
        let (release, blocked) = channel::<()>();
        let mut calls = 0;
        let enricher = Enricher::with_reader(move |_| {
            calls += 1;
            let _ = started.send(calls);
            let _ = blocked.recv();
            Err(io::ErrorKind::NotFound.into())
        })
        .unwrap();
        let key = ProcessKey { tgid: 1, start_ns: 0 };
        assert!(enricher.request(key));
        assert_eq!(entered.recv_timeout(Duration::from_secs(10)), Ok(1));
        let taken = (0..QUEUE + 100).filter(|_| enricher.request(key)).count();
        assert_eq!((taken, enricher.dropped()), (QUEUE, 100));
        drop(enricher);
        drop(release);
        // The thread drops its reader when it ends, and with it the sender.
        let end = entered.recv_timeout(Duration::from_secs(10));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    }
}
