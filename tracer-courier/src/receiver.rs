//! A receiver: a bounded queue and a task that delivers from it, one alert after the other, each until
//! it was taken, refused or given up.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rampage::outbox::protocol::{Alert, Delivery};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::say;

/// Alerts that wait for one receiver at most.
pub const QUEUE_ALERTS: usize = 256;

/// Who tells: the same in every alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Name of the host.
    pub host: String,
    /// Version of the tracer.
    pub version: String,
    /// boot_id of the host.
    pub boot_id: String,
}

/// An alert with all that is told of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who tells.
    pub about: Arc<About>,
    /// The finding.
    pub alert: Alert,
    /// When it came in.
    pub since: Instant,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken.
    Delivered,
    /// Not now.
    Again {
        /// The receiver asks to be left alone for this long.
        after: Option<Duration>,
        /// For the log.
        why: String,
    },
    /// Refused, and it would be again.
    Refused {
        /// For the log.
        why: String,
    },
}

impl Outcome {
    /// Not now, because of an error.
    pub fn again(error: impl fmt::Display) -> Self {
        Self::Again { after: None, why: error.to_string() }
    }

    /// Refused, because of an error.
    pub fn refused(error: impl fmt::Display) -> Self {
        Self::Refused { why: error.to_string() }
    }
}

/// Takes alerts somewhere.
pub trait Deliver: Send + 'static {
    /// One attempt, which ends by itself within the receiver's timeout.
    fn deliver(&mut self, told: &Told) -> impl Future<Output = Outcome> + Send;
}

/// What waits for a receiver, and what became of the rest. Outlives changes of its settings.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Arc<Told>>,
    counts: Delivery,
}

impl Queue {
    /// An empty one, of this receiver.
    pub fn new(receiver: &str) -> Arc<Self> {
        let counts = Delivery { receiver: receiver.to_owned(), ..Delivery::default() };
        Arc::new(Self {
            inner: Mutex::new(Inner { waiting: VecDeque::new(), counts }),
            filled: Notify::new(),
        })
    }

    /// Queues an alert, or counts it as lost.
    pub fn push(&self, told: Arc<Told>) {
        let mut inner = self.lock();
        if inner.waiting.len() < QUEUE_ALERTS {
            inner.waiting.push_back(told);
            self.filled.notify_one();
        } else {
            inner.counts.lost += 1;
        }
    }

    /// What became of the alerts.
    pub fn delivery(&self) -> Delivery {
        let inner = self.lock();
        Delivery { queued: inner.waiting.len() as u64, ..inner.counts.clone() }
    }

    /// Nobody will deliver what waits.
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.counts.lost += inner.waiting.len() as u64;
        inner.waiting.clear();
    }

    /// Counts something else that became of an attempt.
    pub fn count(&self, change: impl FnOnce(&mut Delivery)) {
        change(&mut self.lock().counts);
    }

    async fn front(&self) -> Arc<Told> {
        loop {
            if let Some(told) = self.lock().waiting.front() {
                return Arc::clone(told);
            }
            self.filled.notified().await;
        }
    }

    /// The first one is done with.
    fn finish(&self, change: impl FnOnce(&mut Delivery)) {
        let mut inner = self.lock();
        // None where it was abandoned meanwhile, and counted.
        if inner.waiting.pop_front().is_some() {
            change(&mut inner.counts);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a receiver.
#[derive(Debug)]
pub struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Delivers what is in `queue`, after `before` has ended its last attempt. An alert that could not
    /// be delivered for `give_up` is given up.
    pub fn start<D: Deliver>(
        queue: Arc<Queue>,
        deliver: D,
        give_up: Duration,
        before: Option<Worker>,
    ) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                before.stop().await;
            }
            let mut stopped = pin!(async move {
                // An error: nobody can stop it any more, which is the same.
                let _ = stopped.wait_for(|stop| *stop).await;
            });
            work(&queue, deliver, give_up, &mut stopped).await;
        });
        Self { stop, task }
    }

    /// Ends it after its present attempt.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn work<D: Deliver>(
    queue: &Queue,
    mut deliver: D,
    give_up: Duration,
    stopped: &mut (impl Future<Output = ()> + Unpin),
) {
    let receiver = queue.delivery().receiver;
    let mut backoff = Backoff::default();
    let mut not_before = None;
    let mut failing = false;
    loop {
        let told = tokio::select! {
            biased;
            () = &mut *stopped => return,
            told = queue.front() => told,
        };
        // It failed with this alert or the one before: the pause holds for all, and what has waited too
        // long by then is not tried.
        if let Some(not_before) = not_before {
            let given_up = told.since + give_up;
            tokio::select! {
                biased;
                () = &mut *stopped => return,
                () = sleep_until(given_up.min(not_before)) => {}
            }
            if Instant::now() >= given_up {
                queue.finish(|counts| counts.lost += 1);
                continue;
            }
        }
        let (after, why) = match deliver.deliver(&told).await {
            Outcome::Delivered => {
                queue.finish(|counts| counts.delivered += 1);
                not_before = None;
                backoff.reset();
                if std::mem::take(&mut failing) {
                    say(format_args!("{receiver} takes alerts again"));
                }
                continue;
            }
            Outcome::Refused { why } => {
                queue.finish(|counts| counts.lost += 1);
                not_before = None;
                if !std::mem::replace(&mut failing, true) {
                    say(format_args!("{receiver} refuses an alert, which is lost: {why}"));
                }
                continue;
            }
            Outcome::Again { after, why } => (after, why),
        };
        if !std::mem::replace(&mut failing, true) {
            say(format_args!("{receiver} takes no alerts, and is tried again: {why}"));
        }
        let next = Instant::now() + backoff.pause(after);
        if next < told.since + give_up {
            queue.count(|counts| counts.retried += 1);
        }
        not_before = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{finding, told};
    use rampage::event::{FindingState, Severity};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Asks to be left alone for an hour, each time.
    struct Overloaded(Arc<AtomicU64>);

    impl Deliver for Overloaded {
        async fn deliver(&mut self, _: &Told) -> Outcome {
            self.0.fetch_add(1, Ordering::Relaxed);
            Outcome::Again { after: Some(Duration::from_secs(3600)), why: "429".to_owned() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_asks_for_a_pause_has_it_whatever_comes_meanwhile() {
        let (queue, asked) = (Queue::new("webhook:ops"), Arc::new(AtomicU64::new(0)));
        let push = |id| {
            queue.push(Arc::new(told(finding(id, Severity::Critical, FindingState::Raised))));
        };
        (1..=20).for_each(push);
        let give_up = Duration::from_secs(60);
        let worker =
            Worker::start(Arc::clone(&queue), Overloaded(Arc::clone(&asked)), give_up, None);
        tokio::time::sleep(Duration::from_secs(59)).await;
        let now = queue.delivery();
        assert_eq!((now.lost, now.retried, now.queued), (0, 0, 20));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(queue.delivery().lost, 20);
        (21..=30).for_each(push);
        // Of the hour it gets five minutes, and of those that wait then, one alert.
        tokio::time::sleep(Duration::from_secs(220)).await;
        assert_eq!((queue.delivery().lost, asked.load(Ordering::Relaxed)), (30, 1));
        (31..=40).for_each(push);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!((queue.delivery().lost, asked.load(Ordering::Relaxed)), (30, 2));
        worker.stop().await;
    }
}
