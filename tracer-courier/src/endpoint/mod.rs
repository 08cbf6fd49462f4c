//! The endpoint: /metrics for Prometheus, /healthz and /readyz, over HTTP/1.1, for a bounded number of
//! clients. Whatever a client does or leaves undone, it holds one place for a bounded time and costs no
//! memory beyond its buffers; answers are shared between those who get them, and those that slow clients
//! have not read yet are bounded together. A few places are kept for questions of health.

mod bounded;
mod exposition;

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rampage::metrics::Snapshot;
use rampage::outbox::protocol::{Delivery, ENDPOINT, MAX_FRAME_BYTES};
use rampage::text;
use rustix::net::{AddressFamily, getsockname};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use self::bounded::Bounded;
use self::exposition::Format;
use crate::question::Questions;
use crate::say;

/// Clients at once.
const MAX_CLIENTS: usize = 64;

/// Those beyond are only told of health, and at once; the rest is turned away.
const SPARE_CLIENTS: usize = 4;

/// With fewer places left, nobody keeps one for another question.
const SCARCE: usize = MAX_CLIENTS / 4;

/// Nobody keeps a place for longer, apart from the last answer.
const MAX_AGE: Duration = Duration::from_secs(60);

/// A client has this long to say what it wants, also when it keeps its connection for another question.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// … and this long in a place that is kept for health …
const SPARE_PATIENCE: Duration = Duration::from_secs(1);

/// … and, together with [`crate::question`]'s patience, this long to take the answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);

/// Longest header, bytes; the least that hyper takes.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// Most lines of a header.
const MAX_HEADER_LINES: usize = 64;

/// Texts of the metrics that are in memory at once, with those that are still being read, bytes: the two
/// largest that there can be.
const MAX_TEXT_BYTES: usize = 2 * MAX_FRAME_BYTES;

/// The tracer says each second that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// What the tracer said of itself last.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<(Instant, bool, String)>>);

impl Health {
    /// A sign of life.
    pub fn alive(&self, ready: bool, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), ready, reason));
    }

    /// Whether all is well, and one line about it.
    fn answer(&self, ask_ready: bool) -> (bool, String) {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            None => (false, "the tracer has not said anything yet".to_owned()),
            Some((at, ..)) if at.elapsed() > ALIVE => {
                (false, format!("the tracer has said nothing for {} s", at.elapsed().as_secs()))
            }
            Some((_, ready, reason)) => {
                let word = if ask_ready && !ready { "not ready" } else { "ok" };
                let reason = text::printable(reason);
                let line = match reason.is_empty() {
                    true => word.to_owned(),
                    false => format!("{word}: {reason}"),
                };
                (*ready || !ask_ready, line)
            }
        }
    }
}

/// The endpoint; it ends with the runtime.
#[derive(Debug)]
pub struct Endpoint {
    site: Arc<Site>,
}

/// What all connections share.
#[derive(Debug)]
struct Site {
    questions: Arc<Questions>,
    health: Arc<Health>,
    places: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    answered: AtomicU64,
    turned_away: AtomicU64,
    /// Room for texts, bytes.
    room: Arc<Semaphore>,
    /// Texts of the metrics with this number, once somebody wanted them.
    texts: Mutex<(u64, [Option<Text>; 2])>,
}

/// None = there was no room for it.
type Text = Option<Bytes>;

/// A text that gives its room back when nobody needs it any more.
struct Held {
    text: String,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// What a client has.
#[derive(Debug)]
struct Place {
    is_spare: bool,
    _permit: OwnedSemaphorePermit,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Endpoint {
    /// Serves on a bound and listening socket of TCP or unix.
    pub fn start(
        listener: OwnedFd,
        questions: Arc<Questions>,
        health: Arc<Health>,
    ) -> io::Result<Self> {
        let listener = Listener::new(listener)?;
        let site = Arc::new(Site::new(questions, health));
        tokio::spawn(accept(listener, Arc::clone(&site)));
        Ok(Self { site })
    }

    /// Answered requests, clients that were turned away (`lost`), and those that are served now.
    pub fn delivery(&self) -> Delivery {
        Delivery {
            receiver: ENDPOINT.to_owned(),
            delivered: self.site.answered.load(Ordering::Relaxed),
            retried: 0,
            lost: self.site.turned_away.load(Ordering::Relaxed),
            queued: (MAX_CLIENTS - self.site.places.available_permits()) as u64,
        }
    }
}

impl Listener {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        if getsockname(&fd)?.address_family() == AddressFamily::UNIX {
            let listener = StdUnixListener::from(fd);
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(Self::Unix)
        } else {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Self::Tcp)
        }
    }
}

async fn accept(listener: Listener, site: Arc<Site>) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                site.seat(|place| serve(stream, Arc::clone(&site), place));
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                site.seat(|place| serve(stream, Arc::clone(&site), place));
            }),
        };
        if let Err(error) = accepted
            && error.kind() != io::ErrorKind::ConnectionAborted
        {
            // Such as no more file descriptors: those that are served end soon.
            say(format_args!("cannot take a client of the metrics: {error}"));
            sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Site {
    fn new(questions: Arc<Questions>, health: Arc<Health>) -> Self {
        Self {
            questions,
            health,
            places: Arc::new(Semaphore::new(MAX_CLIENTS)),
            spare: Arc::new(Semaphore::new(SPARE_CLIENTS)),
            answered: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(MAX_TEXT_BYTES)),
            texts: Mutex::new((0, [None, None])),
        }
    }

    /// Serves a client, if there is a place; else it is dropped, which closes the connection.
    fn seat<F>(&self, serve: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acquire = |of: &Arc<Semaphore>, is_spare| {
            let permit = Arc::clone(of).try_acquire_owned().ok()?;
            Some(Place { is_spare, _permit: permit })
        };
        match acquire(&self.places, false).or_else(|| acquire(&self.spare, true)) {
            Some(place) => drop(tokio::spawn(serve(place))),
            None => drop(self.turned_away.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The answer, which says whether the client may ask again.
    async fn answer(&self, request: &Request<Incoming>, is_spare: bool) -> Response<Full<Bytes>> {
        let mut answer = match request.uri().path() {
            "/metrics" if is_spare => {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                plain(StatusCode::SERVICE_UNAVAILABLE, "too many clients at once")
            }
            _ => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.respond(request).await
            }
        };
        if is_spare || self.places.available_permits() < SCARCE {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !request.body().is_end_stream() {
            let mut answer = plain(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken");
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(Format::of(request.headers().get(ACCEPT))).await,
            "/healthz" => health(self.health.answer(false)),
            "/readyz" => health(self.health.answer(true)),
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        }
    }

    async fn metrics(&self, format: Format) -> Response<Full<Bytes>> {
        let (number, answer) = self.questions.ask().await;
        let snapshot = match answer {
            Ok(snapshot) => snapshot,
            Err(error) => return plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        };
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.0 != number {
            *texts = (number, [None, None]);
        }
        let text = texts.1[format as usize].get_or_insert_with(|| self.text(&snapshot, format));
        match text {
            Some(text) => respond(StatusCode::OK, format.content_type(), text.clone()),
            None => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "answers that others read slowly take all the room there is",
            ),
        }
    }

    fn text(&self, snapshot: &Snapshot, format: Format) -> Text {
        let text = exposition::text(snapshot, format);
        let bytes = u32::try_from(text.len()).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()?;
        Some(Bytes::from_owner(Held { text, _room: room }))
    }
}

async fn serve<S>(stream: S, site: Arc<Site>, place: Place)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let is_spare = place.is_spare;
    let service = service_fn(|request: Request<Incoming>| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request, is_spare).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if is_spare { SPARE_PATIENCE } else { HEADER_PATIENCE })
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADER_LINES)
        .serve_connection(TokioIo::new(Bounded::new(stream, ANSWER_PATIENCE)), service);
    let mut connection = pin!(connection);
    // Errors are the client's: junk, silence, or gone away.
    if timeout(MAX_AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
    drop(place);
}

fn health((well, line): (bool, String)) -> Response<Full<Bytes>> {
    plain(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &line)
}

fn plain(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", format!("{line}\n").into())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use rampage::metrics::{Family, Kind, Sample};
    use rampage::outbox::protocol::Report;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    fn site() -> (Arc<Site>, mpsc::Receiver<Report>) {
        let (reports, questions) = mpsc::channel(8);
        let health = Arc::new(Health::default());
        health.alive(true, String::new());
        (Arc::new(Site::new(Arc::new(Questions::new(reports)), health)), questions)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_for_ever_is_sent_away_after_a_minute() {
        let (site, _questions) = site();
        let (mut client, server) = tokio::io::duplex(1024);
        site.seat(|place| serve(server, Arc::clone(&site), place));
        let since = Instant::now();
        let mut answer = [0; 1024];
        loop {
            let asked = client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
            if asked.is_err() || client.read(&mut answer).await.unwrap_or(0) == 0 {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(70));
            sleep(Duration::from_secs(4)).await;
        }
        assert!(since.elapsed() >= Duration::from_secs(56), "{:?}", since.elapsed());
        until_free(&site).await;
    }

    async fn until_free(site: &Site) {
        while site.places.available_permits() < MAX_CLIENTS {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn texts_that_nobody_reads_are_bounded() {
        let (site, mut questions) = site();
        let help = "x".repeat(MAX_FRAME_BYTES - 200);
        let family = Family {
            name: "large".to_owned(),
            help,
            unit: String::new(),
            kind: Kind::Gauge,
            samples: vec![Sample { labels: Vec::new(), value: 1.0 }],
        };
        let snapshot = Snapshot { families: vec![family], ..Snapshot::default() };
        let own = Arc::clone(&site.questions);
        tokio::spawn(async move {
            while let Some(Report::WantMetrics { id }) = questions.recv().await {
                own.answer(id, snapshot.clone());
            }
        });
        let mut clients = Vec::new();
        let mut refused = 0;
        for _ in 0..10 {
            let (mut client, server) = tokio::io::duplex(64);
            site.seat(|place| serve(server, Arc::clone(&site), place));
            client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
            let mut start = [0; 12];
            client.read_exact(&mut start).await.unwrap();
            refused += usize::from(start.ends_with(b"503"));
            clients.push(client);
            sleep(Duration::from_millis(600)).await;
        }
        assert!(refused >= 7, "{refused} of ten");
        // Their time runs out, and there is room again.
        sleep(Duration::from_secs(20)).await;
        until_free(&site).await;
        assert_eq!(site.metrics(Format::Plain).await.status(), StatusCode::OK);
    }
}
