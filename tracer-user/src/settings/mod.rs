//! Settings of the long-running service, `/etc/rampage/rampage.toml`. Each key is described once, at
//! its field: the sample file, the manual page and the JSON schema are made from that, and files are
//! checked against it.
//!
//! Beside its type and description a field may say, in the words of JSON schema or as extensions of
//! it: `x-least` and `x-most` (sizes and times), `range` and `length` (numbers and lists), `x-or-zero`
//! (0 is allowed below `x-least`), `x-restart` (a change takes effect at the next start), `x-secret`
//! (not shown), `example` (for a key that has no default).

mod alerts;
mod change;
mod check;
#[cfg(test)]
mod fuzz;
mod listen;
mod load;
mod manual;
mod problem;
mod sample;
mod shape;
mod show;
mod trace;
mod value;
mod walk;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alerts::{Alerts, CommandAlert, Otlp, OtlpProtocol, Webhook, WebhookFormat};
pub use change::{keep_until_restart, needs_restart};
pub use listen::{Endpoint, ListenError};
pub use load::{Loaded, Origin, load, parse};
pub use manual::manual;
pub use problem::{Fault, Problem, SettingsError};
pub use sample::sample;
pub use shape::schema;
pub use show::{show, show_json};
pub use value::{Size, Span, ValueError};

use crate::event::FindingKind;

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
    #[schemars(length(max = 200))]
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
    #[schemars(extend("x-restart" = true))]
    pub source: WatchSource,
    /// A process is reported when its anonymous memory and swap moved by this much; `0` = the
    /// smaller of 4MiB and 1/64 of its tightest limit.
    #[schemars(extend("x-least" = "64KiB", "x-most" = "1GiB", "x-or-zero" = true, "x-restart" = true))]
    pub step: Size,
    /// Time between two looks at cgroups and host.
    #[schemars(extend("x-least" = "100ms", "x-most" = "1m", "x-restart" = true))]
    pub interval: Span,
    /// Follow PHP's own request probes (USDT) where PHP has them.
    #[schemars(extend("x-restart" = true))]
    pub usdt: bool,
    /// Record and tell the values in query strings, which can be secrets.
    #[schemars(extend("x-restart" = true))]
    pub show_query: bool,
    /// Record and tell the addresses of clients.
    #[schemars(extend("x-restart" = true))]
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
    #[schemars(extend("x-least" = "1s", "x-most" = "30d"))]
    pub horizon: Span,
}

/// A rule for PHP pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRule {
    /// Name of the pool; `*` stands for any characters.
    #[schemars(length(min = 1, max = 200), example = &"www*")]
    pub name: String,
    /// As `findings.horizon`, for workers of this pool; left out = that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Span", example = &"2m", extend("x-least" = "1s", "x-most" = "30d"))]
    pub horizon: Option<Span>,
    /// Kinds of finding about this pool and its workers that are not made. What they use still
    /// counts where another is judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), example = ["leak"])]
    pub ignore: Vec<FindingKind>,
}

/// The flight recorder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    /// Whether a trace is kept.
    #[schemars(extend("x-restart" = true))]
    pub enabled: bool,
    /// The state directory: segments, incidents, and the lock that keeps a second instance out.
    #[schemars(extend("x-restart" = true))]
    pub directory: PathBuf,
    /// A segment of the rolling trace ends at this size …
    #[schemars(extend("x-least" = "64KiB", "x-most" = "1GiB"))]
    pub segment_size: Size,
    /// … or at this age.
    #[schemars(extend("x-least" = "1s", "x-most" = "7d"))]
    pub segment_age: Span,
    /// All segments together, without incidents, take no more than this.
    #[schemars(extend("x-least" = "64KiB", "x-most" = "1024GiB"))]
    pub max_size: Size,
    /// Segments older than this are removed.
    #[schemars(extend("x-least" = "1s", "x-most" = "3650d"))]
    pub max_age: Span,
    /// How much of the time before a critical finding or a kill an incident keeps.
    #[schemars(extend("x-least" = "0s", "x-most" = "1d"))]
    pub incident_before: Span,
    /// How long an incident goes on after its last critical finding or kill.
    #[schemars(extend("x-least" = "0s", "x-most" = "1h"))]
    pub incident_after: Span,
    /// Incidents that are kept; the oldest goes first.
    #[schemars(range(max = 1000))]
    pub max_incidents: u32,
    /// All incidents together take no more than this; the oldest goes first.
    #[schemars(extend("x-least" = "64KiB", "x-most" = "1024GiB"))]
    pub max_incidents_size: Size,
    /// Most time until what was recorded is on the disk. Kills and critical findings are at once.
    #[schemars(extend("x-least" = "100ms", "x-most" = "1m"))]
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
    #[schemars(range(max = 200))]
    pub top_processes: u32,
    /// Memory cgroups with series of their own: those that are fullest.
    #[schemars(range(max = 200))]
    pub max_cgroups: u32,
    /// PHP pools with series of their own: those with most memory.
    #[schemars(range(max = 200))]
    pub max_pools: u32,
    /// Measure what the kernel programs cost, one second in each minute.
    #[schemars(extend("x-restart" = true))]
    pub program_cost: bool,
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
