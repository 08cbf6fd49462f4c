//! The middle of the courier: takes orders from the tracer, keeps the receivers as the settings say,
//! and reports.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rampage::event::Severity;
use rampage::outbox::frame::{self, Decoder};
use rampage::outbox::protocol::{
    Alert, Courier, Delivery, EXPORTS, MAX_FRAME_BYTES, Order, Report,
};
use rampage::settings::{CommandAlert, Otlp, Webhook};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::command::Program;
use crate::endpoint::{Endpoint, Health};
use crate::journal::{self, Journal};
use crate::otlp::{self, Collector, Logs};
use crate::question::Questions;
use crate::receiver::{About, Queue, Told, Worker};
use crate::say;
use crate::webhook::Hook;

/// How long receivers have to take what waits when the tracer ends, and then their last attempts to end.
const DRAIN: Duration = Duration::from_secs(2);

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Names another socket for the journal, in tests.
const JOURNAL_VARIABLE: &str = "RAMPAGE_JOURNAL_SOCKET";

/// The settings of a receiver.
#[derive(Clone, Debug, PartialEq)]
enum Config {
    Journal(PathBuf),
    Webhook(Box<Webhook>),
    Command(Box<CommandAlert>),
    Otlp(Box<Otlp>),
}

impl Config {
    fn problem(&self) -> Option<String> {
        match self {
            Self::Journal(path) => Journal::problem(path),
            Self::Webhook(settings) => Hook::problem(settings).map(|bad| bad.to_string()),
            Self::Command(settings) => Program::problem(settings),
            Self::Otlp(settings) => otlp::problem(settings).map(|bad| bad.to_string()),
        }
    }
}

struct Receiver {
    config: Config,
    least: Severity,
    queue: Arc<Queue>,
    worker: Worker,
    /// The export of metrics, and what became of it.
    beside: Option<(AbortHandle, Arc<Queue>)>,
}

impl Receiver {
    fn deliveries(&self) -> impl Iterator<Item = Delivery> {
        let beside = self.beside.as_ref().map(|(_, exports)| exports.delivery());
        [self.queue.delivery()].into_iter().chain(beside)
    }
}

/// All that the courier has.
struct Hub {
    about: Arc<About>,
    start_wall_ns: i64,
    receivers: BTreeMap<String, Receiver>,
    /// Final counts of receivers that the settings do not have any more.
    departed: Vec<Delivery>,
    alerts: u64,
    reported: Option<(u64, Vec<Delivery>)>,
    questions: Arc<Questions>,
    health: Arc<Health>,
    endpoint: Option<Endpoint>,
    reports: mpsc::Sender<Report>,
}

/// Serves the tracer at the other end of `link` until that hangs up.
pub async fn run(link: net::UnixStream, listener: Option<OwnedFd>) -> anyhow::Result<()> {
    link.set_nonblocking(true).context("cannot watch the connection")?;
    let link = UnixStream::from_std(link).context("cannot watch the connection")?;
    let (mut orders, replies) = link.into_split();
    let (reports, outgoing) = mpsc::channel(64);
    let writer = tokio::spawn(write(outgoing, replies));
    let questions = Arc::new(Questions::new(reports.clone()));
    let health = Arc::new(Health::default());
    let endpoint = listener
        .map(|listener| Endpoint::start(listener, Arc::clone(&questions), Arc::clone(&health)))
        .transpose()
        .context("cannot serve the metrics")?;
    // Whoever ends the service or its terminal signals all its processes; this one ends when the tracer
    // has hung up. Caught and not ignored: what it runs would inherit that.
    let _caught = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()
        .context("cannot catch signals")?;
    let mut hub = Hub {
        about: Arc::default(),
        start_wall_ns: 0,
        receivers: BTreeMap::new(),
        departed: Vec::new(),
        alerts: 0,
        reported: None,
        questions,
        health,
        endpoint,
        reports,
    };
    let mut decoder = Decoder::new(MAX_FRAME_BYTES);
    let mut piece = vec![0; 16 << 10];
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = orders.read(&mut piece) => match read {
                Ok(0) => break,
                Ok(bytes) => decoder.push(&piece[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error).context("cannot read from the tracer"),
            },
            _ = ticks.tick() => hub.report(),
        }
        while let Some(order) = decoder.take().context("the tracer is not understood")? {
            hub.order(order);
        }
    }
    hub.drain().await;
    drop(hub);
    // The tracer may be gone already.
    let _ = timeout(Duration::from_millis(200), writer).await;
    Ok(())
}

async fn write(mut outgoing: mpsc::Receiver<Report>, mut replies: OwnedWriteHalf) {
    let mut bytes = Vec::new();
    while let Some(report) = outgoing.recv().await {
        if let Err(error) = frame::encode(&report, &mut bytes) {
            say(format_args!("a report is not sent: {error}"));
        } else if replies.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

impl Hub {
    fn order(&mut self, order: Order) {
        match order {
            Order::Configure(courier) => self.configure(*courier),
            Order::Tell(alert) => self.tell(*alert),
            Order::Metrics { id, snapshot } => self.questions.answer(id, *snapshot),
            Order::Alive { ready, reason } => self.health.alive(ready, reason),
        }
    }

    fn tell(&mut self, alert: Alert) {
        self.alerts += 1;
        let severity = alert.finding.severity;
        let told = Arc::new(Told { about: Arc::clone(&self.about), alert, since: Instant::now() });
        for receiver in self.receivers.values().filter(|one| severity >= one.least) {
            receiver.queue.push(Arc::clone(&told));
        }
    }

    fn configure(&mut self, courier: Courier) {
        let mut problems = Vec::new();
        let wanted = wanted(&courier, &mut problems);
        let about =
            About { host: courier.host, version: courier.version, boot_id: courier.boot_id };
        let same_about = *self.about == about;
        self.about = Arc::new(about);
        self.start_wall_ns = courier.start_wall_ns;
        let mut before = std::mem::take(&mut self.receivers);
        for (name, (least, config)) in wanted {
            let receiver = match before.remove(&name) {
                Some(same) if same.config == config && same_about => Receiver { least, ..same },
                other => self.start(&name, least, config, other),
            };
            self.receivers.insert(name, receiver);
        }
        for (_, gone) in before {
            self.dismiss(gone);
        }
        let _ = self.reports.try_send(Report::Configured { problems });
    }

    /// A receiver; what waits for the one of that name before, and its counts, go on with it.
    fn start(
        &self,
        name: &str,
        least: Severity,
        config: Config,
        before: Option<Receiver>,
    ) -> Receiver {
        let mut exports = None;
        let (queue, before) = match before {
            Some(before) => {
                if let Some((export, counts)) = before.beside {
                    export.abort();
                    exports = Some(counts);
                }
                (before.queue, Some(before.worker))
            }
            None => (Queue::new(name), None),
        };
        let mut beside = None;
        let own = Arc::clone(&queue);
        let worker = match config.clone() {
            Config::Journal(path) => {
                Worker::start(own, Journal::new(path), journal::GIVE_UP, before)
            }
            Config::Webhook(settings) => {
                let give_up = settings.give_up.get();
                Worker::start(own, Hook::new(*settings), give_up, before)
            }
            Config::Command(settings) => {
                Worker::start(own, Program::new(*settings), Duration::ZERO, before)
            }
            Config::Otlp(settings) => {
                let give_up = settings.give_up.get();
                let exports =
                    exports.unwrap_or_else(|| Queue::new(&format!("{EXPORTS}{}", settings.name)));
                let export = otlp::export(
                    (*settings).clone(),
                    Collector::new((*settings).clone()),
                    Arc::clone(&self.about),
                    self.start_wall_ns,
                    Arc::clone(&self.questions),
                    Arc::clone(&exports),
                );
                beside = Some((tokio::spawn(export).abort_handle(), exports));
                Worker::start(own, Logs::new(Collector::new(*settings)), give_up, before)
            }
        };
        Receiver { config, least, queue, worker, beside }
    }

    /// The settings do not have it any more: what waits for it is lost.
    fn dismiss(&mut self, receiver: Receiver) {
        if let Some((export, _)) = &receiver.beside {
            export.abort();
        }
        receiver.queue.abandon();
        self.departed.extend(receiver.deliveries());
        tokio::spawn(receiver.worker.stop());
    }

    /// Tells the tracer what became of the alerts, if that has changed.
    fn report(&mut self) {
        let mut receivers: Vec<_> =
            self.receivers.values().flat_map(Receiver::deliveries).collect();
        receivers.extend(self.endpoint.as_ref().map(Endpoint::delivery));
        let news = (self.alerts, receivers);
        if self.departed.is_empty() && self.reported.as_ref() == Some(&news) {
            return;
        }
        let mut all = std::mem::take(&mut self.departed);
        all.extend(news.1.iter().cloned());
        let report = Report::Deliveries { alerts: news.0, receivers: all };
        match self.reports.try_send(report) {
            Ok(()) => self.reported = Some(news),
            // The tracer does not read now; it is told later.
            Err(error) => {
                if let Report::Deliveries { mut receivers, .. } = error.into_inner() {
                    receivers.truncate(receivers.len() - news.1.len());
                    self.departed = receivers;
                }
            }
        }
    }

    /// Lets the receivers take what waits, as far as that goes quickly, and reports a last time.
    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        while Instant::now() < until && self.receivers.values().any(|one| waits(&one.queue)) {
            sleep(Duration::from_millis(10)).await;
        }
        for receiver in self.receivers.values() {
            receiver.queue.abandon();
        }
        self.report();
    }
}

fn waits(queue: &Queue) -> bool {
    queue.delivery().queued > 0
}

/// Receivers by name, each with its least severity.
fn wanted(courier: &Courier, problems: &mut Vec<String>) -> BTreeMap<String, (Severity, Config)> {
    let alerts = &courier.alerts;
    let least = |own: Option<Severity>| own.unwrap_or(alerts.min_severity);
    let journal = alerts.journal.then(|| {
        let path = std::env::var_os(JOURNAL_VARIABLE).unwrap_or_else(|| journal::SOCKET.into());
        ("journal".to_owned(), least(None), Config::Journal(path.into()))
    });
    let webhooks = alerts.webhook.iter().map(|one| {
        let config = Config::Webhook(Box::new(one.clone()));
        (format!("webhook:{}", one.name), least(one.min_severity), config)
    });
    let commands = alerts.command.iter().map(|one| {
        let config = Config::Command(Box::new(one.clone()));
        (format!("command:{}", one.name), least(one.min_severity), config)
    });
    let collectors = alerts.otlp.iter().map(|one| {
        let config = Config::Otlp(Box::new(one.clone()));
        (format!("otlp:{}", one.name), least(one.min_severity), config)
    });
    let mut all = BTreeMap::new();
    for (name, least, config) in
        journal.into_iter().chain(webhooks).chain(commands).chain(collectors)
    {
        if let Some(problem) = config.problem() {
            problems.push(format!("{name}: {problem}"));
        }
        match all.entry(name) {
            Entry::Occupied(first) => {
                problems.push(format!("{} is there twice, the first one holds", first.key()));
            }
            Entry::Vacant(free) => {
                free.insert((least, config));
            }
        }
    }
    all
}
