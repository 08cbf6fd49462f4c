//! Who is told of findings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;
use crate::event::Severity;

/// Who is told of findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Findings below this severity are recorded, and told to nobody.
    pub min_severity: Severity,
    /// Write findings to the journal, with fields of their own (RAMPAGE_KIND, RAMPAGE_POOL …).
    pub journal: bool,
    /// Receivers over HTTP.
    #[schemars(length(max = 16))]
    pub webhook: Vec<Webhook>,
    /// Programs that are run for each finding.
    #[schemars(length(max = 16))]
    pub command: Vec<CommandAlert>,
    /// Collectors of OpenTelemetry.
    #[schemars(length(max = 16))]
    pub otlp: Vec<Otlp>,
}

/// A receiver over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What it is called in messages and metrics: letters, digits, `_`, `-` and `.`.
    #[schemars(length(min = 1, max = 64), example = &"ops")]
    pub name: String,
    /// Where each finding is sent by POST; http or https.
    #[schemars(example = &"https://ops.example.org/rampage", extend("x-secret" = "path"))]
    pub url: String,
    /// `json`: the finding as in a trace, with `host`; `slack`: an object with `text`.
    #[serde(default)]
    pub format: WebhookFormat,
    /// Headers that are sent along, such as a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        example = BTreeMap::from([("Authorization", "Bearer TOKEN")]),
        extend("x-secret" = "values", "maxProperties" = 32)
    )]
    pub headers: BTreeMap<String, String>,
    /// Least severity, if it is not that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Severity", example = &"critical")]
    pub min_severity: Option<Severity>,
    /// An answer that takes longer is a failure.
    #[serde(default = "ten_seconds")]
    #[schemars(extend("x-least" = "100ms", "x-most" = "5m"))]
    pub timeout: Span,
    /// A finding that could not be delivered for this long is given up and counted.
    #[serde(default = "ten_minutes")]
    #[schemars(extend("x-least" = "1s", "x-most" = "1d"))]
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
    /// What it is called in messages and metrics: letters, digits, `_`, `-` and `.`.
    #[schemars(length(min = 1, max = 64), example = &"pager")]
    pub name: String,
    /// The program, by its whole path, and its arguments; no shell. The finding comes as JSON on its
    /// standard input.
    #[schemars(length(min = 1, max = 64), example = ["/usr/local/bin/page", "--urgent"])]
    pub run: Vec<String>,
    /// Least severity, if it is not that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Severity", example = &"critical")]
    pub min_severity: Option<Severity>,
    /// It is ended after this time.
    #[serde(default = "ten_seconds")]
    #[schemars(extend("x-least" = "100ms", "x-most" = "5m"))]
    pub timeout: Span,
}

/// A collector of OpenTelemetry: findings as log records, and the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// What it is called in messages and metrics: letters, digits, `_`, `-` and `.`.
    #[schemars(length(min = 1, max = 64), example = &"fleet")]
    pub name: String,
    /// `http://127.0.0.1:4317` for gRPC; `http://127.0.0.1:4318` for HTTP.
    #[schemars(example = &"http://127.0.0.1:4317", extend("x-secret" = "path"))]
    pub endpoint: String,
    /// `grpc` or `http` (protobuf).
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Headers (gRPC: metadata) that are sent along, such as a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        example = BTreeMap::from([("Authorization", "Bearer TOKEN")]),
        extend("x-secret" = "values", "maxProperties" = 32)
    )]
    pub headers: BTreeMap<String, String>,
    /// Least severity of findings, if it is not that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Severity", example = &"critical")]
    pub min_severity: Option<Severity>,
    /// Time between two exports of the metrics; `0s` =
    /// findings only.
    #[serde(default = "one_minute")]
    #[schemars(extend("x-least" = "1s", "x-most" = "1d", "x-or-zero" = true))]
    pub metrics_interval: Span,
    /// An answer that takes longer is a failure.
    #[serde(default = "ten_seconds")]
    #[schemars(extend("x-least" = "100ms", "x-most" = "5m"))]
    pub timeout: Span,
    /// A finding that could not be delivered for this long is given up and counted.
    #[serde(default = "ten_minutes")]
    #[schemars(extend("x-least" = "1s", "x-most" = "1d"))]
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
