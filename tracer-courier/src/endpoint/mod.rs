//! The endpoint: /metrics for Prometheus, /healthz and /readyz, over HTTP/1.1, for a bounded number of
//! clients. Whatever a client does or leaves undone, it holds one place for a bounded time and costs no
//! memory beyond its buffers; answers are shared between those who get them.

mod bounded;
mod exposition;

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
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
use rampage::outbox::protocol::Delivery;
use rampage::text;
use rustix::net::{AddressFamily, getsockname};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use self::bounded::Bounded;
use self::exposition::Format;
use crate::question::Questions;
use crate::say;

/// Clients at once; those beyond are turned away.
const MAX_CLIENTS: usize = 64;

/// A client has this long to say what it wants, also when it keeps its connection for another question.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// … and, together with [`crate::question`]'s patience, this long to take the answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);

/// Longest header, bytes; the least that hyper takes.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// Most lines of a header.
const MAX_HEADER_LINES: usize = 64;

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
    answered: AtomicU64,
    turned_away: AtomicU64,
    /// Texts of the metrics with this number.
    texts: Mutex<(u64, [Option<Bytes>; 2])>,
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
        let site = Arc::new(Site {
            questions,
            health,
            places: Arc::new(Semaphore::new(MAX_CLIENTS)),
            answered: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            texts: Mutex::new((0, [None, None])),
        });
        tokio::spawn(accept(listener, Arc::clone(&site)));
        Ok(Self { site })
    }

    /// Answered requests, clients that were turned away (`lost`), and those that are served now.
    pub fn delivery(&self) -> Delivery {
        Delivery {
            receiver: "endpoint".to_owned(),
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
    /// Serves a client, if there is a place; else it is dropped, which closes the connection.
    fn seat<F>(&self, serve: impl FnOnce(OwnedSemaphorePermit) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(serve(place))),
            Err(_) => drop(self.turned_away.fetch_add(1, Ordering::Relaxed)),
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.answered.fetch_add(1, Ordering::Relaxed);
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
        let text = texts.1[format as usize]
            .get_or_insert_with(|| exposition::text(&snapshot, format).into());
        respond(StatusCode::OK, format.content_type(), text.clone())
    }
}

async fn serve<S>(stream: S, site: Arc<Site>, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    // Errors are the client's: junk, silence, or gone away.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADER_LINES)
        .serve_connection(TokioIo::new(Bounded::new(stream, ANSWER_PATIENCE)), service)
        .await;
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
