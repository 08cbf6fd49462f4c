//! A collector of OpenTelemetry, over gRPC and over HTTP. The one of gRPC is made of hyper alone: tonic's server
//! would change how its client, in the courier, tells errors.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use rampage::metrics::{Family, Kind, Sample, Snapshot};
use rampage::outbox::protocol::{Order, Report};
use rampage::settings::{Alerts, Otlp, OtlpProtocol, Span};
use tokio::sync::{Notify, oneshot};

use crate::tracer::{Tracer, nobody, until};
use crate::web::{Act, Web};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

#[derive(Default)]
struct Seen {
    asked: usize,
    tokens: usize,
    logs: Vec<ExportLogsServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

/// Hangs up on the first `hang_up` log records that it has read, answers UNAVAILABLE to the next `refuse`,
/// and rejects the record 13.
#[derive(Clone, Copy, Default)]
struct Mood {
    hang_up: usize,
    refuse: usize,
}

/// It listens until this is dropped.
struct Running {
    _stop: oneshot::Sender<()>,
}

fn collect(address: SocketAddr, seen: &Arc<Mutex<Seen>>, mood: Mood) -> Running {
    let seen = Arc::clone(seen);
    let (stop, stopped) = oneshot::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = listen(address, seen, mood) => {}
                _ = stopped => {}
            }
        });
    });
    Running { _stop: stop }
}

async fn listen(address: SocketAddr, seen: Arc<Mutex<Seen>>, mood: Mood) {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, over) = (Arc::clone(&seen), Arc::new(Notify::new()));
        let hang_up = Arc::clone(&over);
        let service = service_fn(move |request| {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            async move { Ok::<_, Infallible>(take(request, &seen, mood, &over).await) }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = hang_up.notified() => {}
            }
        });
    }
}

/// One call.
async fn take(
    request: Request<Incoming>,
    seen: &Mutex<Seen>,
    mood: Mood,
    over: &Notify,
) -> Response<impl Body<Data = Bytes, Error = Infallible> + use<>> {
    let is_logs = request.uri().path().ends_with("LogsService/Export");
    let has_token = request.headers().contains_key("x-token");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // A flag for compression and the length are before the message.
    let message = &body[5..];
    let (mut status, mut answer) = ("0", Vec::new());
    let mut is_over = false;
    {
        let mut seen = seen.lock().unwrap();
        if is_logs {
            seen.asked += 1;
            seen.tokens += usize::from(has_token);
            is_over = seen.asked <= mood.hang_up;
            if seen.asked <= mood.hang_up + mood.refuse {
                status = "14";
            } else {
                let request = ExportLogsServiceRequest::decode(message).unwrap();
                let rejected = i64::from(records(std::slice::from_ref(&request))[0] == 13);
                if rejected == 0 {
                    seen.logs.push(request);
                }
                let error_message = "an unlucky number".to_owned();
                let partial =
                    ExportLogsPartialSuccess { rejected_log_records: rejected, error_message };
                let taken = ExportLogsServiceResponse { partial_success: Some(partial) };
                answer = taken.encode_to_vec();
            }
        } else {
            seen.metrics.push(ExportMetricsServiceRequest::decode(message).unwrap());
            answer = ExportMetricsServiceResponse::default().encode_to_vec();
        }
    }
    if is_over {
        over.notify_one();
        std::future::pending::<()>().await;
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(answer.len() as u32).to_be_bytes());
    framed.extend_from_slice(&answer);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static(status));
    let framed = if status == "0" { Bytes::from(framed) } else { Bytes::new() };
    let body = Full::new(framed).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn otlp(endpoint: String, protocol: OtlpProtocol) -> Alerts {
    let otlp = Otlp {
        name: "fleet".to_owned(),
        endpoint,
        protocol,
        headers: [("x-token".to_owned(), "s3cret".to_owned())].into(),
        min_severity: None,
        metrics_interval: Span::from_secs(0),
        timeout: Span::from_secs(2),
        give_up: Span::from_secs(60),
    };
    Alerts { otlp: vec![otlp], ..nobody() }
}

fn all(requests: &[ExportLogsServiceRequest]) -> Vec<LogRecord> {
    requests
        .iter()
        .flat_map(|request| &request.resource_logs)
        .flat_map(|resource| &resource.scope_logs)
        .flat_map(|scope| scope.log_records.clone())
        .collect()
}

fn attribute(record: &LogRecord, key: &str) -> Option<Value> {
    let found = record.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

/// Ids of findings.
fn records(requests: &[ExportLogsServiceRequest]) -> Vec<i64> {
    let id = |record: &LogRecord| match attribute(record, "rampage.finding.id") {
        Some(Value::IntValue(id)) => id,
        other => panic!("{other:?}"),
    };
    all(requests).iter().map(id).collect()
}

fn snapshot() -> Snapshot {
    let family = |name: &str, unit: &str, kind, value| Family {
        name: name.to_owned(),
        help: "Help.".to_owned(),
        unit: unit.to_owned(),
        kind,
        samples: vec![Sample { labels: vec![("pool".to_owned(), "www".to_owned())], value }],
    };
    Snapshot {
        t_ns: 1,
        wall_ns: 1_700_000_000_000_000_000,
        families: vec![
            family("rampage_findings", "", Kind::Counter, 3.0),
            family("rampage_memory_used", "bytes", Kind::Gauge, 4096.0),
        ],
    }
}

/// Answers the questions for metrics until `done`.
fn answer(tracer: &mut Tracer, done: impl Fn() -> bool) {
    until("the metrics arrive", || {
        for report in tracer.read() {
            if let Report::WantMetrics { id } = report {
                tracer.order(&Order::Metrics { id, snapshot: Box::new(snapshot()) });
            }
        }
        done()
    });
}

fn check(metrics: &[ExportMetricsServiceRequest]) {
    let resource = metrics[0].resource_metrics[0].resource.clone().unwrap();
    let names: Vec<_> = resource.attributes.iter().map(|attribute| &*attribute.key).collect();
    assert_eq!(names, ["service.name", "service.version", "host.name", "rampage.boot_id"]);
    let metrics = &metrics[0].resource_metrics[0].scope_metrics[0].metrics;
    let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    assert_eq!(sum.data_points[0].start_time_unix_nano, 1_600_000_000_000_000_000);
    assert_eq!((&*metrics[0].unit, &*metrics[1].unit), ("1", "By"));
    assert!(matches!(&metrics[1].data, Some(Data::Gauge(gauge)) if gauge.data_points.len() == 1));
}

#[test]
fn over_grpc_every_finding_arrives_once_whatever_the_collector_went_through() {
    let address = free();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let mut tracer = Tracer::start(otlp(format!("http://{address}"), OtlpProtocol::Grpc));
    tracer.tell(1..=40);
    // Down at first, then overloaded, then there.
    tracer.wait("otlp:fleet", |now| now.retried >= 2);
    let running = collect(address, &seen, Mood { refuse: 2, ..Mood::default() });
    let delivery = tracer.wait("otlp:fleet", |now| now.delivered == 39 && now.lost == 1);
    assert_eq!(delivery.queued, 0);
    let whole: Vec<_> = (1..=40).filter(|id| *id != 13).collect();
    assert_eq!(records(&seen.lock().unwrap().logs), whole);
    // It starts anew, between two findings.
    drop(running);
    until("the collector has ended", || TcpListener::bind(address).is_ok());
    tracer.tell(41..=60);
    tracer.wait("otlp:fleet", |now| now.queued == 20 && now.retried > delivery.retried);
    let _running = collect(address, &seen, Mood::default());
    tracer.wait("otlp:fleet", |now| now.delivered == 59);
    let whole: Vec<_> = (1..=60).filter(|id| *id != 13).collect();
    assert_eq!(records(&seen.lock().unwrap().logs), whole);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.tokens, seen.asked);
    let record = &all(&seen.logs)[0];
    assert_eq!(record.event_name, "rampage.finding.pressure");
    assert_eq!((record.severity_number, &*record.severity_text), (17, "ERROR"));
    assert_eq!(attribute(record, "process.pid"), Some(Value::IntValue(7)));
    let body = record.body.clone().unwrap().value;
    assert_eq!(body, Some(Value::StringValue("finding 1".to_owned())));
}

#[test]
fn over_http_too() {
    let rejects = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 1,
            error_message: "no".to_owned(),
        }),
    };
    let web = Web::start(move |request| match request {
        0 => Act::Answer(503, "Retry-After: 1\r\n".to_owned()),
        5 => Act::Body(rejects.encode_to_vec()),
        6 => Act::Answer(400, String::new()),
        _ => Act::Answer(200, String::new()),
    });
    let mut tracer = Tracer::start(otlp(web.url.clone(), OtlpProtocol::Http));
    tracer.tell(1..=30);
    let delivery = tracer.wait("otlp:fleet", |now| now.delivered + now.lost == 30);
    assert_eq!((delivery.delivered, delivery.retried, delivery.lost), (28, 1, 2));
    let taken = web.taken();
    assert!(taken.iter().all(|one| one.path == "/v1/logs"));
    assert!(taken[0].headers.contains("content-type: application/x-protobuf\r\n"));
    let logs: Vec<_> =
        taken.iter().map(|one| ExportLogsServiceRequest::decode(&one.body[..]).unwrap()).collect();
    // The first was refused at first; the fifth was rejected, the sixth refused.
    assert_eq!(records(&logs), (1..=30).filter(|id| *id != 6).collect::<Vec<_>>());
}

#[test]
fn a_collector_that_hangs_up_with_a_record_in_hand_gets_it_again() {
    let address = free();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let _running = collect(address, &seen, Mood { hang_up: 2, ..Mood::default() });
    until("the collector listens", || std::net::TcpStream::connect(address).is_ok());
    let url = format!("http://localhost:{}", address.port());
    let mut tracer = Tracer::start(otlp(url, OtlpProtocol::Grpc));
    tracer.tell(1..=5);
    let delivery = tracer.wait("otlp:fleet", |now| now.delivered + now.lost == 5);
    assert_eq!((delivery.retried, delivery.lost), (2, 0));
    assert_eq!(records(&seen.lock().unwrap().logs), [1, 2, 3, 4, 5]);
}

fn with_metrics(mut alerts: Alerts) -> Alerts {
    alerts.otlp[0].metrics_interval = Span::from_secs(1);
    alerts
}

#[test]
fn metrics_over_grpc() {
    let address = free();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let _running = collect(address, &seen, Mood::default());
    let alerts = with_metrics(otlp(format!("http://{address}"), OtlpProtocol::Grpc));
    let mut tracer = Tracer::start(alerts);
    answer(&mut tracer, || !seen.lock().unwrap().metrics.is_empty());
    check(&seen.lock().unwrap().metrics);
}

#[test]
fn metrics_over_http() {
    let web = Web::ok();
    let mut tracer = Tracer::start(with_metrics(otlp(web.url.clone(), OtlpProtocol::Http)));
    answer(&mut tracer, || web.taken().len() >= 2);
    let taken = web.taken();
    assert!(taken.iter().all(|one| one.path == "/v1/metrics"));
    let decode = |body: &[u8]| ExportMetricsServiceRequest::decode(body).unwrap();
    check(&[decode(&taken[0].body)]);
    tracer.wait("metrics:fleet", |now| now.delivered >= 2);
}

#[test]
fn a_collector_of_logs_alone_costs_no_alert() {
    let web = Web::start(|_| Act::Answer(404, String::new()));
    let mut tracer = Tracer::start(with_metrics(otlp(web.url.clone(), OtlpProtocol::Http)));
    answer(&mut tracer, || web.asked() >= 2);
    tracer.wait("metrics:fleet", |now| now.lost >= 2);
    let alerts = tracer.wait("otlp:fleet", |_| true);
    assert_eq!((alerts.lost, alerts.retried), (0, 0));
}
