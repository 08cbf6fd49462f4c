//! Findings and metrics as OpenTelemetry has them.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use rampage::event::Severity;
use rampage::metrics::{Family, Kind, Snapshot};

use crate::journal::word;
use crate::receiver::{About, Told};

/// A finding as one log record.
pub fn log(told: &Told) -> ExportLogsServiceRequest {
    let finding = &told.alert.finding;
    let kind = word(&finding.kind);
    let (number, name) = match finding.severity {
        Severity::Info => (SeverityNumber::Info, "INFO"),
        Severity::Warning => (SeverityNumber::Warn, "WARN"),
        Severity::Critical => (SeverityNumber::Error, "ERROR"),
    };
    let mut attributes = vec![
        text("rampage.finding.kind", &kind),
        text("rampage.finding.state", &word(&finding.state)),
        text("rampage.finding.severity", &word(&finding.severity)),
        int("rampage.finding.id", finding.id),
        int("rampage.boot_time_ns", told.alert.t_ns),
    ];
    if let Some(subject) = &finding.subject {
        attributes.push(int("process.pid", subject.tgid.into()));
        attributes.push(text("process.executable.name", &subject.comm));
        attributes.extend(subject.pool.as_ref().map(|pool| text("rampage.php.pool", pool)));
        attributes.extend(subject.cgroup.as_ref().map(|path| text("process.linux.cgroup", path)));
    }
    if let Ok(evidence) = serde_json::to_string(&finding.evidence) {
        attributes.push(text("rampage.finding.evidence", &evidence));
    }
    let wall_ns = u64::try_from(told.alert.wall_ns).unwrap_or(0);
    let record = LogRecord {
        time_unix_nano: wall_ns,
        observed_time_unix_nano: wall_ns,
        severity_number: number.into(),
        severity_text: name.to_owned(),
        body: Some(string(&finding.summary)),
        attributes,
        event_name: format!("rampage.finding.{kind}"),
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(&told.about)),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope(&told.about)),
                log_records: vec![record],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

/// All metrics of one moment.
pub fn metrics(
    about: &About,
    start_wall_ns: i64,
    snapshot: &Snapshot,
) -> ExportMetricsServiceRequest {
    let start = u64::try_from(start_wall_ns).unwrap_or(0);
    let now = u64::try_from(snapshot.wall_ns).unwrap_or(0);
    let metrics = snapshot.families.iter().map(|family| one(family, start, now)).collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(about)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope(about)),
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn one(family: &Family, start: u64, now: u64) -> Metric {
    let points = family
        .samples
        .iter()
        .map(|sample| NumberDataPoint {
            attributes: sample.labels.iter().map(|(name, value)| text(name, value)).collect(),
            start_time_unix_nano: if family.kind == Kind::Counter { start } else { 0 },
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsDouble(sample.value)),
            ..NumberDataPoint::default()
        })
        .collect();
    let data = match family.kind {
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: points,
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: points }),
    };
    // As UCUM has them.
    let unit = match family.unit.as_str() {
        "bytes" => "By",
        "seconds" => "s",
        "ratio" | "" => "1",
        other => other,
    };
    Metric {
        name: family.name.clone(),
        description: family.help.clone(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn resource(about: &About) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "rampage"),
            text("service.version", &about.version),
            text("host.name", &about.host),
            text("rampage.boot_id", &about.boot_id),
        ],
        ..Resource::default()
    }
}

fn scope(about: &About) -> InstrumentationScope {
    InstrumentationScope {
        name: "rampage".to_owned(),
        version: about.version.clone(),
        ..InstrumentationScope::default()
    }
}

fn string(value: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.to_owned())) }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(string(value)), ..KeyValue::default() }
}

fn int(key: &str, value: u64) -> KeyValue {
    let value = Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX));
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
