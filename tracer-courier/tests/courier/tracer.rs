//! The tracer's end, by hand: starts the courier, gives orders, reads reports.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rampage::event::{Finding, Severity, Subject};
use rampage::outbox::frame::{Decoder, encode};
use rampage::outbox::listen::Listener;
use rampage::outbox::protocol::{Alert, Courier, Delivery, Order, Report};
use rampage::outbox::spawn::{Running, Start, spawn};
use rampage::settings::{Alerts, Metrics};

/// The courier that was built for these tests.
pub fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_rampage-courier").into()
}

/// A courier; it is killed when this is dropped.
pub struct Tracer {
    pub courier: Running,
    pub link: UnixStream,
    decoder: Decoder,
    deliveries: Vec<Delivery>,
    pub problems: Vec<String>,
}

impl Tracer {
    /// Starts it without an endpoint, for these receivers.
    pub fn start(alerts: Alerts) -> Self {
        Self::with_listener(alerts, None)
    }

    pub fn with_listener(alerts: Alerts, listener: Option<&Listener>) -> Self {
        let listener = listener.map(|listener| listener.duplicate().unwrap());
        let (courier, link) = spawn(Start { program: program(), listener }).unwrap();
        link.set_nonblocking(false).unwrap();
        link.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let decoder = Decoder::new(1 << 20);
        let mut tracer =
            Self { courier, link, decoder, deliveries: Vec::new(), problems: Vec::new() };
        tracer.configure(alerts);
        tracer
    }

    pub fn configure(&mut self, alerts: Alerts) {
        let metrics = Metrics { listen: String::new(), ..Metrics::default() };
        self.order(&Order::Configure(Box::new(Courier {
            host: "web-3".to_owned(),
            version: "1.2.3".to_owned(),
            boot_id: "b00t".to_owned(),
            start_wall_ns: 1_600_000_000_000_000_000,
            alerts,
            metrics,
        })));
    }

    pub fn order(&mut self, order: &Order) {
        let mut frame = Vec::new();
        encode(order, &mut frame).unwrap();
        self.link.write_all(&frame).unwrap();
    }

    pub fn tell(&mut self, ids: std::ops::RangeInclusive<u64>) {
        for id in ids {
            self.order(&Order::Tell(Box::new(alert(id, Severity::Critical))));
        }
    }

    /// Reports that came in within some milliseconds.
    pub fn read(&mut self) -> Vec<Report> {
        let mut piece = [0; 4096];
        match self.link.read(&mut piece) {
            Ok(bytes) => self.decoder.push(&piece[..bytes]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
        let mut reports = Vec::new();
        while let Some(report) = self.decoder.take().unwrap() {
            match &report {
                Report::Deliveries { receivers, .. } => self.deliveries = receivers.clone(),
                Report::Configured { problems } => self.problems = problems.clone(),
                Report::WantMetrics { .. } => {}
            }
            reports.push(report);
        }
        reports
    }

    /// Waits until what became of the alerts of a receiver is as wanted.
    pub fn wait(&mut self, receiver: &str, wanted: impl Fn(&Delivery) -> bool) -> Delivery {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            self.read();
            let now = self.deliveries.iter().find(|one| one.receiver == receiver);
            if let Some(now) = now.filter(|now| wanted(now)) {
                return now.clone();
            }
            assert!(Instant::now() < until, "{receiver}: {now:?}");
        }
    }
}

/// Waits up to 20 s.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// No receiver at all.
pub fn nobody() -> Alerts {
    Alerts { journal: false, ..Alerts::default() }
}

pub fn alert(id: u64, severity: Severity) -> Alert {
    Alert { t_ns: 1_000 + id, wall_ns: 1_700_000_000_000_000_000, finding: finding(id, severity) }
}

pub fn finding(id: u64, severity: Severity) -> Finding {
    let text = include_str!("../../../tracer-user/src/outbox/finding.json");
    let mut finding: Finding = serde_json::from_str(text).unwrap();
    finding.subject =
        finding.subject.map(|subject| Subject { comm: "evil\n\"$(id)".into(), ..subject });
    Finding { id, severity, summary: format!("finding {id}"), ..finding }
}
