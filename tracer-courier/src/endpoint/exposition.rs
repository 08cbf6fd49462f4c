//! Metrics as text: OpenMetrics 1.0, and Prometheus's own format 0.0.4 for those who ask for nothing
//! else. prometheus-client's encoder knows the first only, and escapes neither values of labels nor
//! help, which it expects to come from code; here they are names that processes gave themselves.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::borrow::Cow;
use std::fmt::Write as _;

use hyper::header::HeaderValue;
use rampage::metrics::{Family, Kind, Snapshot};

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own.
    Plain,
    /// OpenMetrics.
    Open,
}

impl Format {
    /// What a client that sends this header wants.
    pub fn of(accept: Option<&HeaderValue>) -> Self {
        let wants = |accept: &str| accept.contains("application/openmetrics-text");
        match accept.and_then(|accept| accept.to_str().ok()).is_some_and(wants) {
            true => Self::Open,
            false => Self::Plain,
        }
    }

    /// Its name in HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics. Families without a series are left out.
pub fn text(snapshot: &Snapshot, format: Format) -> String {
    let series: usize = snapshot.families.iter().map(|family| family.samples.len()).sum();
    let mut out = String::with_capacity(96 * series + 1024);
    for family in snapshot.families.iter().filter(|family| !family.samples.is_empty()) {
        // Writing to a String cannot fail.
        let _ = one(&mut out, family, format);
    }
    if format == Format::Open {
        out.push_str("# EOF\n");
    }
    out.shrink_to_fit();
    out
}

fn one(out: &mut String, family: &Family, format: Format) -> std::fmt::Result {
    let name = full_name(family);
    let (kind, suffix) = match family.kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
    };
    // A counter's family has its suffix in one format and not in the other.
    let described = if format == Format::Open { "" } else { suffix };
    writeln!(out, "# HELP {name}{described} {}", escape(&family.help, format == Format::Open))?;
    writeln!(out, "# TYPE {name}{described} {kind}")?;
    if format == Format::Open && !family.unit.is_empty() {
        writeln!(out, "# UNIT {name} {}", identifier(&family.unit))?;
    }
    for sample in &family.samples {
        write!(out, "{name}{suffix}")?;
        for (at, (label, value)) in sample.labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(out, "{before}{}=\"{}\"", identifier(label), escape(value, true))?;
        }
        if !sample.labels.is_empty() {
            out.push('}');
        }
        match sample.value {
            value if value.is_nan() => out.push_str(" NaN\n"),
            value if value.is_infinite() => {
                out.push_str(if value > 0.0 { " +Inf\n" } else { " -Inf\n" });
            }
            value => writeln!(out, " {value}")?,
        }
    }
    Ok(())
}

/// With its unit.
fn full_name(family: &Family) -> String {
    let name = identifier(&family.name);
    let unit = identifier(&family.unit);
    match name.strip_suffix(&*unit) {
        _ if unit.is_empty() => name.into_owned(),
        Some(before) if before.ends_with('_') => name.into_owned(),
        _ => format!("{name}_{unit}"),
    }
}

/// With `_` for what a name must not have.
fn identifier(name: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.into();
    }
    let first = name.starts_with(|c: char| c.is_ascii_digit()).then_some('_');
    first.into_iter().chain(name.chars().map(|c| if allowed(c) { c } else { '_' })).collect()
}

/// Backslashes and line ends, and where they would end it, quotes.
fn escape(text: &str, quotes: bool) -> Cow<'_, str> {
    let special = |c: char| c == '\\' || c == '\n' || (quotes && c == '"');
    if !text.contains(special) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rampage::metrics::Sample;

    fn family(name: &str, unit: &str, kind: Kind, samples: Vec<Sample>) -> Family {
        let help = "A \"b\" \\ c\nd.".to_owned();
        Family { name: name.to_owned(), help, unit: unit.to_owned(), kind, samples }
    }

    fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Sample { labels: labels.collect(), value }
    }

    fn snapshot() -> Snapshot {
        let hostile = "a\"b\\c\nd\u{fffd} 東";
        Snapshot {
            families: vec![
                family(
                    "rampage_findings",
                    "",
                    Kind::Counter,
                    vec![
                        sample(&[("kind", "leak"), ("severity", "info")], 3.0),
                        sample(&[("kind", "runaway"), ("severity", "critical")], 0.0),
                    ],
                ),
                family(
                    "rampage_memory_used",
                    "bytes",
                    Kind::Gauge,
                    vec![sample(&[("comm", hostile)], 1e12), sample(&[("bad name", "")], f64::NAN)],
                ),
                family("rampage_cpu_seconds", "seconds", Kind::Counter, vec![sample(&[], 0.25)]),
                family("rampage_nothing", "", Kind::Gauge, vec![]),
            ],
            ..Snapshot::default()
        }
    }

    #[test]
    fn open_metrics_text() {
        let expected = r#"# HELP rampage_findings A \"b\" \\ c\nd.
# TYPE rampage_findings counter
rampage_findings_total{kind="leak",severity="info"} 3
rampage_findings_total{kind="runaway",severity="critical"} 0
# HELP rampage_memory_used_bytes A \"b\" \\ c\nd.
# TYPE rampage_memory_used_bytes gauge
# UNIT rampage_memory_used_bytes bytes
rampage_memory_used_bytes{comm="a\"b\\c\nd� 東"} 1000000000000
rampage_memory_used_bytes{bad_name=""} NaN
# HELP rampage_cpu_seconds A \"b\" \\ c\nd.
# TYPE rampage_cpu_seconds counter
# UNIT rampage_cpu_seconds seconds
rampage_cpu_seconds_total 0.25
# EOF
"#;
        assert_eq!(text(&snapshot(), Format::Open), expected);
    }

    #[test]
    fn prometheus_text() {
        let text = text(&snapshot(), Format::Plain);
        assert!(text.contains("# TYPE rampage_findings_total counter\n"));
        assert!(text.contains("# HELP rampage_cpu_seconds_total A \"b\" \\\\ c\\nd.\n"));
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    }

    #[test]
    fn the_client_chooses() {
        let of = |accept: &str| Format::of(Some(&HeaderValue::from_str(accept).unwrap()));
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(of(prometheus), Format::Open);
        assert_eq!(of("text/plain"), Format::Plain);
        assert_eq!(Format::of(None), Format::Plain);
    }
}
