//! The loop of a run: takes events from a source through the pipeline until the source, a signal,
//! the time or the user ends it.
//!
//! An interactive sink (the table) reads its keys itself, and asks the loop through a channel:
//! [`Control::Refresh`] gives every sink its [`Sink::pulse`](crate::sink::Sink::pulse) at once,
//! [`Control::Quit`] ends the run. A service sends [`Control::Configure`] when its settings changed. Without
//! asking, each sink has its pulse about once a second, whether events come or not: trace files flush there,
//! tables redraw.

use std::future::{Future, pending};
use std::time::Duration;

use anyhow::Context;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::event::{Config, Stamped};
use crate::pipeline::Pipeline;
use crate::sink::SinkError;
use crate::source::{Flow, Source};

const PULSE: Duration = Duration::from_secs(1);

/// What an interactive sink asks of the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// The settings changed.
    Configure(Box<Config>),
    /// Give the sinks their pulse now.
    Refresh,
    /// End the run; the reason goes into the `end` event.
    Quit(&'static str),
}

/// When a run ends, beside the end of its source and a signal.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// After this time.
    pub duration: Option<Duration>,
    /// When an interactive sink says so.
    pub control: Option<mpsc::Receiver<Control>>,
}

/// Runs until the end and finishes source and sinks. Returns why it ended: `signal`, `duration`,
/// `closed` (the reader of the output went away: a success), or what source or user said.
pub async fn run<S: Source>(
    source: &mut S,
    pipeline: &mut Pipeline<'_>,
    options: RunOptions,
) -> anyhow::Result<&'static str> {
    match drive(source, pipeline, options).await {
        Err(error) if matches!(error.downcast_ref(), Some(SinkError::Closed)) => Ok("closed"),
        ended => ended,
    }
}

/// Drives `future` on a runtime of one thread.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the event loop")?.block_on(future)
}

async fn drive<S: Source>(
    source: &mut S,
    pipeline: &mut Pipeline<'_>,
    options: RunOptions,
) -> anyhow::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut pulse = interval_at(Instant::now() + PULSE, PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut control = options.control;
    let deadline = async {
        match options.duration {
            Some(duration) => sleep(duration).await,
            None => pending().await,
        }
    };
    tokio::pin!(deadline);

    let mut events = Vec::new();
    let reason = loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break "signal",
            _ = terminate.recv() => break "signal",
            () = &mut deadline => break "duration",
            asked = next_control(&mut control) => match asked {
                Some(Control::Quit(reason)) => break reason,
                Some(Control::Refresh) => pipeline.pulse()?,
                Some(Control::Configure(config)) => pipeline.configure(config)?,
                None => control = None,
            },
            _ = pulse.tick() => pipeline.pulse()?,
            flow = source.next(&mut events) => {
                let flow = match flow {
                    Ok(flow) => flow,
                    Err(error) => {
                        // What came before is kept; the source's error counts, not one of this.
                        let _ = feed(pipeline, &mut events).and_then(|()| pipeline.finish("error"));
                        return Err(error);
                    }
                };
                feed(pipeline, &mut events)?;
                if let Flow::Ended(reason) = flow {
                    break reason;
                }
                // A source that always has something must not keep signals from being seen.
                tokio::task::yield_now().await;
            }
        }
    };
    source.finish(&mut events)?;
    feed(pipeline, &mut events)?;
    pipeline.finish(reason)?;
    Ok(reason)
}

fn feed(pipeline: &mut Pipeline<'_>, events: &mut Vec<Stamped>) -> Result<(), SinkError> {
    events.drain(..).try_for_each(|at| pipeline.feed(&at))
}

/// What is asked next; None = nothing will be asked any more. Waits forever without a channel.
async fn next_control(control: &mut Option<mpsc::Receiver<Control>>) -> Option<Control> {
    match control {
        Some(receiver) => receiver.recv().await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{End, Event, Tick};
    use crate::model::Model;
    use crate::sink::Sink;

    /// Fails after its first tick.
    struct Broken(bool);

    impl Source for Broken {
        async fn next(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
            anyhow::ensure!(!std::mem::replace(&mut self.0, true), "broken");
            out.push(Stamped { t_ns: 1, wall_ns: 1, event: Event::Tick(Tick {}) });
            Ok(Flow::More)
        }
    }

    /// A number of ticks.
    struct Ticks(u64);

    impl Source for Ticks {
        async fn next(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
            if self.0 == 0 {
                return Ok(Flow::Ended("end of input"));
            }
            self.0 -= 1;
            out.push(Stamped { t_ns: 1, wall_ns: 1, event: Event::Tick(Tick {}) });
            Ok(Flow::More)
        }

        fn finish(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
            out.push(Stamped { t_ns: 2, wall_ns: 2, event: Event::Tick(Tick {}) });
            Ok(())
        }
    }

    #[derive(Default)]
    struct Seen {
        ticks: u64,
        end: Option<End>,
        pulses: u64,
        close_after: Option<u64>,
    }

    impl Sink for Seen {
        fn event(&mut self, _: &Model, at: &Stamped) -> Result<(), SinkError> {
            match &at.event {
                Event::End(end) => self.end = Some(end.clone()),
                _ => self.ticks += 1,
            }
            if self.close_after == Some(self.ticks) { Err(SinkError::Closed) } else { Ok(()) }
        }

        fn pulse(&mut self, _: &Model) -> Result<(), SinkError> {
            self.pulses += 1;
            Ok(())
        }
    }

    fn reason(ticks: u64, seen: &mut Seen, options: RunOptions) -> &'static str {
        let mut pipeline = Pipeline::new(vec![seen]);
        block_on(run(&mut Ticks(ticks), &mut pipeline, options)).unwrap()
    }

    #[test]
    fn the_end_of_the_source_ends_the_run_and_nothing_is_left_behind() {
        let mut seen = Seen::default();
        assert_eq!(reason(3, &mut seen, RunOptions::default()), "end of input");
        assert_eq!((seen.ticks, seen.end.unwrap().events), (4, 4));
    }

    #[test]
    fn time_ends_a_source_that_never_pauses() {
        let mut seen = Seen::default();
        let options =
            RunOptions { duration: Some(Duration::from_millis(50)), ..RunOptions::default() };
        assert_eq!(reason(u64::MAX, &mut seen, options), "duration");
        assert_eq!(seen.end.unwrap().reason, "duration");
    }

    #[test]
    fn the_user_refreshes_and_quits() {
        let (sender, receiver) = mpsc::channel(4);
        sender.try_send(Control::Refresh).unwrap();
        sender.try_send(Control::Quit("quit")).unwrap();
        let mut seen = Seen::default();
        let options = RunOptions { control: Some(receiver), ..RunOptions::default() };
        assert_eq!(reason(u64::MAX, &mut seen, options), "quit");
        assert_eq!((seen.pulses, seen.end.unwrap().reason), (1, "quit".to_owned()));
    }

    #[test]
    fn a_source_that_fails_leaves_a_finished_output() {
        let mut seen = Seen::default();
        let mut pipeline = Pipeline::new(vec![&mut seen]);
        let error = block_on(run(&mut Broken(false), &mut pipeline, RunOptions::default()));
        assert_eq!(error.unwrap_err().to_string(), "broken");
        assert_eq!((seen.ticks, seen.end.unwrap().reason), (1, "error".to_owned()));
    }

    #[test]
    fn a_reader_that_went_away_is_a_success() {
        let mut seen = Seen { close_after: Some(2), ..Seen::default() };
        assert_eq!(reason(9, &mut seen, RunOptions::default()), "closed");
        assert!(seen.end.is_none());
    }
}
