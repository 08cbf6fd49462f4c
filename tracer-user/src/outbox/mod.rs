//! The way out of the tracer: findings and metrics go to the courier, a process without capabilities that
//! talks to journal, network and commands, so that neither can reach or stop the pipeline.
//!
//! [`start`] starts the courier, and spawns a task on the runtime of the run. The [`Outbox`] is a sink like any
//! other; the [`Handle`] is for whoever runs it:
//!
//! ```no_run
//! # use rampage::{metrics::Snapshot, outbox, pipeline::Pipeline, run, settings::Settings};
//! # async fn serve(settings: &Settings, changed: &Settings) -> anyhow::Result<()> {
//! let identity = outbox::Identity {
//!     host: "web-3".into(),
//!     version: env!("CARGO_PKG_VERSION").into(),
//!     boot_id: "5f9c…".into(),
//! };
//! let listener = outbox::listen::Listener::bind(&settings.metrics)?;
//! // Inside of the runtime.
//! let snapshot = |_: &rampage::model::Model| Snapshot::default();
//! let (control, requests) = tokio::sync::mpsc::channel(8);
//! let (mut outbox, handle) = outbox::start(identity, settings, listener, None, snapshot, control).await?;
//! let mut pipeline = Pipeline::new(vec![&mut outbox]);
//! let options = run::RunOptions { control: Some(requests), ..run::RunOptions::default() };
//! // … run::run(&mut source, &mut pipeline, options) …; once everything is attached:
//! handle.ready(true, "");
//! // On SIGHUP; after an error the old settings are still in force.
//! handle.configure(changed)?;
//! // For the metrics.
//! let status = handle.status();
//! # Ok(())
//! # }
//! ```
//!
//! The snapshot is asked for with a pulse of the run, which a question brings on, ten times a second at
//! most. It must not wait, and may use the handle. What the courier inherits (a filter of system calls, limits,
//! the cgroup, oom_score_adj) is what the tracer has when it is started, or started again: the filter
//! of the tracer leaves it fork, exec and socketpair.

mod audience;
mod drive;
pub mod frame;
pub mod listen;
pub mod protocol;
mod queue;
pub mod spawn;
mod state;
mod totals;

#[cfg(test)]
mod test;

use std::path::PathBuf;
use std::sync::Arc;

use protocol::{Courier, Delivery, Tell};
use state::Shared;
use tokio::sync::mpsc;

use crate::event::{Event, Lost, Stamped};
use crate::metrics::Snapshot;
use crate::model::Model;
use crate::run::Control;
use crate::settings::Settings;
use crate::sink::{Sink, SinkError};

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The endpoint cannot be had.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// There is no courier.
    #[error(transparent)]
    Spawn(#[from] spawn::SpawnError),
    /// `watch.comm` is no regular expression.
    #[error("watch.comm is no regular expression: {0}")]
    Comm(#[from] regex::Error),
    /// The settings fit into no frame.
    #[error("the settings cannot be sent to the courier: {0}")]
    Settings(#[from] frame::FrameError),
}

/// Who tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name of the host.
    pub host: String,
    /// Version of the tracer.
    pub version: String,
    /// boot_id of the host.
    pub boot_id: String,
}

/// How the way out is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Couriers that ended by themselves.
    pub courier_deaths: u64,
    /// Process id of the courier; None = there is none now.
    pub courier_tgid: Option<u32>,
    /// Alerts that wait to be sent to the courier, bytes; at most 1 MiB.
    pub waiting_bytes: usize,
    /// Alerts that were lost on the way to the courier.
    pub lost: u64,
    /// What became of the others, each receiver once, since the tracer's start.
    pub deliveries: Vec<Delivery>,
}

/// The sink.
pub struct Outbox {
    shared: Arc<Shared>,
    snapshot: Box<dyn FnMut(&Model) -> Snapshot>,
}

/// For whoever runs the pipeline.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Starts the courier (`program`; None = [`spawn::program`]) unless nobody is to be told of anything, and
/// spawns the task that serves it. `listener`: where it is to serve the metrics. To be called inside of the
/// runtime of the run.
pub async fn start(
    identity: Identity,
    settings: &Settings,
    listener: Option<listen::Listener>,
    program: Option<PathBuf>,
    snapshot: impl FnMut(&Model) -> Snapshot + 'static,
    run: mpsc::Sender<Control>,
) -> Result<(Outbox, Handle), OutboxError> {
    let program = program.unwrap_or_else(spawn::program);
    let shared = Arc::new(Shared::new(identity, settings, listener, program).await?);
    tokio::spawn(drive::drive(Arc::clone(&shared), run));
    let outbox = Outbox { shared: Arc::clone(&shared), snapshot: Box::new(snapshot) };
    Ok((outbox, Handle { shared }))
}

impl Sink for Outbox {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        if let Event::Finding(finding) = &at.event {
            self.shared.tell(model, &Tell { t_ns: at.t_ns, wall_ns: at.wall_ns, finding });
        }
        Ok(())
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        let question = self.shared.lock().question.take();
        if let Some(id) = question {
            self.shared.answer(id, (self.snapshot)(model));
        }
        self.shared.alive();
        Ok(())
    }

    /// Lets the courier deliver what it has, for two seconds.
    fn finish(&mut self) -> Result<(), SinkError> {
        self.shared.end();
        Ok(())
    }

    fn take_lost(&mut self) -> Option<Lost> {
        self.shared.take_lost()
    }
}

impl Handle {
    /// What /readyz and /healthz tell from the next pulse on; `reason` is one line, empty = nothing.
    pub fn ready(&self, ready: bool, reason: &str) {
        self.shared.ready(ready, reason);
    }

    /// Puts changed settings into force. After an error those before still are. Another `listen`
    /// address takes a new courier; the old one has two seconds to deliver what it has.
    pub fn configure(&self, settings: &Settings) -> Result<(), OutboxError> {
        self.shared.configure(settings)
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

impl Courier {
    /// Whether there is anything to do for a courier.
    pub fn is_wanted(&self) -> bool {
        let alerts = &self.alerts;
        alerts.journal
            || !self.metrics.listen.is_empty()
            || !alerts.webhook.is_empty()
            || !alerts.command.is_empty()
            || !alerts.otlp.is_empty()
    }
}
