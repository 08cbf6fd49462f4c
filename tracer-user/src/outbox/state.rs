//! What sink, handle and task share: the queue, the courier, and what is known of it. Nothing in here
//! waits, except for the end of the courier when everything ends.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::net::{self, SendFlags, Shutdown};
use tokio::sync::Notify;

use super::audience::Audience;
use super::listen::Listener;
use super::protocol::{Courier, Order, Tell};
use super::queue::Outgoing;
use super::spawn::{Launcher, Running, SpawnError, Start};
use super::totals::Totals;
use super::{Identity, OutboxError, Status};
use crate::event::Lost;
use crate::metrics::Snapshot;
use crate::model::Model;
use crate::settings::Settings;
use crate::text;

/// How long a courier may deliver what it has, when it is to end. It gives up a little before.
pub const DRAIN: Duration = Duration::from_millis(2500);

/// Shared between sink, handle and task, all on one thread.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// There is something for the task to do.
    pub wake: Notify,
    /// Starts couriers.
    pub launcher: Launcher,
}

/// What changes.
#[derive(Debug)]
pub struct State {
    pub out: Outgoing,
    pub totals: Totals,
    /// This end of the connection; None = no courier, or it is to end.
    link: Option<UnixStream>,
    pub running: Option<Running>,
    pub deaths: u64,
    /// The courier has to be started anew: it would listen at the old address.
    pub renew: bool,
    pub over: bool,
    program: PathBuf,
    courier: Courier,
    listener: Option<Listener>,
    audience: Audience,
    ready: (bool, String),
    /// What the courier asked, to be answered with the next pulse.
    pub question: Option<u64>,
    /// Alerts lost on the way to the courier: ever, and not told yet.
    lost: u64,
    lost_news: u64,
}

impl Shared {
    /// Starts the courier, unless nobody is to be told.
    pub async fn new(
        identity: Identity,
        settings: &Settings,
        listener: Option<Listener>,
        program: PathBuf,
    ) -> Result<Self, OutboxError> {
        let mut state = State {
            out: Outgoing::default(),
            totals: Totals::default(),
            link: None,
            running: None,
            deaths: 0,
            renew: false,
            over: false,
            program,
            courier: Courier {
                host: identity.host,
                version: identity.version,
                boot_id: identity.boot_id,
                start_wall_ns: wall_ns(),
                alerts: settings.alerts.clone(),
                metrics: settings.metrics.clone(),
            },
            listener,
            audience: Audience::new(&settings.trace_config().filters)?,
            ready: (false, "the tracer is starting".to_owned()),
            question: None,
            lost: 0,
            lost_news: 0,
        };
        state.out.settings(&Order::Configure(Box::new(state.courier.clone())))?;
        let launcher = Launcher::new().map_err(SpawnError::Link)?;
        if state.courier.is_wanted() {
            // One that cannot be started for want of memory is started later; a missing one stops the start.
            match launcher.start(state.start()?).await.unwrap_or(Err(SpawnError::Nobody)) {
                Ok(started) => state.started(started)?,
                Err(error) if error.is_passing() => tracing::warn!("{error}"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { state: Mutex::new(state), wake: Notify::new(), launcher })
    }

    /// Not to be held while anything is waited for.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends or queues an alert, if it concerns anybody.
    pub fn tell(&self, model: &Model, alert: &Tell<'_>) {
        let mut state = self.lock();
        if !state.courier.is_wanted() || !state.audience.wants(model, alert.finding) {
            return;
        }
        if !state.out.alert(alert) {
            state.lose(1);
        }
        self.send(&mut state);
    }

    /// The tracer is alive.
    pub fn alive(&self) {
        let mut state = self.lock();
        if state.link.is_some() {
            let (ready, reason) = state.ready.clone();
            state.out.alive(&Order::Alive { ready, reason });
            self.send(&mut state);
        }
    }

    /// What signs of life say from now on.
    pub fn ready(&self, ready: bool, reason: &str) {
        self.lock().ready = (ready, reason.to_owned());
    }

    /// Answers the courier.
    pub fn answer(&self, id: u64, snapshot: Snapshot) {
        let mut state = self.lock();
        if let Err(error) = state.out.answer(&Order::Metrics { id, snapshot: Box::new(snapshot) }) {
            tracing::warn!("the metrics are not served: {error}");
        }
        self.send(&mut state);
    }

    /// Changes the settings.
    pub fn configure(&self, settings: &Settings) -> Result<(), OutboxError> {
        let mut state = self.lock();
        let mut audience = Audience::new(&settings.trace_config().filters)?;
        let old = &state.courier.metrics.listen;
        let moved = *old != settings.metrics.listen;
        let listener = if moved { Listener::bind(&settings.metrics)? } else { None };
        let mut courier = state.courier.clone();
        courier.alerts = settings.alerts.clone();
        courier.metrics = settings.metrics.clone();
        state.out.settings(&Order::Configure(Box::new(courier.clone())))?;
        audience.inherit(&mut state.audience);
        state.audience = audience;
        if moved {
            state.listener = listener;
        }
        state.renew |= moved || !courier.is_wanted();
        state.courier = courier;
        if state.renew {
            state.hang_up();
        }
        self.send(&mut state);
        self.wake.notify_one();
        Ok(())
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let state = self.lock();
        Status {
            courier_deaths: state.deaths,
            courier_tgid: state.running.as_ref().map(Running::tgid),
            waiting_bytes: state.out.waiting_bytes(),
            lost: state.lost,
            deliveries: state.totals.deliveries(),
        }
    }

    /// Losses since the last call, of one source.
    pub fn take_lost(&self) -> Option<Lost> {
        let mut state = self.lock();
        let alerts = std::mem::take(&mut state.lost_news);
        if alerts > 0 {
            return Some(Lost { source: "alerts".into(), records: alerts });
        }
        let (receiver, records) = state.totals.take_news()?;
        let receiver = text::printable(&receiver);
        Some(Lost { source: format!("alert:{receiver}").into(), records })
    }

    /// Ends the courier, after it had its time to deliver.
    pub fn end(&self) {
        let running = {
            let mut state = self.lock();
            state.over = true;
            let _ = state.flush();
            state.hang_up();
            state.running.take()
        };
        self.wake.notify_one();
        if let Some(running) = running {
            running.end(DRAIN);
        }
    }

    /// Sends what can be sent without waiting; the task sends the rest.
    fn send(&self, state: &mut State) {
        if state.flush().is_err() {
            self.wake.notify_one();
        }
    }
}

impl State {
    /// Whether somebody is to be told of anything.
    pub fn is_wanted(&self) -> bool {
        self.courier.is_wanted()
    }

    /// What is to be started now; it is as the settings want it.
    pub fn start(&mut self) -> Result<Start, SpawnError> {
        self.renew = false;
        let listener = self.listener.as_ref().map(Listener::duplicate).transpose()?;
        Ok(Start { program: self.program.clone(), listener })
    }

    /// A courier runs, and is sent the settings first.
    pub fn started(&mut self, (running, link): (Running, UnixStream)) -> Result<(), OutboxError> {
        self.running = Some(running);
        self.link = Some(link);
        self.out.settings(&Order::Configure(Box::new(self.courier.clone())))?;
        let _ = self.flush();
        Ok(())
    }

    /// A second handle on this end of the connection, for the task.
    pub fn link(&self) -> Option<Result<UnixStream, SpawnError>> {
        self.link.as_ref().map(|link| link.try_clone().map_err(SpawnError::Link))
    }

    /// Sends as much as goes. WouldBlock = the courier does not read fast enough.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        loop {
            let chunk = self.out.chunk();
            if chunk.is_empty() {
                return Ok(());
            }
            match net::send(link, chunk, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => self.out.advance(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
                // The task reads the end of the connection, and does what is to be done.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Sends nothing more to this courier, which ends for that.
    pub fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            let _ = net::shutdown(&link, Shutdown::Write);
        }
    }

    /// The courier is gone: what was on its way in it is lost, what waits here goes to the next one.
    pub fn gone(&mut self) {
        self.hang_up();
        self.running = None;
        let sent = self.out.reconnect();
        let unknown = self.totals.courier_gone(sent);
        self.lose(unknown);
    }

    fn lose(&mut self, alerts: u64) {
        self.lost = self.lost.saturating_add(alerts);
        self.lost_news = self.lost_news.saturating_add(alerts);
    }
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
