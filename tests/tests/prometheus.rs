//! The metrics of `rampage serve` as Prometheus sees them: its own linter, the alert rules, and a real
//! Prometheus that fires and resolves them for a real runaway and a real kill.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::service::{Home, Service};
use tests::tracer::Process;

/// Until something listens.
const START: Duration = Duration::from_secs(30);
/// From what happens to the alert: a scrape and an evaluation each second.
const ALERT: Duration = Duration::from_secs(30);

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus").join(file)
}

/// `promtool` with these words and this on its standard input; fails with all that it says.
fn promtool(words: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting promtool")?;
    let mut stdin = child.stdin.take().context("promtool has no stdin")?;
    let input = input.to_owned();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // It may end before it has read everything, and then says why.
    let _ = writer.join();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "promtool {}: {said}", words.join(" "));
    Ok(said)
}

/// The body that a server answers a GET with.
fn get(mut stream: impl Read + Write, path: &str, accept: &str) -> Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading an answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}\n{body}");
    match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => Ok(body.to_owned()),
    }
}

fn unchunk(mut body: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(length.trim(), 16)?;
        if length == 0 {
            return Ok(whole);
        }
        whole.push_str(rest.get(..length).context("a chunk that is cut")?);
        body = rest.get(length + 2..).context("a chunk without an end")?;
    }
}

/// The metrics of a service on the socket of `home`, once it answers.
fn scrape(home: &Home, accept: &str) -> Result<String> {
    clock::wait_for("the endpoint", START, || {
        let Ok(stream) = UnixStream::connect(home.endpoint()) else { return Ok(None) };
        stream.set_read_timeout(Some(START))?;
        Ok(get(stream, "/metrics", accept).ok())
    })
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() -> Result<()> {
    needs!(Btf, Prometheus);
    let home = Home::new()?;
    home.set("")?;
    let service = Service::start(&home)?;
    // A hostile name, as it stands in a label.
    let _hog = Hog::unconfined("comm-hex:220a5c7b7d2c3d0d anon:64 hold")?;
    let hostile = r#"comm="\"\\n\\{},=\\r~"#;
    // What the kernel programs cost is known after some seconds.
    let cost = "rampage_bpf_program_cpu_ratio{program=";
    let text = clock::wait_for("the hog's series and the programs'", START, || {
        let text = scrape(&home, "text/plain")?;
        Ok((text.contains(hostile) && text.contains(cost)).then_some(text))
    })?;
    let said = promtool(&["check", "metrics"], &text)?;
    ensure!(said.trim().is_empty(), "{said}");
    for name in [
        "rampage_ready 1",
        "rampage_host_memory_available_bytes ",
        "rampage_findings_total{kind=\"runaway\",severity=\"critical\"} 0",
        "rampage_oom_kills_total{scope=\"memcg\"} 0",
        "rampage_tracer_resident_memory_bytes{process=\"tracer\"} ",
        "rampage_tracer_resident_memory_bytes{process=\"courier\"} ",
        "rampage_recorder_failing 0",
        "rampage_lost_records_total{source=\"ring:growth\"} ",
        "rampage_lost_records_total{source=\"alerts\"} 0",
    ] {
        ensure!(text.lines().any(|line| line.starts_with(name)), "no {name} in {text}");
    }
    let open = scrape(&home, "application/openmetrics-text; version=1.0.0")?;
    ensure!(open.ends_with("# EOF\n"), "{open}");
    ensure!(open.contains("# UNIT rampage_host_memory_available_bytes bytes\n"), "{open}");
    service.finish().map(drop)
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_and_resolves() -> Result<()> {
    needs!(Prometheus);
    let path = |file| packaging(file).display().to_string();
    promtool(&["check", "rules", &path("rampage.rules.yml")], "")?;
    promtool(&["test", "rules", &path("rampage.rules.test.yml")], "")?;
    Ok(())
}

/// A Prometheus of its own that scrapes one address, with the rules of the package.
struct Prometheus {
    process: Process,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rampage-prometheus-").tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let rules = fs::canonicalize(packaging("rampage.rules.yml"))?;
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
                 rule_files: [{rules:?}]\n\
                 scrape_configs:\n\
                 - job_name: rampage\n\
                 \x20 static_configs: [{{targets: ['{target}']}}]\n"
            ),
        )?;
        let address = free_address()?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--log.level=error", "--storage.tsdb.retention.time=1h"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("starting prometheus")?;
        let started = Self { process: Process { child }, address, _folder: folder };
        clock::wait_for("Prometheus", START, || {
            let answered = started.ask("/api/v1/query?query=rampage_ready");
            Ok(answered.ok().filter(|data| data["result"][0]["value"][1] == "1"))
        })?;
        Ok(started)
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(START))?;
        let answer: Value = serde_json::from_str(&get(stream, path, "application/json")?)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].clone())
    }

    /// Alerts that fire and fit.
    fn firing(&self, fits: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let data = self.ask("/api/v1/alerts")?;
        let alerts = data["alerts"].as_array().context("no list of alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing" && fits(alert));
        Ok(firing.cloned().collect())
    }

    fn wait_until_firing(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        clock::wait_for(what, ALERT, || Ok(self.firing(&fits)?.pop())).with_context(|| {
            let all = self.ask("/api/v1/alerts").unwrap_or_default();
            format!("Prometheus (pid {}) has {all}", self.process.child.id())
        })
    }
}

/// Where nothing listens now.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn is_runaway(alert: &Value) -> bool {
    let name = &alert["labels"]["alertname"];
    (name == "RampageRunaway" || name == "RampageRunawayCritical")
        && alert["labels"]["comm"] == "runaway"
}

#[test]
fn a_real_prometheus_alerts_of_a_runaway_resolves_and_alerts_of_a_kill() -> Result<()> {
    needs!(Btf, Prometheus);
    let home = Home::new()?;
    let endpoint = free_address()?;
    home.set(&format!("[metrics]\nlisten = \"{endpoint}\""))?;
    let service = Service::start(&home)?;
    let prometheus = Prometheus::start(endpoint)?;

    let cgroup = MemoryCgroup::new("prometheus", 512 << 20)?;
    // It stops at 400 MiB: nobody is killed.
    let mut hog = Hog::spawn(&cgroup, "comm:runaway anon:400:20 hold")?;
    let alert = prometheus.wait_until_firing("an alert of the runaway", is_runaway)?;
    let labels = &alert["labels"];
    ensure!(labels["tgid"] == *hog.pid().to_string(), "{alert}");
    ensure!(labels["limit"] == cgroup.path() && labels["cgroup"] == cgroup.path(), "{alert}");
    for annotation in ["summary", "description", "action"] {
        let text = alert["annotations"][annotation].as_str().unwrap_or_default();
        ensure!(!text.is_empty() && !text.contains("<no value>"), "{annotation}: {alert}");
    }
    let told = alert["annotations"]["description"].as_str().unwrap_or_default();
    ensure!(told.contains("runaway") && told.contains(&cgroup.path()), "{told}");
    // It ends, and with it the alert.
    drop(hog);
    clock::wait_for("the end of the alert", ALERT, || {
        Ok(prometheus.firing(is_runaway)?.is_empty().then_some(()))
    })?;
    let is_kill = |alert: &Value| alert["labels"]["alertname"] == "RampageOomKill";
    if let Some(alert) = prometheus.firing(is_kill)?.pop() {
        bail!("nobody was killed: {alert}");
    }

    // Beyond the limit: the OOM killer comes.
    hog = Hog::spawn(&cgroup, "comm:eater anon:1024:400 hold")?;
    hog.wait(ALERT)?;
    let alert = prometheus.wait_until_firing("an alert of the kill", is_kill)?;
    ensure!(alert["labels"]["scope"] == "memcg", "{alert}");
    ensure!(alert["labels"]["severity"] == "critical", "{alert}");
    drop(prometheus);
    service.finish().map(drop)
}
