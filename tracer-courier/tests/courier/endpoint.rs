//! The endpoint under good clients and bad ones.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rampage::metrics::{Family, Kind, Sample, Snapshot};
use rampage::outbox::listen::Listener;
use rampage::outbox::protocol::{Delivery, Order, Report};
use rampage::settings::Metrics;
use rustix::net::getsockname;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::tracer::{Tracer, nobody, until};

/// What it may take, KiB, with the largest metrics that there can be: the snapshot, and two texts. The program of
/// these tests is the larger kind.
const MAX_RSS_KIB: u64 = 32 << 10;

/// The largest number of cgroups, of pools and of processes that the settings allow.
const EACH: u32 = 200;

/// A tracer that lives and answers, until this is dropped.
struct Living {
    address: String,
    tgid: u32,
    silent: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Delivery>>,
}

impl Living {
    /// Port 0 = any.
    fn start(listen: &str) -> Self {
        let any = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = &listen.replace("127.0.0.1:0", &format!("127.0.0.1:{any}"));
        let metrics = Metrics { listen: listen.to_owned(), ..Metrics::default() };
        let listener = Listener::bind(&metrics).unwrap().unwrap();
        let address = match listen.strip_prefix("unix:") {
            Some(path) => path.to_owned(),
            None => {
                let bound = getsockname(listener.as_fd()).unwrap();
                std::net::SocketAddr::try_from(bound).unwrap().to_string()
            }
        };
        let mut tracer = Tracer::with_listener(nobody(), Some(&listener));
        let tgid = tracer.courier.tgid();
        let silent = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let (quiet, end) = (Arc::clone(&silent), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let _listener = listener;
            let mut alive = Instant::now() - Duration::from_secs(9);
            let mut last = Delivery::default();
            while !end.load(Ordering::Relaxed) {
                for report in tracer.read() {
                    match report {
                        Report::WantMetrics { id } if !quiet.load(Ordering::Relaxed) => {
                            tracer.order(&Order::Metrics { id, snapshot: Box::new(snapshot()) });
                        }
                        Report::Deliveries { receivers, .. } => last = receivers[0].clone(),
                        _ => {}
                    }
                }
                if alive.elapsed() > Duration::from_secs(1) && !quiet.load(Ordering::Relaxed) {
                    alive = Instant::now();
                    tracer.order(&Order::Alive { ready: false, reason: "attaches\n".to_owned() });
                }
            }
            last
        });
        let living = Self { address, tgid, silent, over, thread: Some(thread) };
        until("it is alive", || living.get("/healthz", "").starts_with("HTTP/1.1 200"));
        living
    }

    fn get(&self, path: &str, headers: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        let mut answer = String::new();
        if self.address.starts_with('/') {
            let mut stream = UnixStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_to_string(&mut answer).unwrap();
        } else {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let _ = stream.write_all(request.as_bytes());
            // An error: turned away, which is no answer.
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.tgid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn end(&mut self) -> Option<Delivery> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The courier ends with the tracer, in that thread.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// As large as the settings allow, with names as long as they may be: families of cgroups, of pools and of
/// processes.
fn snapshot() -> Snapshot {
    let long = |of: &str, n: u32| format!("w\"{of}{n}\n{}", "x".repeat(180));
    let family = |name: String, labels: &[&str]| Family {
        name,
        help: "Help.".to_owned(),
        unit: "bytes".to_owned(),
        kind: Kind::Gauge,
        samples: (0..EACH)
            .map(|n| Sample {
                labels: labels.iter().map(|of| ((*of).to_owned(), long(of, n))).collect(),
                value: 123_456_789_012.0,
            })
            .collect(),
    };
    let cgroups =
        (0..15).map(|n| family(format!("rampage_cgroup_{n}"), &["cgroup", "container", "unit"]));
    let pools = (0..7).map(|n| family(format!("rampage_pool_{n}"), &["pool", "cgroup"]));
    let processes = (0..3).map(|n| family(format!("rampage_process_{n}"), &["comm", "cgroup"]));
    Snapshot { families: cgroups.chain(pools).chain(processes).collect(), ..Snapshot::default() }
}

#[test]
fn metrics_health_and_readiness_are_told() {
    let mut living = Living::start("127.0.0.1:0");
    let plain = living.get("/metrics", "");
    assert!(plain.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    let series = plain.matches("\nrampage_cgroup_7_bytes{cgroup=\"w\\\"cgroup").count();
    assert_eq!(series, EACH as usize);
    let open = living.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(open.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.ends_with("# EOF\n"));
    assert!(living.get("/healthz", "").ends_with("ok: attaches\\n\n"));
    let ready = living.get("/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("not ready: attaches\\n\n"));
    assert!(living.get("/", "").starts_with("HTTP/1.1 404"));
    let body = living.get("/metrics", "Content-Length: 5\r\n");
    assert!(body.starts_with("HTTP/1.1 413"), "{body}");
    // A tracer that says nothing any more.
    living.silent.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(600));
    let since = Instant::now();
    assert!(living.get("/metrics", "").starts_with("HTTP/1.1 503"));
    assert!(since.elapsed() < Duration::from_secs(4));
    until("its silence is noticed", || living.get("/healthz", "").starts_with("HTTP/1.1 503"));
    assert!(living.end().unwrap().delivered >= 8);
}

#[test]
fn without_receivers_it_takes_little_memory_and_one_thread() {
    let living = Living::start("127.0.0.1:0");
    assert!(living.get("/healthz", "").starts_with("HTTP/1.1 200"));
    // What is not code, which depends on how it was built.
    let anon = living.status_kib("RssAnon:");
    println!("{anon} KiB, {} KiB with code", living.rss_kib());
    assert!(anon < 2048, "{anon} KiB");
    let threads = fs::read_dir(format!("/proc/{}/task", living.tgid)).unwrap().count();
    assert_eq!(threads, 1);
}

#[test]
fn a_unix_socket_serves_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let living = Living::start(&format!("unix:{}", path.display()));
    assert!(living.get("/metrics", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn abuse_takes_no_memory_and_good_clients_are_served_afterwards() {
    let mut living = Living::start("127.0.0.1:0");
    let connect = || {
        let stream = TcpStream::connect(&living.address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        stream
    };
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let mut peak = living.rss_kib();
    let mut note = |living: &Living| peak = peak.max(living.rss_kib());
    let junk: Vec<u8> = (0..65536u32).map(|n| (n * 7 % 251) as u8).collect();
    let header = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000));
    let pipeline = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
    let mut kept = Vec::new();
    for bytes in [&junk[..], header.as_bytes(), lines.as_bytes(), pipeline.as_bytes(), b"GET /m"] {
        // 1,000 in all; none of them reads.
        for _ in 0..200 {
            let mut stream = connect();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(bytes);
            kept.push(stream);
        }
        note(&living);
        thread::sleep(Duration::from_millis(500));
        note(&living);
    }
    // All places are held by those who do not read; their time runs out.
    let drip = Instant::now();
    while drip.elapsed() < Duration::from_secs(3) {
        for stream in &mut kept {
            let _ = stream.write(b"x");
        }
        note(&living);
        thread::sleep(Duration::from_millis(100));
    }
    drop(kept);
    let since = Instant::now();
    until("a good client is served", || living.get("/metrics", "").starts_with("HTTP/1.1 200"));
    let served = since.elapsed();
    note(&living);
    println!("served after {served:?}, {peak} KiB at the peak");
    // Those who hung up make room at once, and not when their time is over.
    assert!(served < Duration::from_secs(8), "{served:?}");
    assert!(peak < MAX_RSS_KIB, "{peak} KiB");
    thread::sleep(Duration::from_millis(1500));
    let delivery = living.end().unwrap();
    assert!(delivery.lost > 300 && delivery.queued == 0, "{delivery:?}");
}

#[test]
fn those_who_say_nothing_hold_a_place_for_seconds_only() {
    let living = Living::start("127.0.0.1:0");
    let held: Vec<_> = (0..64).map(|_| TcpStream::connect(&living.address).unwrap()).collect();
    thread::sleep(Duration::from_millis(300));
    assert!(living.get("/metrics", "").starts_with("HTTP/1.1 503"), "all places are taken");
    assert!(living.get("/healthz", "").starts_with("HTTP/1.1 200"), "but those for health");
    let since = Instant::now();
    until("a place is free", || living.get("/metrics", "").starts_with("HTTP/1.1 200"));
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    drop(held);
}

#[test]
fn those_who_ask_again_and_again_hold_no_place_that_others_want() {
    let living = Living::start("127.0.0.1:0");
    let mut held: Vec<_> = (0..64).map(|_| TcpStream::connect(&living.address).unwrap()).collect();
    let mut closed = 0;
    for _ in 0..2 {
        for stream in &mut held {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut answer = [0; 512];
            closed += usize::from(stream.read(&mut answer).unwrap_or(0) == 0);
        }
    }
    // As many keep theirs as leave a quarter to others.
    assert!((10..=32).contains(&closed), "{closed} closed");
    assert!(living.get("/metrics", "").starts_with("HTTP/1.1 200"));
    drop(held);
}
