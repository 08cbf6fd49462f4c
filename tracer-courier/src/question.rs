//! Asks the tracer for its metrics: one question at a time, and those who wait for the answer, or come
//! shortly after it, share it.

use std::sync::Mutex as Locked;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rampage::metrics::Snapshot;
use rampage::outbox::protocol::Report;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
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
    last: Arc<Mutex<(u64, Option<(Instant, Answer)>)>>,
    waiting: Arc<Locked<Waiting>>,
}

/// Whom the answer to the present question goes to.
type Waiting = Option<(u64, oneshot::Sender<Snapshot>)>;

impl Questions {
    /// Questions go to `reports`.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { reports, last: Arc::default(), waiting: Arc::default() }
    }

    /// The metrics, at most half a second old, with a number that changes with them.
    pub async fn ask(&self) -> (u64, Answer) {
        let last = Arc::clone(&self.last).lock_owned().await;
        if let (id, Some((at, answer))) = &*last
            && at.elapsed() < FRESH
        {
            return (*id, answer.clone());
        }
        // A task of its own: a client that hangs up meanwhile takes neither the question nor its answer
        // from the others.
        let asked = tokio::spawn(put(self.reports.clone(), Arc::clone(&self.waiting), last));
        asked.await.unwrap_or((0, Err(NoAnswer)))
    }

    /// The tracer answers. An answer that comes too late is dropped.
    pub fn answer(&self, id: u64, snapshot: Snapshot) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = waiting.take_if(|(asked, _)| *asked == id) {
            let _ = sender.send(snapshot);
        }
    }
}

/// Puts a question to the tracer, and keeps what it answers in `last`.
async fn put(
    reports: mpsc::Sender<Report>,
    waiting: Arc<Locked<Waiting>>,
    mut last: OwnedMutexGuard<(u64, Option<(Instant, Answer)>)>,
) -> (u64, Answer) {
    // What is served no more goes before the next comes.
    last.1 = None;
    last.0 += 1;
    let id = last.0;
    let (sender, receiver) = oneshot::channel();
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, sender));
    let answered = async {
        reports.send(Report::WantMetrics { id }).await.ok()?;
        receiver.await.ok()
    };
    let answer = timeout(PATIENCE, answered).await.ok().flatten().map(Arc::new).ok_or(NoAnswer);
    last.1 = Some((Instant::now(), answer.clone()));
    (id, answer)
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

    #[tokio::test(start_paused = true)]
    async fn those_who_hang_up_ask_no_more_often_than_others() {
        let (sender, mut reports) = mpsc::channel(8);
        let questions = Questions::new(sender);
        for _ in 0..20 {
            // Gone before there can be an answer.
            assert!(timeout(Duration::from_millis(1), questions.ask()).await.is_err());
        }
        let Some(Report::WantMetrics { id }) = reports.recv().await else { panic!("no question") };
        questions.answer(id, Snapshot::default());
        for _ in 0..20 {
            let (number, answer) = questions.ask().await;
            assert_eq!((number, answer.is_ok()), (id, true));
        }
        assert!(reports.try_recv().is_err(), "asked twice");
    }
}
