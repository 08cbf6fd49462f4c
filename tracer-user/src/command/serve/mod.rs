//! `rampage serve`: the pipeline for months, with a flight recorder, metrics and alerts.
//!
//! Order of the start: settings, state directory, kernel programs, capabilities given away, threads,
//! system calls given away; then the first look at all processes, and systemd hears that it is ready.

mod heartbeat;
mod instance;
mod own;
mod reload;
mod unmatched;

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::heartbeat::{Heartbeat, Systemd};
use self::instance::{Instance, InstanceError};
use self::own::{Own, Weighing};
use self::reload::InForce;
use self::unmatched::Unmatched;
use crate::cli::Serve;
use crate::enrich::host;
use crate::event::Config;
use crate::kernel::confine;
use crate::kernel::cost::Costs;
use crate::kernel::facts;
use crate::kernel::load;
use crate::kernel::protect::protect;
use crate::kernel::switch::Switch;
use crate::model::Model;
use crate::outbox::{self, Identity};
use crate::php::Disclosure;
use crate::pipeline::Pipeline;
use crate::run::{self, Control, RunOptions};
use crate::settings::{self, Settings, WatchSource};
use crate::sink::Sink;
use crate::sink::metrics::MetricsSink;
use crate::sink::recorder::{self, Recorder};
use crate::source::Source;
use crate::source::live::{LiveOptions, LiveSource};
use crate::source::procfs::ProcfsSource;
use crate::trace::lines::time_text;

/// Bytes of the kernel's ring buffer, of which each is mapped twice: 13,000 records of the smallest kind, which
/// are fetched each 20 ms.
const RING_BYTES: u64 = 1 << 20;
/// Changes that wait for the loop.
const CHANGES: usize = 4;

/// Serves until SIGTERM or SIGINT.
pub fn execute(args: &Serve, verbose: u8) -> anyhow::Result<()> {
    let loaded = settings::load(args.config.as_deref())?;
    if let Some(notice) = facts::pid_namespace_notice() {
        tracing::warn!("{notice}");
    }
    recorder::join_group();
    let _instance = claim(&loaded.settings)?;
    let in_force = Rc::new(InForce::new(args.config.clone(), loaded));
    run::block_on(LocalSet::new().run_until(open(&in_force, verbose)))
}

/// The state directory. One that cannot be written, such as on a read-only disk, is nobody's: there are
/// still alerts and metrics.
fn claim(settings: &Settings) -> Result<Option<Instance>, InstanceError> {
    if !settings.recorder.enabled {
        return Ok(None);
    }
    match Instance::claim(&settings.recorder.directory) {
        Err(error @ InstanceError::Unusable { .. }) => {
            tracing::debug!("{error}");
            Ok(None)
        }
        claimed => claimed.map(Some),
    }
}

/// With the best source that can be had.
async fn open(in_force: &Rc<InForce>, verbose: u8) -> anyhow::Result<()> {
    let settings = in_force.settings().clone();
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
        // Before capabilities are given away, and before there are threads.
        let switch = settings.metrics.program_cost.then(Switch::keep).flatten();
        match LiveSource::open(&options) {
            Ok(source) => {
                let costs = source.costs(switch).ok();
                return serve(source, costs, in_force).await;
            }
            Err(error) if settings.watch.source == WatchSource::Live => return Err(error.into()),
            Err(error) => tracing::warn!(
                "{error}; going on by polling /proc: OOM kills, stalls and short-lived processes are missed"
            ),
        }
    }
    protect();
    confine::give_away();
    serve(ProcfsSource::open(&config, show)?, None, in_force).await
}

async fn serve<S: Source>(
    mut source: S,
    costs: Option<Costs>,
    in_force: &Rc<InForce>,
) -> anyhow::Result<()> {
    let settings = in_force.settings().clone();
    let systemd = Systemd::connect()?;
    let mut heartbeat = Heartbeat::new(systemd.clone());
    let mut recorder = open_recorder(&settings.recorder);
    let record = recorder.as_ref().map(Recorder::handle);
    let mut metrics = MetricsSink::default();
    let mut unmatched = Unmatched::new(Rc::clone(in_force));
    let mut weighing = costs.map(|costs| Weighing {
        costs: Rc::new(RefCell::new(costs)),
        in_force: Rc::clone(in_force),
    });
    let own = Own {
        metrics: metrics.metrics(),
        recorder: record.clone(),
        in_force: Rc::clone(in_force),
        ready: heartbeat.ready(),
        costs: weighing.as_ref().map(|weighing| Rc::clone(&weighing.costs)),
        bpf_map_bytes: weighing.as_ref().map(|_| load::map_bytes()),
        outbox: Rc::default(),
    };
    let way_out = Rc::clone(&own.outbox);
    let (control, changes) = mpsc::channel(CHANGES);
    let snapshot = move |model: &Model| own.snapshot(model);
    let (mut outbox, handle) =
        outbox::start(identity(), &settings, None, snapshot, control.clone())?;
    way_out.replace(Some(handle.clone()));
    heartbeat.also_through(handle.clone());
    if let Err(error) = confine::filter_system_calls() {
        tracing::warn!("{error}; going on without it");
    }
    let reloads = reload::on_hangup(Rc::clone(in_force), systemd, async move |settings| {
        // What can fail comes first.
        handle.configure(settings)?;
        if let Some(record) = &record {
            record.apply(&settings.recorder);
        }
        // The loop is there as long as this task.
        let _ = control.send(Control::Configure(Box::new(settings.trace_config()))).await;
        Ok(())
    });
    tokio::task::spawn_local(reloads);
    // The recorder first: what it has seen is safe before anybody else can fail.
    let mut sinks: Vec<&mut dyn Sink> = Vec::new();
    sinks.extend(recorder.as_mut().map(|sink| sink as &mut dyn Sink));
    sinks.extend([&mut outbox as &mut dyn Sink, &mut metrics, &mut heartbeat, &mut unmatched]);
    sinks.extend(weighing.as_mut().map(|sink| sink as &mut dyn Sink));
    let mut pipeline = Pipeline::new(sinks);
    let options = RunOptions { duration: None, control: Some(changes) };
    let reason = run::run(&mut source, &mut pipeline, options).await?;
    tracing::info!("ended: {reason}");
    Ok(())
}

/// Without a recorder there are still alerts and metrics.
fn open_recorder(settings: &settings::Recorder) -> Option<Recorder> {
    if !settings.enabled {
        return None;
    }
    let recorder = Recorder::open(settings);
    match &recorder {
        Err(error) => tracing::error!("{error}; nothing is recorded until the next start"),
        Ok(recorder) => {
            if let Some(previous) = recorder.previous_end() {
                let how = if previous.clean { "ended" } else { "was cut off" };
                let when = time_text(previous.wall_ns);
                tracing::info!("the run before {how} at {when}; nothing was recorded since");
            }
        }
    }
    recorder.ok()
}

fn identity() -> Identity {
    let header = host::header(&Config::default(), "");
    Identity { host: header.hostname, version: header.version, boot_id: header.boot_id }
}
