//! `rampage serve`: the pipeline for months, with a flight recorder, metrics and alerts.
//!
//! Order of the start: settings, state directory, address of the metrics, kernel programs, capabilities given
//! away, threads, system calls given away, courier; then the first look at all processes, and systemd hears that
//! it is ready.

mod heartbeat;
mod own;
mod reload;
mod unmatched;

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::heartbeat::{Heartbeat, Systemd};
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
use crate::outbox::listen::Listener;
use crate::outbox::{self, Identity};
use crate::php::Disclosure;
use crate::pipeline::Pipeline;
use crate::run::{self, Control, RunOptions};
use crate::settings::{self, Settings, WatchSource};
use crate::sink::Sink;
use crate::sink::metrics::MetricsSink;
use crate::sink::recorder::{self, Instance, Recorder, RecorderError, RecorderHandle};
use crate::source::Source;
use crate::source::live::{LiveOptions, LiveSource};
use crate::source::procfs::ProcfsSource;
use crate::trace::lines::time_text;

/// Bytes of the kernel's ring buffer, of which each is mapped twice: 13,000 records of the smallest kind, which
/// are fetched each 20 ms.
const RING_BYTES: u64 = 1 << 20;
/// What the service does without kernel programs.
const POLLING: &str = "by polling /proc: OOM kills, stalls and short-lived processes are missed";
/// Changes that wait for the loop.
const CHANGES: usize = 4;

/// Serves until SIGTERM or SIGINT.
pub fn execute(args: &Serve, verbose: u8) -> anyhow::Result<()> {
    let loaded = settings::load(args.config.as_deref())?;
    if let Some(notice) = facts::pid_namespace_notice() {
        tracing::warn!("{notice}");
    }
    recorder::join_group();
    let state = State::claim(&loaded.settings)?;
    let in_force = Rc::new(InForce::new(args.config.clone(), loaded));
    run::block_on(LocalSet::new().run_until(open(&in_force, state, verbose)))
}

/// The state directory.
enum State {
    /// Nothing is to be recorded.
    Unwanted,
    /// It is this instance's, as long as this lives.
    Ours(#[expect(dead_code, reason = "it holds the lock")] Instance),
    /// It cannot be used, such as on a read-only disk: there are still alerts and metrics.
    Unusable(String),
}

impl State {
    /// An error = another instance has it.
    fn claim(settings: &Settings) -> Result<Self, RecorderError> {
        if !settings.recorder.enabled {
            return Ok(Self::Unwanted);
        }
        match Instance::claim(&settings.recorder.directory) {
            Ok(instance) => Ok(Self::Ours(instance)),
            Err(taken @ RecorderError::Taken { .. }) => Err(taken),
            Err(error) => Ok(Self::Unusable(error.to_string())),
        }
    }
}

/// With the best source that can be had.
async fn open(in_force: &Rc<InForce>, state: State, verbose: u8) -> anyhow::Result<()> {
    // A reload that is asked for from now on is not missed, nor does it end this.
    let hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    let settings = in_force.settings().clone();
    let config = settings.trace_config();
    let listener = Listener::bind(&settings.metrics)?;
    let mut start = Start { state, listener, hangup, lacks: "" };
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
                let is_wanted = settings.metrics.program_cost;
                let costs = is_wanted.then(|| source.costs(switch).ok()).flatten();
                let programs = Programs { costs, map_bytes: load::map_bytes() };
                return serve(source, Some(programs), in_force, start).await;
            }
            Err(error) if settings.watch.source == WatchSource::Live => return Err(error.into()),
            Err(error) => {
                tracing::warn!("{error}; going on {POLLING}");
                start.lacks = POLLING;
            }
        }
    }
    protect();
    confine::give_away();
    serve(ProcfsSource::open(&config, show)?, None, in_force, start).await
}

/// What was had before privileges were given away.
struct Start {
    state: State,
    listener: Option<Listener>,
    hangup: Signal,
    /// Why this is not all that the settings want; empty = it is.
    lacks: &'static str,
}

/// The kernel's side.
struct Programs {
    /// None = they are not to be measured.
    costs: Option<Costs>,
    /// Memory of all maps, bytes.
    map_bytes: u64,
}

async fn serve<S: Source>(
    mut source: S,
    programs: Option<Programs>,
    in_force: &Rc<InForce>,
    start: Start,
) -> anyhow::Result<()> {
    let settings = in_force.settings().clone();
    let systemd = Systemd::connect()?;
    let mut heartbeat = Heartbeat::new(systemd.clone(), start.lacks);
    let (mut recorder, record) = open_recorder(&settings.recorder, &start.state);
    let mut metrics = MetricsSink::default();
    let mut unmatched = Unmatched::new(Rc::clone(in_force));
    let bpf_map_bytes = programs.as_ref().map(|programs| programs.map_bytes);
    let costs = programs.and_then(|programs| programs.costs);
    let mut weighing = costs.map(|costs| Weighing(Rc::new(RefCell::new(costs))));
    let own = Own {
        metrics: metrics.metrics(),
        recorder: record.clone(),
        in_force: Rc::clone(in_force),
        ready: heartbeat.ready(),
        costs: weighing.as_ref().map(|weighing| Rc::clone(&weighing.0)),
        bpf_map_bytes,
        outbox: Rc::default(),
    };
    let way_out = Rc::clone(&own.outbox);
    let (control, changes) = mpsc::channel(CHANGES);
    let snapshot = move |model: &Model| own.snapshot(model);
    // The courier and what it starts inherit it.
    if let Err(error) = confine::filter_system_calls() {
        tracing::warn!("{error}; going on without it");
    }
    let way = outbox::start(identity(), &settings, start.listener, None, snapshot, control.clone());
    let (mut outbox, handle) = way.await?;
    way_out.replace(Some(handle.clone()));
    heartbeat.also_through(handle.clone());
    let reloads =
        reload::on_hangup(Rc::clone(in_force), start.hangup, systemd, async move |settings| {
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

/// The recorder, and what the metrics tell of it: also that there is none although one is wanted. Without it
/// there are still alerts and metrics.
fn open_recorder(
    settings: &settings::Recorder,
    state: &State,
) -> (Option<Recorder>, Option<RecorderHandle>) {
    let opened = match state {
        State::Unwanted => return (None, None),
        State::Unusable(why) => Err(why.clone()),
        State::Ours(_) => Recorder::open(settings).map_err(|error| error.to_string()),
    };
    match opened {
        Err(error) => {
            tracing::error!("{error}; nothing is recorded until the next start");
            (None, Some(RecorderHandle::failed(settings, error)))
        }
        Ok(recorder) => {
            if let Some(previous) = recorder.previous_end() {
                let how = if previous.clean { "ended" } else { "was cut off" };
                let when = time_text(previous.wall_ns);
                tracing::info!("the run before {how} at {when}; nothing was recorded since");
            }
            let handle = recorder.handle();
            (Some(recorder), Some(handle))
        }
    }
}

fn identity() -> Identity {
    let header = host::header(&Config::default(), "");
    Identity { host: header.hostname, version: header.version, boot_id: header.boot_id }
}
