//! Drives a source into the pipeline until somebody ends it.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::pipeline::Pipeline;
use crate::sink::SinkError;
use crate::sink::table::Control;
use crate::source::{Flow, Source};

/// Wake-ups and requests that wait for the loop.
pub const CONTROLS_WAITING: usize = 8;

/// Feeds `pipeline` from `source` until its end, a signal, [`Control::Quit`] or the end of
/// `duration`; then ends both.
pub async fn drive<S: Source>(
    mut source: S,
    mut pipeline: Pipeline<'_>,
    mut control: mpsc::Receiver<Control>,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let end = tokio::time::sleep(duration.unwrap_or(Duration::from_secs(u32::MAX.into())));
    tokio::pin!(end);
    let mut events = Vec::new();
    let outcome = loop {
        let flow = tokio::select! {
            biased;
            _ = interrupt.recv() => Flow::Ended("signal"),
            _ = terminate.recv() => Flow::Ended("signal"),
            () = &mut end, if duration.is_some() => Flow::Ended("duration"),
            Some(asked) = control.recv() => match asked {
                Control::Quit(reason) => Flow::Ended(reason),
                Control::Refresh => Flow::More,
            },
            flow = source.next(&mut events) => flow?,
        };
        if let Err(error) = feed(&mut pipeline, &mut events).and_then(|()| pipeline.pulse()) {
            break Err(error);
        }
        if let Flow::Ended(reason) = flow {
            source.finish(&mut events)?;
            break feed(&mut pipeline, &mut events).map(|()| reason);
        }
    };
    match outcome.and_then(|reason| pipeline.finish(reason)) {
        Err(SinkError::Closed) => Ok(()),
        other => Ok(other?),
    }
}

fn feed(
    pipeline: &mut Pipeline<'_>,
    events: &mut Vec<crate::event::Stamped>,
) -> Result<(), SinkError> {
    events.drain(..).try_for_each(|at| pipeline.feed(&at))
}
