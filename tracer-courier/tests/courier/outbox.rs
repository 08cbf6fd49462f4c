//! The tracer's side: what the pipeline sees of a courier that stops, dies, or has no receiver.

use std::path::Path;
use std::time::{Duration, Instant};

use rampage::event::{Config, Event, Severity, Stamped};
use rampage::metrics::Snapshot;
use rampage::model::Model;
use rampage::outbox::listen::Listener;
use rampage::outbox::{Handle, Identity, Outbox, OutboxError, start};
use rampage::run::Control;
use rampage::settings::{Alerts, Metrics, Settings, Span, Webhook, WebhookFormat};
use rampage::sink::Sink;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::tracer::{finding, nobody, program};
use crate::web::Web;

fn settings(url: &str, listen: &str) -> Settings {
    let webhook = Webhook {
        name: "ops".to_owned(),
        url: url.to_owned(),
        format: WebhookFormat::Json,
        headers: [].into(),
        min_severity: None,
        timeout: Span::from_secs(2),
        give_up: Span::from_secs(60),
    };
    Settings {
        alerts: Alerts { webhook: vec![webhook], ..nobody() },
        metrics: Metrics { listen: listen.to_owned(), ..Metrics::default() },
        ..Settings::default()
    }
}

async fn open(settings: &Settings) -> (Outbox, Handle, mpsc::Receiver<Control>) {
    let (control, requests) = mpsc::channel(1);
    let snapshot = |_: &Model| Snapshot::default();
    let listener = Listener::bind(&settings.metrics).unwrap();
    let started =
        start(Identity::default(), settings, listener, Some(program()), snapshot, control).await;
    let (outbox, handle) = started.unwrap();
    (outbox, handle, requests)
}

/// Asks the endpoint while the run goes on: it has a pulse when the courier wants the metrics. Returns the
/// answer, and how often that was.
async fn get(
    socket: &Path,
    path: &str,
    outbox: &mut Outbox,
    requests: &mut mpsc::Receiver<Control>,
) -> (String, usize) {
    let ask = async {
        let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ask = timeout(Duration::from_secs(20), ask);
    tokio::pin!(ask);
    let model = Model::new(&Config::default());
    let mut pulses = 0;
    loop {
        tokio::select! {
            answer = &mut ask => return (answer.unwrap(), pulses),
            Some(Control::Refresh) = requests.recv() => {
                pulses += 1;
                outbox.pulse(&model).unwrap();
            }
        }
    }
}

fn tell(outbox: &mut Outbox, model: &Model, id: u64) {
    let event = Event::Finding(Box::new(finding(id, Severity::Critical)));
    outbox.event(model, &Stamped { t_ns: id, wall_ns: 1, event }).unwrap();
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "not within 30 s: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn signal(handle: &Handle, signal: Signal) {
    let tgid = handle.status().courier_tgid.unwrap();
    kill_process(Pid::from_raw(tgid.cast_signed()).unwrap(), signal).unwrap();
}

/// CPU time of this thread, and how often it gave up its processor to wait for something.
fn spent() -> (Duration, u64) {
    let read = |name| std::fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let ns = read("schedstat").split(' ').next().unwrap().parse().unwrap();
    let status = read("status");
    let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    (Duration::from_nanos(ns), waits.unwrap().trim().parse().unwrap())
}

fn ops(handle: &Handle) -> (u64, u64) {
    let all = handle.status().deliveries;
    let ops = all.iter().find(|one| one.receiver == "webhook:ops");
    ops.map_or((0, 0), |ops| (ops.delivered, ops.lost))
}

#[tokio::test]
async fn a_courier_that_stops_reading_costs_the_pipeline_nothing_but_counted_losses() {
    let web = Web::ok();
    let model = Model::new(&Config::default());
    let (mut outbox, handle, _requests) = open(&settings(&web.url, "")).await;
    tell(&mut outbox, &model, 1);
    until("the first is delivered", || ops(&handle).0 == 1).await;
    signal(&handle, Signal::STOP);
    let mut took = Vec::new();
    let before = spent();
    for id in 2..=10_000 {
        let since = Instant::now();
        tell(&mut outbox, &model, id);
        if id % 100 == 0 {
            outbox.pulse(&model).unwrap();
        }
        took.push(since.elapsed());
        if id % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (cpu, waits) = (spent().0 - before.0, spent().1 - before.1);
    took.sort_unstable();
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let status = handle.status();
    println!(
        "median {median:?}, longest {longest:?}, {cpu:?} of CPU, waited {waits} times; {status:?}"
    );
    assert!(median < Duration::from_millis(1), "{median:?}");
    // Others use these processors too, and time alone would tell of them: it never waited by itself.
    assert!(cpu < Duration::from_millis(1) * took.len() as u32, "{cpu:?}");
    assert!(waits < 10, "{waits}");
    assert!(status.lost > 5000 && status.waiting_bytes <= 1 << 20, "{status:?}");
    let told = outbox.take_lost().unwrap();
    assert_eq!((&*told.source, told.records), ("alerts", status.lost));
    assert!(outbox.take_lost().is_none());
    signal(&handle, Signal::CONT);
    until("all are accounted for", || {
        let (delivered, lost) = ops(&handle);
        delivered + lost + status.lost == 10_000
    })
    .await;
    let (delivered, lost) = ops(&handle);
    assert_eq!(web.ids().len() as u64, delivered);
    // What the courier's own queue did not hold is told, too.
    let told = outbox.take_lost().map_or(0, |told| {
        assert_eq!(&*told.source, "alert:webhook:ops");
        told.records
    });
    assert_eq!(told, lost);
    outbox.finish().unwrap();
}

#[tokio::test]
async fn a_killed_courier_is_started_again_and_what_was_queued_arrives() {
    let web = Web::ok();
    let model = Model::new(&Config::default());
    let (mut outbox, handle, _requests) = open(&settings(&web.url, "")).await;
    tell(&mut outbox, &model, 1);
    until("the first is delivered", || ops(&handle).0 == 1).await;
    let first = handle.status().courier_tgid;
    signal(&handle, Signal::KILL);
    until("its death is seen", || handle.status().courier_deaths == 1).await;
    for id in 2..=50 {
        tell(&mut outbox, &model, id);
    }
    until("all are delivered", || ops(&handle).0 == 50).await;
    assert_ne!(handle.status().courier_tgid, first);
    assert_eq!(web.ids(), (1..=50).collect::<Vec<_>>());
    assert_eq!((handle.status().lost, ops(&handle).1), (0, 0));
    // The end of the run lets it deliver what it has.
    for id in 51..=150 {
        tell(&mut outbox, &model, id);
    }
    // systemd tells all processes of a service.
    signal(&handle, Signal::TERM);
    outbox.finish().unwrap();
    assert_eq!(web.ids(), (1..=150).collect::<Vec<_>>());
}

#[tokio::test]
async fn metrics_are_answered_with_one_pulse_and_a_new_address_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let listen = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let web = Web::ok();
    let model = Model::new(&Config::default());
    let (mut outbox, handle, mut requests) = open(&settings(&web.url, &listen("one"))).await;
    handle.ready(true, "");
    outbox.pulse(&model).unwrap();
    let at = |name: &str| folder.path().join(name);
    let (ready, pulses) = get(&at("one"), "/readyz", &mut outbox, &mut requests).await;
    assert!(ready.ends_with("\nok\n") && pulses == 0, "{ready} after {pulses} pulses");
    let (metrics, pulses) = get(&at("one"), "/metrics", &mut outbox, &mut requests).await;
    assert!(metrics.starts_with("HTTP/1.1 200") && pulses == 1, "{metrics} after {pulses} pulses");
    let first = handle.status().courier_tgid;
    tell(&mut outbox, &model, 1);
    handle.configure(&settings(&web.url, &listen("two"))).unwrap();
    tell(&mut outbox, &model, 2);
    until("there is another courier", || {
        let now = handle.status().courier_tgid;
        now.is_some() && now != first
    })
    .await;
    let (metrics, _) = get(&at("two"), "/metrics", &mut outbox, &mut requests).await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(!folder.path().join("one").exists());
    until("both are delivered", || ops(&handle).0 == 2).await;
    assert_eq!(web.ids(), [1, 2]);
    assert_eq!(handle.status().courier_deaths, 0);
    // What cannot be had leaves everything as it is.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = handle.configure(&settings(&web.url, &listen("file"))).unwrap_err();
    assert!(matches!(error, OutboxError::Listen(_)), "{error}");
    let (health, _) = get(&at("two"), "/healthz", &mut outbox, &mut requests).await;
    assert!(health.starts_with("HTTP/1.1"), "{health}");
    outbox.finish().unwrap();
    assert!(handle.status().courier_tgid.is_none());
}

#[tokio::test]
async fn a_courier_that_is_missing_is_an_error_at_the_start_unless_nobody_is_told() {
    let program = Some("/nonexistent/courier".into());
    let settings = settings("http://127.0.0.1:1/", "");
    let (control, _requests) = mpsc::channel(1);
    let snapshot = |_: &Model| Snapshot::default();
    let identity = Identity::default();
    let started =
        start(identity, &settings, None, program.clone(), snapshot, control.clone()).await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains("/nonexistent/courier") && error.contains("RAMPAGE_COURIER"), "{error}");
    let silent = Settings {
        alerts: nobody(),
        metrics: Metrics { listen: String::new(), ..Metrics::default() },
        ..Settings::default()
    };
    let identity = Identity::default();
    let started = start(identity, &silent, None, program, snapshot, control).await;
    let (mut outbox, handle) = started.unwrap();
    let model = Model::new(&Config::default());
    tell(&mut outbox, &model, 1);
    assert_eq!((handle.status().courier_tgid, handle.status().lost), (None, 0));
    outbox.finish().unwrap();
}
