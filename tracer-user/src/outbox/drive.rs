//! The task beside the pipeline: sends what could not be sent at once, reads what the courier reports,
//! and starts it again when it died.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::frame::Decoder;
use super::protocol::Report;
use super::spawn::SpawnError;
use super::state::{DRAIN, Shared};
use crate::run::Control;
use crate::text;

/// Longest report that is taken: the courier talks to the network, and is not trusted.
const MAX_REPORT_BYTES: usize = 64 << 10;

/// Most metrics are given: once in this time.
const ANSWER_EVERY: Duration = Duration::from_millis(100);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Wakes the run, whose next pulse answers.
pub type Wake = mpsc::Sender<Control>;

/// What the courier asked that was not answered yet, and when the next answer is due.
struct Questions {
    asked: Option<u64>,
    due: Instant,
}

/// Serves the courier until everything ends.
pub async fn drive(shared: Arc<Shared>, run: Wake) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (over, wanted, runs) = {
            let state = shared.lock();
            (state.over, state.is_wanted(), state.running.is_some())
        };
        if over {
            return;
        }
        if !wanted && !runs {
            shared.lock().renew = false;
            shared.wake.notified().await;
            continue;
        }
        let since = Instant::now();
        let ended = serve(&shared, &run).await;
        let renewed = {
            let mut state = shared.lock();
            if state.over {
                return;
            }
            state.gone();
            std::mem::take(&mut state.renew)
        };
        if renewed {
            continue;
        }
        // One that works for a while has earned a quick start.
        if since.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        shared.lock().deaths += 1;
        let why = ended.err().map_or_else(|| "it ended".to_owned(), |error| format!("{error:#}"));
        if pause == FIRST_PAUSE {
            tracing::warn!("the courier is gone ({why}): alerts wait until it is back");
        } else {
            tracing::debug!("the courier is gone again ({why}); the next one in {pause:?}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Serves one courier until it is gone.
async fn serve(shared: &Shared, run: &Wake) -> anyhow::Result<()> {
    let start = {
        let mut state = shared.lock();
        state.running.is_none().then(|| state.start()).transpose()?
    };
    if let Some(start) = start {
        let started = shared.launcher.start(start).await.unwrap_or(Err(SpawnError::Nobody))?;
        let mut state = shared.lock();
        if state.over {
            return Ok(());
        }
        state.started(started)?;
        if state.renew {
            state.hang_up();
        }
    }
    let link = shared.lock().link();
    // Nothing there: it was hung up on before this began.
    let Some(link) = link.transpose()? else { return Ok(()) };
    let link = UnixStream::from_std(link).context("cannot watch the connection")?;
    let mut decoder = Decoder::new(MAX_REPORT_BYTES);
    let mut questions = Questions { asked: None, due: Instant::now() };
    let mut blocked = true;
    loop {
        tokio::select! {
            ready = link.readable() => {
                ready?;
                if !read(shared, &link, &mut decoder, &mut questions)? {
                    return Ok(());
                }
            }
            ready = link.writable(), if blocked => {
                ready?;
                // Through the connection that is watched: WouldBlock must be seen by it.
                let flushed = link.try_io(Interest::WRITABLE, || shared.lock().flush());
                blocked = flushed.is_err();
            }
            () = shared.wake.notified() => blocked = true,
            () = sleep_until(questions.due), if questions.asked.is_some() => {
                if let Some(id) = questions.asked.take() {
                    questions.due = Instant::now() + ANSWER_EVERY;
                    shared.lock().question = Some(id);
                    // A run with so much to do has its pulse soon anyway.
                    let _ = run.try_send(Control::Refresh);
                }
            }
        }
        let (over, renew) = {
            let state = shared.lock();
            (state.over, state.renew)
        };
        if over {
            return Ok(());
        }
        if renew {
            let drained = drain(shared, &link, &mut decoder, &mut questions);
            return timeout(DRAIN, drained).await.unwrap_or(Ok(()));
        }
    }
}

/// Reads until the courier ends; it was hung up on.
async fn drain(
    shared: &Shared,
    link: &UnixStream,
    decoder: &mut Decoder,
    questions: &mut Questions,
) -> anyhow::Result<()> {
    loop {
        link.readable().await?;
        if !read(shared, link, decoder, questions)? {
            return Ok(());
        }
    }
}

/// Takes in some reports; false = that was the end.
fn read(
    shared: &Shared,
    link: &UnixStream,
    decoder: &mut Decoder,
    questions: &mut Questions,
) -> anyhow::Result<bool> {
    let mut piece = [0; 4096];
    match link.try_read(&mut piece) {
        Ok(0) => return Ok(false),
        Ok(bytes) => decoder.push(&piece[..bytes]),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    while let Some(report) = decoder.take()? {
        match report {
            Report::WantMetrics { id } => questions.asked = Some(id),
            Report::Deliveries { alerts, receivers } => {
                shared.lock().totals.report(alerts, receivers);
            }
            Report::Configured { problems } => {
                for problem in problems {
                    tracing::warn!("courier: {}", text::printable(&problem));
                }
            }
        }
    }
    Ok(true)
}
