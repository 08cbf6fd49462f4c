//! `rampage serve`: the pipeline for months, with a flight recorder, metrics and alerts.
//!
//! Order of the start: settings, state directory, kernel programs, capabilities given away, threads,
//! system calls given away; then the first look at all processes, and systemd hears that it is ready.

mod heartbeat;
mod instance;
mod reload;

use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::heartbeat::{Heartbeat, Systemd};
use self::instance::Instance;
use self::reload::InForce;
use crate::cli::Serve;
use crate::kernel::confine;
use crate::kernel::protect::protect;
use crate::php::Disclosure;
use crate::pipeline::Pipeline;
use crate::run::{self, Control, RunOptions};
use crate::settings::{self, Settings, WatchSource};
use crate::source::Source;
use crate::source::live::{LiveOptions, LiveSource};
use crate::source::procfs::ProcfsSource;

/// Bytes of the kernel's ring buffer.
const RING_BYTES: u64 = 2 << 20;
/// Changes that wait for the loop.
const CHANGES: usize = 4;

/// Serves until SIGTERM or SIGINT.
pub fn execute(args: &Serve, verbose: u8) -> anyhow::Result<()> {
    let loaded = settings::load(args.config.as_deref())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let settings = loaded.settings;
    let _instance = Instance::claim(&settings.recorder.directory)?;
    let in_force = Rc::new(InForce::new(args.config.clone(), settings));
    run::block_on(LocalSet::new().run_until(open(&in_force, verbose)))
}

/// With the best source that can be had.
async fn open(in_force: &Rc<InForce>, verbose: u8) -> anyhow::Result<()> {
    let settings = in_force.settings.borrow().clone();
    let config = settings.trace_config();
    let show = Disclosure { query: settings.watch.show_query, client: settings.watch.show_client };
    if settings.watch.source != WatchSource::Procfs {
        let options = LiveOptions {
            config: config.clone(),
            ring_bytes: RING_BYTES,
            forbid: Vec::new(),
            show,
            usdt: settings.watch.usdt,
            confine: true,
            verbose,
        };
        match LiveSource::open(&options) {
            Ok(source) => return serve(source, in_force, &settings).await,
            Err(error) if settings.watch.source == WatchSource::Live => return Err(error.into()),
            Err(error) => tracing::warn!(
                "{error}; going on by polling /proc: OOM kills, stalls and short-lived processes are missed"
            ),
        }
    }
    protect();
    confine::give_away();
    serve(ProcfsSource::open(&config, show)?, in_force, &settings).await
}

async fn serve<S: Source>(
    mut source: S,
    in_force: &Rc<InForce>,
    settings: &Settings,
) -> anyhow::Result<()> {
    let systemd = Systemd::connect()?;
    let mut heartbeat = Heartbeat::new(systemd.clone());
    if let Err(error) = confine::filter_system_calls() {
        tracing::warn!("{error}; going on without it");
    }
    let (control, changes) = mpsc::channel(CHANGES);
    let reloads = reload::on_hangup(in_force.clone(), systemd, async move |settings| {
        let config = Box::new(settings.trace_config());
        // The loop is there as long as this task.
        let _ = control.send(Control::Configure(config)).await;
    });
    tokio::task::spawn_local(reloads);
    let mut pipeline = Pipeline::new(vec![&mut heartbeat]);
    let options = RunOptions { duration: None, control: Some(changes) };
    run::run(&mut source, &mut pipeline, options).await?;
    let _ = settings;
    Ok(())
}
