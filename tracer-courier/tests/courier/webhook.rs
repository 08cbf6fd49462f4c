//! Webhooks that fail, hang, lie and send elsewhere.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rampage::event::Severity;
use rampage::settings::{Alerts, Span, Webhook, WebhookFormat};

use crate::tracer::{Tracer, nobody};
use crate::web::{Act, Web};

fn hook(name: &str, url: &str) -> Webhook {
    Webhook {
        name: name.to_owned(),
        url: format!("{url}/hook"),
        format: WebhookFormat::Json,
        headers: [("X-Token".to_owned(), "s3cret".to_owned())].into(),
        min_severity: None,
        timeout: Span::from_secs(1),
        give_up: Span::from_secs(60),
    }
}

fn hooks(webhook: Vec<Webhook>) -> Alerts {
    Alerts { webhook, ..nobody() }
}

#[test]
fn every_finding_arrives_once_and_in_order_though_the_receiver_fails_at_first() {
    let web = Web::start(|request| match request {
        0 => Act::Answer(500, String::new()),
        1 => Act::Answer(429, "Retry-After: 3\r\n".to_owned()),
        2 => Act::Junk,
        _ => Act::Answer(204, String::new()),
    });
    let since = Instant::now();
    let mut tracer = Tracer::start(hooks(vec![hook("ops", &web.url)]));
    tracer.tell(1..=50);
    let delivery = tracer.wait("webhook:ops", |now| now.delivered == 50);
    assert_eq!((delivery.retried, delivery.lost, delivery.queued), (3, 0, 0));
    assert!(since.elapsed() > Duration::from_secs(3), "Retry-After is respected");
    assert_eq!(web.ids(), (1..=50).collect::<Vec<_>>());
    let first = &web.taken()[0];
    assert_eq!(first.path, "/hook");
    assert!(first.headers.contains("x-token: s3cret\r\n"));
    assert!(first.headers.contains("content-type: application/json\r\n"));
    assert!(first.headers.contains("idempotency-key: b00t-1-1001\r\n"));
    assert_eq!(first.json()["host"], "web-3");
    assert_eq!(first.json()["subject"]["comm"], "evil\n\"$(id)");
}

#[test]
fn names_are_looked_up_without_a_thread() {
    let web = Web::ok();
    let url = web.url.replace("127.0.0.1", "localhost");
    let mut tracer = Tracer::start(hooks(vec![hook("ops", &url)]));
    tracer.tell(1..=3);
    tracer.wait("webhook:ops", |now| now.delivered == 3);
    let threads = std::fs::read_dir(format!("/proc/{}/task", tracer.courier.tgid())).unwrap();
    assert_eq!(threads.count(), 1);
}

#[test]
fn a_long_pause_that_a_receiver_asks_for_loses_nothing_and_is_kept() {
    let web = Web::start(|_| Act::Answer(429, "Retry-After: 3600\r\n".to_owned()));
    let mut tracer = Tracer::start(hooks(vec![hook("ops", &web.url)]));
    tracer.tell(1..=20);
    tracer.wait("webhook:ops", |now| now.queued == 20);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        tracer.read();
    }
    let delivery = tracer.wait("webhook:ops", |_| true);
    assert_eq!((web.asked(), delivery.lost, delivery.queued), (1, 0, 20));
}

#[test]
fn a_bad_receiver_costs_only_its_own_counted_loss() {
    let good = Web::ok();
    let hanging = Web::start(|_| Act::Hang);
    let lying = Web::start(|_| Act::Junk);
    let flooding = Web::start(|_| Act::Flood);
    let target = good.url.clone();
    let elsewhere = Web::start(move |_| Act::Answer(302, format!("Location: {target}/hook\r\n")));
    let impatient =
        |name, web: &Web| Webhook { give_up: Span::from_secs(2), ..hook(name, &web.url) };
    let mut tracer = Tracer::start(hooks(vec![
        impatient("hanging", &hanging),
        hook("good", &good.url),
        impatient("lying", &lying),
        impatient("elsewhere", &elsewhere),
        hook("flooding", &flooding.url),
    ]));
    let since = Instant::now();
    tracer.tell(1..=200);
    assert_eq!(tracer.wait("webhook:good", |now| now.delivered == 200).lost, 0);
    assert!(since.elapsed() < Duration::from_secs(10));
    tracer.tell(201..=300);
    tracer.wait("webhook:good", |now| now.delivered == 300);
    assert_eq!(good.ids(), (1..=300).collect::<Vec<_>>());
    for name in ["hanging", "lying", "elsewhere"] {
        let delivery = tracer.wait(&format!("webhook:{name}"), |now| now.lost == 300);
        assert_eq!(delivery.delivered, 0, "{name}");
    }
    // Taken by its status; what it sends after that is not waited for.
    tracer.wait("webhook:flooding", |now| now.delivered >= 20);
    let status = std::fs::read_to_string(format!("/proc/{}/status", tracer.courier.tgid()));
    let peak = status.unwrap().lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    assert!(peak.unwrap() < 40 << 10, "{peak:?} KiB at the peak, with its debug information");
}

#[test]
fn what_waits_while_a_receiver_is_down_arrives_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut tracer = Tracer::start(hooks(vec![hook("ops", &format!("http://{address}"))]));
    tracer.tell(1..=20);
    tracer.wait("webhook:ops", |now| now.retried >= 2 && now.queued == 20);
    let web = Web::on(TcpListener::bind(address).unwrap(), |_| Act::Answer(200, String::new()));
    let delivery = tracer.wait("webhook:ops", |now| now.delivered == 20);
    assert_eq!(delivery.lost, 0);
    assert_eq!(web.ids(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn changed_settings_take_over_what_waits_and_a_receiver_that_goes_is_counted() {
    let hanging = Web::start(|_| Act::Hang);
    let good = Web::ok();
    let mut tracer =
        Tracer::start(hooks(vec![hook("ops", &hanging.url), hook("gone", &hanging.url)]));
    tracer.tell(1..=30);
    tracer.wait("webhook:ops", |now| now.queued == 30);
    let slack = Webhook { format: WebhookFormat::Slack, ..hook("ops", &good.url) };
    tracer.configure(hooks(vec![slack]));
    let gone = tracer.wait("webhook:gone", |now| now.lost > 0);
    assert_eq!((gone.delivered, gone.lost, gone.queued), (0, 30, 0));
    tracer.wait("webhook:ops", |now| now.delivered == 30);
    let texts: Vec<_> = good.taken().iter().map(|one| one.json()["text"].clone()).collect();
    assert_eq!(texts.len(), 30);
    assert_eq!(texts[0], "*CRITICAL* web-3: finding 1");
}

#[test]
fn the_least_severity_and_bad_settings() {
    let good = Web::ok();
    let critical = Webhook {
        min_severity: Some(rampage::event::Severity::Critical),
        ..hook("critical", &good.url)
    };
    let mut tracer = Tracer::start(hooks(vec![
        critical,
        hook("bad", "gopher://nowhere"),
        hook("critical", &good.url),
    ]));
    let warning = crate::tracer::alert(1, Severity::Warning);
    tracer.order(&rampage::outbox::protocol::Order::Tell(Box::new(warning)));
    tracer.tell(2..=2);
    tracer.wait("webhook:critical", |now| now.delivered == 1);
    assert_eq!(good.ids(), [2]);
    assert_eq!(tracer.wait("webhook:bad", |now| now.lost == 2).delivered, 0);
    assert_eq!(tracer.problems.len(), 2, "{:?}", tracer.problems);
    assert_eq!(good.asked(), 1);
}
