//! Reads off the pipeline what can block. The command line of a process that is swapped out, or
//! that holds its mmap_lock, can take seconds to read: threads with small stacks wait for it.
//! Both queues are bounded; what did not fit in is counted.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::Notify;

use super::process::{self, Identity};
use crate::event::ProcessKey;
use crate::php::who;

/// Requests, and results, that may wait.
const QUEUE: usize = 1024;

/// Stack of a thread; reading one process takes under 64 KiB of it.
const STACK_BYTES: usize = 256 << 10;

/// Hands requests (as a rule processes) to threads and gets back what they read.
#[derive(Debug)]
pub struct Worker<T, Q = ProcessKey> {
    requests: SyncSender<Q>,
    results: Receiver<T>,
    ready: Arc<Notify>,
    stop: Arc<AtomicBool>,
    dropped: AtomicU64,
}

impl Worker<Identity> {
    /// Reads who processes are, one at a time. A process that ended, or whose tgid was reused,
    /// gives no result.
    pub fn identities() -> io::Result<Self> {
        let read = |key: ProcessKey| {
            let mut identity = process::read(key.tgid).ok().filter(|found| found.key == key)?;
            if identity.php.is_none()
                && let Some(exe) = &identity.exe
            {
                identity.php = who::loaded(key.tgid, exe);
            }
            Some(identity)
        };
        Self::start("enrich", [read])
    }
}

impl<T: Send + 'static, Q: Send + 'static> Worker<T, Q> {
    /// Starts a thread for each reader. Each ends by itself after the worker is dropped, as soon
    /// as the read that it is in returns; nobody waits for it.
    pub fn start<R>(name: &str, readers: impl IntoIterator<Item = R>) -> io::Result<Self>
    where
        R: FnMut(Q) -> Option<T> + Send + 'static,
    {
        let (requests, wanted) = sync_channel::<Q>(QUEUE);
        let wanted = Arc::new(Mutex::new(wanted));
        let (found, results) = sync_channel(QUEUE);
        let (ready, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        for mut read in readers {
            let (wanted, found) = (Arc::clone(&wanted), found.clone());
            let (wake, stopped) = (Arc::clone(&ready), Arc::clone(&stop));
            let run = move || {
                while let Ok(request) = next(&wanted)
                    && !stopped.load(Ordering::Relaxed)
                {
                    let Some(result) = read(request) else { continue };
                    if found.send(result).is_err() {
                        return;
                    }
                    wake.notify_one();
                }
            };
            thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)?;
        }
        Ok(Self { requests, results, ready, stop, dropped: AtomicU64::new(0) })
    }

    /// Asks. False = the queue is full: ask again later.
    pub fn request(&self, request: Q) -> bool {
        let taken = self.requests.try_send(request).is_ok();
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The next result; of one reader, in the order of the requests.
    pub fn try_next(&mut self) -> Option<T> {
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

impl<T, Q> Drop for Worker<T, Q> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The next request. One idle thread waits for it, the others wait for that one.
fn next<Q>(wanted: &Mutex<Receiver<Q>>) -> Result<Q, RecvError> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner).recv()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    fn wait<T: Send + 'static>(enricher: &mut Worker<T>) -> T {
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
        let mut enricher = Worker::identities().unwrap();
        let other = ProcessKey { start_ns: own.key.start_ns + 10_000_000, ..own.key };
        assert!(enricher.request(other));
        assert!(enricher.request(ProcessKey { tgid: u32::MAX, start_ns: 0 }));
        assert!(enricher.request(own.key));
        assert_eq!(wait(&mut enricher), own);
        assert_eq!(enricher.try_next(), None);
        assert_eq!(enricher.dropped(), 0);
    }

    #[test]
    fn a_blocked_read_holds_up_no_other_thread() {
        let (release, blocked) = channel::<()>();
        let blocked = Mutex::new(blocked);
        let blocked = Arc::new(blocked);
        let readers = [1, 2].map(|_| {
            let blocked = Arc::clone(&blocked);
            move |key: ProcessKey| {
                if key.tgid == 0 {
                    let _ = blocked.lock().unwrap().recv();
                }
                Some(key.tgid)
            }
        });
        let mut worker = Worker::start("test", readers).unwrap();
        for tgid in 0..100 {
            assert!(worker.request(ProcessKey { tgid, start_ns: 0 }));
        }
        let mut seen: Vec<u32> = (0..99).map(|_| wait(&mut worker)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..100).collect::<Vec<_>>());
        drop(release);
        assert_eq!(wait(&mut worker), 0);
    }

    #[test]
    fn a_blocked_read_fills_the_queue_and_holds_up_nobody() {
        let (started, entered) = channel();
        let (release, blocked) = channel::<()>();
        let mut calls = 0;
        let read = move |_| -> Option<Identity> {
            calls += 1;
            let _ = started.send(calls);
            let _ = blocked.recv();
            None
        };
        let enricher = Worker::start("test", [read]).unwrap();
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
