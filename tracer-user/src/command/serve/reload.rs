//! SIGHUP: the settings are read again, away from the pipeline, and applied when they are good; bad ones
//! leave the old in force.

use std::cell::{Cell, Ref, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;

use super::heartbeat::Systemd;
use crate::command::one_line;
use crate::settings::{self, Loaded, Settings};

/// The settings in force, and how they were changed.
#[derive(Debug)]
pub struct InForce {
    /// Where they are read from; None = the default place, if there is a file.
    file: Option<PathBuf>,
    loaded: RefCell<Loaded>,
    /// Counts the changes.
    generation: Cell<u64>,
    /// Whether the last reload was applied; true before the first.
    is_current: Cell<bool>,
}

impl InForce {
    /// At the start.
    pub fn new(file: Option<PathBuf>, loaded: Loaded) -> Self {
        warn(&loaded);
        Self {
            file,
            loaded: RefCell::new(loaded),
            generation: Cell::new(0),
            is_current: Cell::new(true),
        }
    }

    /// Those in force, with the lines that they come from.
    pub fn loaded(&self) -> Ref<'_, Loaded> {
        self.loaded.borrow()
    }

    /// Those in force.
    pub fn settings(&self) -> Ref<'_, Settings> {
        Ref::map(self.loaded.borrow(), |loaded| &loaded.settings)
    }

    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether the last reload was applied; true before the first.
    pub fn is_current(&self) -> bool {
        self.is_current.get()
    }

    /// Hands what changed to `apply`, and has it in force when that succeeds.
    async fn change(
        &self,
        mut loaded: Loaded,
        apply: &impl AsyncFn(&Settings) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let running = self.settings().clone();
        let late = settings::needs_restart(&running, &loaded.settings);
        loaded.settings = settings::keep_until_restart(&running, &loaded.settings);
        apply(&loaded.settings).await?;
        warn(&loaded);
        if !late.is_empty() {
            tracing::warn!("{}: takes effect at the next start", late.join(", "));
        }
        self.loaded.replace(loaded);
        self.generation.set(self.generation.get() + 1);
        Ok(())
    }
}

fn warn(loaded: &Loaded) {
    for warning in loaded.warnings.iter().chain(&loaded.host_warnings()) {
        tracing::warn!("{warning}");
    }
}

/// Reloads at each SIGHUP, for good; `apply` hands the new settings to those who use them, or fails and
/// has changed nothing.
pub async fn on_hangup(
    in_force: Rc<InForce>,
    mut hangup: Signal,
    systemd: Systemd,
    apply: impl AsyncFn(&Settings) -> anyhow::Result<()>,
) {
    while hangup.recv().await.is_some() {
        systemd.reloading(true);
        let file = in_force.file.clone();
        let outcome = match spawn_blocking(move || settings::load(file.as_deref())).await {
            Ok(Ok(loaded)) => in_force.change(loaded, &apply).await,
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error.into()),
        };
        in_force.is_current.set(outcome.is_ok());
        match outcome {
            Ok(()) => tracing::info!("settings reloaded"),
            Err(error) => {
                tracing::error!("{}; the settings stay as they were", one_line(&error));
            }
        }
        systemd.reloading(false);
    }
}
