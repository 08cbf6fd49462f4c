//! SIGHUP: the settings are read again, away from the pipeline, and applied when they are good; bad ones
//! leave the old in force.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use super::heartbeat::Systemd;
use crate::command::one_line;
use crate::settings::{self, Loaded, Settings};

/// The settings in force, and how they were changed.
#[derive(Debug)]
pub struct InForce {
    /// Where they are read from; None = the default place, if there is a file.
    pub file: Option<PathBuf>,
    /// Those in force.
    pub settings: RefCell<Settings>,
    /// Reloads that were applied.
    pub applied: Cell<u64>,
    /// Reloads of a bad file.
    pub refused: Cell<u64>,
    /// Whether the last reload was applied; true before the first.
    pub is_current: Cell<bool>,
}

impl InForce {
    /// At the start.
    pub fn new(file: Option<PathBuf>, settings: Settings) -> Self {
        Self {
            file,
            settings: RefCell::new(settings),
            applied: Cell::new(0),
            refused: Cell::new(0),
            is_current: Cell::new(true),
        }
    }

    fn refuse(&self, error: &anyhow::Error) {
        self.refused.set(self.refused.get() + 1);
        self.is_current.set(false);
        tracing::error!("{}; the settings stay as they were", one_line(error));
    }

    fn put_in_force(&self, loaded: Loaded) -> Settings {
        for warning in loaded.warnings.iter().chain(&loaded.host_warnings()) {
            tracing::warn!("{warning}");
        }
        let late = settings::needs_restart(&self.settings.borrow(), &loaded.settings);
        let settings = settings::keep_until_restart(&self.settings.borrow(), &loaded.settings);
        if !late.is_empty() {
            tracing::warn!("{}: takes effect at the next start", late.join(", "));
        }
        self.settings.replace(settings.clone());
        self.applied.set(self.applied.get() + 1);
        self.is_current.set(true);
        settings
    }
}

/// Reloads at each SIGHUP, for good; `apply` hands the new settings to those who use them.
pub async fn on_hangup(
    in_force: Rc<InForce>,
    systemd: Systemd,
    apply: impl AsyncFn(Settings),
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    while hangup.recv().await.is_some() {
        systemd.reloading(true);
        let file = in_force.file.clone();
        let loaded = spawn_blocking(move || settings::load(file.as_deref())).await;
        match loaded.map_err(Into::into).and_then(|loaded| loaded.map_err(anyhow::Error::from)) {
            Ok(loaded) => {
                apply(in_force.put_in_force(loaded)).await;
                tracing::info!("settings reloaded");
            }
            Err(error) => in_force.refuse(&error),
        }
        systemd.reloading(false);
    }
    Ok(())
}
