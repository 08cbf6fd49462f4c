//! Settings of the long-running service, `/etc/rampage/rampage.toml`. Each key is described once, at
//! its field: the sample file, the manual page and the JSON schema are made from that.

mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use value::{Size, Span};

use crate::event::{FindingKind, Severity};

/// Where the settings are when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/rampage/rampage.toml";

/// The whole file. Every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is traced.
    pub watch: Watch,
    /// When a finding is made.
    pub findings: Findings,
    /// Rules for single PHP pools; the first one that matches a pool holds.
    pub pool: Vec<PoolRule>,
    /// The flight recorder: a rolling trace, and incidents that are kept apart.
    pub recorder: Recorder,
    /// The endpoint for Prometheus.
    pub metrics: Metrics,
    /// Who is told of findings.
    pub alerts: Alerts,
}

/// What is traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Where events come from: `live` (kernel programs), `procfs` (polling; misses kills, stalls and
    /// short-lived processes), or `auto`: live where it can be had, else procfs, which is said.
    /// Takes effect at the next start.
    pub source: WatchSource,
    /// A process is reported when its anonymous memory and swap moved by this much, at least 64K; `0`
    /// = the smaller of 4M and 1/64 of its tightest limit. Takes effect at the next start.
    pub step: Size,
    /// Time between two looks at cgroups and host; at least 100ms. Takes effect at the next start.
    pub interval: Span,
    /// Follow PHP's own request probes (USDT) where PHP has them. Takes effect at the next start.
    pub usdt: bool,
    /// Record and tell the values in query strings, which can be secrets. Takes effect at the next start.
    pub show_query: bool,
    /// Record and tell the addresses of clients. Takes effect at the next start.
    pub show_client: bool,
    /// Alert only of this memory cgroup and what is below it; empty = all. Everything is traced and
    /// recorded all the same, so that a culprit outside is still named.
    pub cgroup: String,
    /// Alert only of processes whose name matches this regular expression; empty = all.
    pub comm: String,
    /// Alert only of PHP.
    pub php: bool,
}

/// Where events come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchSource {
    /// Live where it can be had, else procfs.
    #[default]
    Auto,
    /// Kernel programs.
    Live,
    /// Polling.
    Procfs,
}

/// When a finding is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Findings {
    /// A limit that will be reached later than this raises no finding.
    pub horizon: Span,
}

/// A rule for PHP pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRule {
    /// Name of the pool; `*` stands for any characters.
    pub name: String,
    /// As `findings.horizon`, for workers of this pool; left out = that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Span>,
    /// Kinds of finding about this pool and its workers that are not made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<FindingKind>,
}

/// The flight recorder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    /// Whether a trace is kept.
    pub enabled: bool,
    /// The state directory: segments, incidents, and the lock that keeps a second instance out. Takes
    /// effect at the next start.
    pub directory: PathBuf,
    /// A segment of the rolling trace ends at this size …
    pub segment_size: Size,
    /// … or at this age.
    pub segment_age: Span,
    /// All segments together, without incidents, take no more than this.
    pub max_size: Size,
    /// Segments older than this are removed.
    pub max_age: Span,
    /// How much of the time before a critical finding or a kill an incident keeps.
    pub incident_before: Span,
    /// How long an incident goes on after its last critical finding or kill.
    pub incident_after: Span,
    /// Incidents that are kept; the oldest goes first.
    pub max_incidents: u32,
    /// All incidents together take no more than this; the oldest goes first.
    pub max_incidents_size: Size,
    /// Most time until what was recorded is on the disk. Kills and critical findings are at once.
    pub sync: Span,
}

/// The endpoint for Prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where /metrics, /healthz and /readyz are served: `127.0.0.1:9754`, `[::1]:9754`,
    /// `unix:/run/rampage/metrics.sock`; empty = nowhere.
    pub listen: String,
    /// Allow `listen` to be an address that others than this host can reach. There is no encryption
    /// and no password.
    pub allow_remote: bool,
    /// Processes with series of their own: those with most memory.
    pub top_processes: u32,
    /// Memory cgroups with series of their own: those that are fullest.
    pub max_cgroups: u32,
    /// PHP pools with series of their own: those with most memory.
    pub max_pools: u32,
    /// Measure what the kernel programs cost, one second in each minute.
    pub program_cost: bool,
}

/// Who is told of findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Findings below this severity are recorded, and told to nobody.
    pub min_severity: Severity,
    /// Write findings to the journal, with fields of their own (RAMPAGE_KIND, RAMPAGE_POOL …).
    pub journal: bool,
    /// Receivers over HTTP.
    pub webhook: Vec<Webhook>,
    /// Programs that are run for each finding.
    pub command: Vec<CommandAlert>,
    /// Collectors of OpenTelemetry.
    pub otlp: Vec<Otlp>,
}

/// A receiver over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What it is called in messages and metrics.
    pub name: String,
    /// Where each finding is sent by POST; http or https.
    pub url: String,
    /// `json`: the finding as in a trace, with `host`; `slack`: an object with `text`.
    #[serde(default)]
    pub format: WebhookFormat,
    /// Headers that are sent along, such as a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Least severity, if it is not that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// An answer that takes longer is a failure.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
    /// A finding that could not be delivered for this long is given up and counted.
    #[serde(default = "ten_minutes")]
    pub give_up: Span,
}

/// What a webhook gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// The finding as an object.
    #[default]
    Json,
    /// `{"text": …}`, as Slack and those compatible with it take.
    Slack,
}

/// A program that is run for each finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandAlert {
    /// What it is called in messages and metrics.
    pub name: String,
    /// The program, by its whole path, and its arguments; no shell. The finding comes as JSON on its
    /// standard input.
    pub run: Vec<String>,
    /// Least severity, if it is not that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// It is ended after this time.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

/// A collector of OpenTelemetry: findings as log records, and the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// What it is called in messages and metrics.
    pub name: String,
    /// `http://127.0.0.1:4317` for gRPC; `http://127.0.0.1:4318` for HTTP.
    pub endpoint: String,
    /// `grpc` or `http` (protobuf).
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Headers (gRPC: metadata) that are sent along, such as a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Least severity of findings, if it is not that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// Time between two exports of the metrics; `0s` = findings only.
    #[serde(default = "one_minute")]
    pub metrics_interval: Span,
    /// An answer that takes longer is a failure.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
    /// A finding that could not be delivered for this long is given up and counted.
    #[serde(default = "ten_minutes")]
    pub give_up: Span,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    Grpc,
    /// HTTP with protobuf.
    Http,
}

fn ten_seconds() -> Span {
    Span::from_secs(10)
}

fn one_minute() -> Span {
    Span::from_secs(60)
}

fn ten_minutes() -> Span {
    Span::from_secs(600)
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            source: WatchSource::Auto,
            step: Size::bytes(0),
            interval: Span::from_secs(1),
            usdt: false,
            show_query: false,
            show_client: false,
            cgroup: String::new(),
            comm: String::new(),
            php: false,
        }
    }
}

impl Default for Findings {
    fn default() -> Self {
        Self { horizon: Span::from_secs(600) }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: "/var/lib/rampage".into(),
            segment_size: Size::bytes(16 << 20),
            segment_age: Span::from_secs(600),
            max_size: Size::bytes(512 << 20),
            max_age: Span::from_secs(7 * 24 * 3600),
            incident_before: Span::from_secs(300),
            incident_after: Span::from_secs(60),
            max_incidents: 20,
            max_incidents_size: Size::bytes(512 << 20),
            sync: Span::from_secs(2),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9754".to_owned(),
            allow_remote: false,
            top_processes: 20,
            max_cgroups: 100,
            max_pools: 50,
            program_cost: true,
        }
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            min_severity: Severity::Warning,
            journal: true,
            webhook: Vec::new(),
            command: Vec::new(),
            otlp: Vec::new(),
        }
    }
}

/// Settings that were read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Themselves.
    pub settings: Settings,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Reads them.
pub fn load(path: Option<&std::path::Path>) -> anyhow::Result<Loaded> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)?,
        None => std::fs::read_to_string(DEFAULT_PATH).unwrap_or_default(),
    };
    Ok(Loaded { settings: toml::from_str(&text)?, warnings: Vec::new() })
}

/// Changes that wait for the next start.
pub fn needs_restart(_: &Settings, _: &Settings) -> Vec<&'static str> {
    Vec::new()
}

impl Settings {
    /// Of the trace.
    pub fn trace_config(&self) -> crate::event::Config {
        crate::event::Config {
            horizon_s: self.findings.horizon.get().as_secs_f64(),
            ..crate::event::Config::default()
        }
    }
}
