//! Asks the tracer for its metrics: one question at a time, and those who wait for the answer, or come
//! shortly after it, share it.

use std::sync::Mutex as Locked;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rampage::metrics::Snapshot;
use rampage::outbox::protocol::Report;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// An answer, or that there was none, is good for this long.
const FRESH: Duration = Duration::from_millis(500);

/// The tracer is given this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tracer did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tracer gave no metrics within {} s", PATIENCE.as_secs())]
pub struct NoAnswer;

/// Metrics, and their text once somebody wanted it.
pub type Answer = Result<Arc<Snapshot>, NoAnswer>;

/// Who asks.
#[derive(Debug)]
pub struct Questions {
    reports: mpsc::Sender<Report>,
    last: Mutex<(u64, Option<(Instant, Answer)>)>,
    waiting: Locked<Option<(u64, oneshot::Sender<Snapshot>)>>,
}

impl Questions {
    /// Questions go to `reports`.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { reports, last: Mutex::new((0, None)), waiting: Locked::new(None) }
    }

    /// The metrics, at most half a second old, with a number that changes with them.
    pub async fn ask(&self) -> (u64, Answer) {
        let mut last = self.last.lock().await;
        if let (id, Some((at, answer))) = &*last
            && at.elapsed() < FRESH
        {
            return (*id, answer.clone());
        }
        // What is served no more goes before the next comes.
        last.1 = None;
        last.0 += 1;
        let id = last.0;
        let (sender, receiver) = oneshot::channel();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, sender));
        let answered = async {
            self.reports.send(Report::WantMetrics { id }).await.ok()?;
            receiver.await.ok()
        };
        let answer = timeout(PATIENCE, answered).await.ok().flatten().map(Arc::new).ok_or(NoAnswer);
        last.1 = Some((Instant::now(), answer.clone()));
        (id, answer)
    }

    /// The tracer answers. An answer that comes too late is dropped.
    pub fn answer(&self, id: u64, snapshot: Snapshot) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = waiting.take_if(|(asked, _)| *asked == id) {
            let _ = sender.send(snapshot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_one_question() {
        let (sender, mut reports) = mpsc::channel(8);
        let questions = Arc::new(Questions::new(sender));
        let many: Vec<_> = (0..50)
            .map(|_| {
                let questions = Arc::clone(&questions);
                tokio::spawn(async move { questions.ask().await })
            })
            .collect();
        let Some(Report::WantMetrics { id }) = reports.recv().await else { panic!("no question") };
        questions.answer(id + 1, Snapshot { t_ns: 1, ..Snapshot::default() });
        questions.answer(id, Snapshot { t_ns: 2, ..Snapshot::default() });
        for asked in many {
            let (number, answer) = asked.await.unwrap();
            assert_eq!((number, answer.unwrap().t_ns), (id, 2));
        }
        assert!(reports.try_recv().is_err());
        // Later it is asked again; nobody answers, and nobody waits longer than one of them.
        tokio::time::sleep(FRESH).await;
        let since = Instant::now();
        let (first, second) = tokio::join!(questions.ask(), questions.ask());
        assert_eq!((first.1, second.1), (Err(NoAnswer), Err(NoAnswer)));
        assert!(since.elapsed() < PATIENCE + FRESH);
        assert!(reports.try_recv().is_ok() && reports.try_recv().is_err());
    }
}
