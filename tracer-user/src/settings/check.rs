//! What types and bounds of single keys cannot say: values with a form of their own, and keys that
//! must fit each other. Problems make a file unusable, warnings do not.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use http::{HeaderName, HeaderValue, Uri};

use super::problem::Fault;
use super::walk::Found;
use super::{OtlpProtocol, Settings};
use crate::cli::{FilterArgs, parse_cgroup};
use crate::event::{FindingKind, matches_pattern};
use crate::sink::filter::{comm_regex, reason};

/// Kinds of finding that are about a place, whoever is in it.
const NEVER_OF_POOL: [(FindingKind, &str); 2] =
    [(FindingKind::Pressure, "pressure"), (FindingKind::Cascade, "cascade")];
/// Headers that belong to the connection or the body.
const TAKEN: [&str; 7] =
    ["connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"];

/// Everything that can be said without this host.
pub(super) fn settings(settings: &Settings, problems: &mut Found, warnings: &mut Found) {
    warnings.lines.clone_from(&problems.lines);
    watch(settings, problems);
    pool_rules(settings, warnings);
    recorder(settings, problems, warnings);
    if let Err(error) = settings.metrics.endpoint() {
        note(problems, "metrics.listen", error.into());
    }
    alerts(settings, problems);
}

/// What of this host does not fit.
pub(super) fn host(settings: &Settings, warnings: &mut Found) {
    let Ok(path) = parse_cgroup(&settings.watch.cgroup) else { return };
    let filters = FilterArgs { cgroup: Some(path.clone()), ..FilterArgs::default() };
    if filters.check_host().is_err() {
        note(warnings, "watch.cgroup", Fault::NoSuchCgroup { path });
    }
}

/// Rules that match no pool.
pub(super) fn pools<'a>(
    settings: &Settings,
    pools: impl IntoIterator<Item = &'a str>,
    warnings: &mut Found,
) {
    let mut is_used = vec![false; settings.pool.len()];
    for pool in pools {
        let first = settings.pool.iter().position(|rule| matches_pattern(&rule.name, pool));
        if let Some(used) = first.and_then(|at| is_used.get_mut(at)) {
            *used = true;
        }
    }
    for (at, rule) in settings.pool.iter().enumerate() {
        if !is_used.get(at).is_some_and(|used| *used) {
            let name = rule.name.clone();
            note(warnings, &format!("pool[{at}].name"), Fault::UnmatchedPool { name });
        }
    }
}

/// Notes a fault at the line of a path, whose elements have numbers.
fn note(found: &mut Found, path: &str, fault: Fault) {
    let line = found.line(path);
    let key: String = path.split(']').map(|part| part.split('[').next().unwrap_or(part)).collect();
    found.note(line, &key, fault);
}

fn watch(settings: &Settings, problems: &mut Found) {
    let watch = &settings.watch;
    if !watch.cgroup.is_empty() && parse_cgroup(&watch.cgroup).is_err() {
        note(problems, "watch.cgroup", Fault::CgroupPath);
    }
    if let Err(error) = comm_regex(&watch.comm) {
        note(problems, "watch.comm", Fault::Expression { reason: reason(&error) });
    }
}

fn pool_rules(settings: &Settings, warnings: &mut Found) {
    for (at, rule) in settings.pool.iter().enumerate() {
        // A pattern that matches another as a text matches all that the other matches.
        let mut earlier = settings.pool.iter().take(at);
        if let Some(first) = earlier.position(|other| matches_pattern(&other.name, &rule.name)) {
            let line = warnings.line(&format!("pool[{first}]"));
            note(warnings, &format!("pool[{at}]"), Fault::ShadowedPool { line });
        }
        for (kind, name) in NEVER_OF_POOL {
            if rule.ignore.contains(&kind) {
                note(warnings, &format!("pool[{at}].ignore"), Fault::NeverOfPool { kind: name });
            }
        }
    }
}

fn recorder(settings: &Settings, problems: &mut Found, warnings: &mut Found) {
    let recorder = &settings.recorder;
    let directory = &recorder.directory;
    let goes_up = directory.components().any(|part| part == std::path::Component::ParentDir);
    if !directory.is_absolute() || goes_up || directory.parent().is_none() {
        note(problems, "recorder.directory", Fault::Directory);
    }
    if recorder.segment_size > recorder.max_size {
        let is_given = problems.lines.contains_key("recorder.segment_size");
        let path = if is_given { "recorder.segment_size" } else { "recorder.max_size" };
        let segment = recorder.segment_size.to_string();
        note(
            problems,
            path,
            Fault::SegmentTooLarge { segment, all: recorder.max_size.to_string() },
        );
    }
    if recorder.segment_age > recorder.max_age {
        let max_age = recorder.max_age.to_string();
        let age = recorder.segment_age.to_string();
        note(warnings, "recorder.max_age", Fault::SegmentOutlivesAge { max_age, age });
    }
}

fn alerts(settings: &Settings, problems: &mut Found) {
    let alerts = &settings.alerts;
    names(problems, "alerts.webhook", alerts.webhook.iter().map(|one| one.name.as_str()));
    names(problems, "alerts.command", alerts.command.iter().map(|one| one.name.as_str()));
    names(problems, "alerts.otlp", alerts.otlp.iter().map(|one| one.name.as_str()));
    for (at, webhook) in alerts.webhook.iter().enumerate() {
        let path = format!("alerts.webhook[{at}]");
        if let Err(fault) = address(&webhook.url, Fault::Url) {
            note(problems, &format!("{path}.url"), fault);
        }
        headers(problems, &path, &webhook.headers);
    }
    for (at, command) in alerts.command.iter().enumerate() {
        let program = command.run.first().map(Path::new);
        let is_whole = |program: &Path| program.is_absolute() && program.file_name().is_some();
        if !program.is_some_and(is_whole) {
            note(problems, &format!("alerts.command[{at}].run"), Fault::Program);
        }
    }
    for (at, otlp) in alerts.otlp.iter().enumerate() {
        let path = format!("alerts.otlp[{at}]");
        if let Err(fault) = endpoint(&otlp.endpoint, otlp.protocol) {
            note(problems, &format!("{path}.endpoint"), fault);
        }
        headers(problems, &path, &otlp.headers);
    }
}

fn names<'a>(problems: &mut Found, list: &str, names: impl Iterator<Item = &'a str>) {
    let mut known = BTreeMap::new();
    for (at, name) in names.enumerate() {
        let path = format!("{list}[{at}].name");
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !name.chars().all(is_fit) {
            note(problems, &path, Fault::ReceiverName);
        }
        match known.get(name) {
            Some(line) => note(problems, &path, Fault::SameName { line: *line }),
            None => _ = known.insert(name, problems.line(&path)),
        }
    }
}

/// An address of http or https; `fault` = it is none.
fn address(text: &str, fault: Fault) -> Result<Uri, Fault> {
    let Ok(uri) = text.parse::<Uri>() else { return Err(fault) };
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_port = uri.port().is_none_or(|port| port.as_u16() != 0);
    // Without the port's number `http` takes `host:` and `host:70000`, too.
    let is_odd = |authority: &str| {
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        port.is_some_and(|(_, port)| port.parse::<u16>().is_err())
    };
    // Who ends in a number is an address: `10.0.0.256` is no name.
    let is_no_number = |host: &str| {
        let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let is_number = last.starts_with(|c: char| c.is_ascii_digit())
            && (last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x"));
        is_number && host.parse::<Ipv4Addr>().is_err()
    };
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(Fault::UrlUser),
        Some(authority)
            if is_http
                && has_port
                && !authority.host().is_empty()
                && !is_no_number(authority.host())
                && !is_odd(authority.as_str()) =>
        {
            Ok(uri)
        }
        _ => Err(fault),
    }
}

fn endpoint(text: &str, protocol: OtlpProtocol) -> Result<(), Fault> {
    let uri = address(text, Fault::OtlpEndpoint)?;
    match protocol {
        _ if uri.query().is_some() => Err(Fault::OtlpEndpoint),
        OtlpProtocol::Grpc if uri.path() != "/" => Err(Fault::GrpcPath),
        OtlpProtocol::Grpc | OtlpProtocol::Http => Ok(()),
    }
}

fn headers(problems: &mut Found, path: &str, headers: &BTreeMap<String, String>) {
    for (name, value) in headers {
        let path = format!("{path}.headers.{name}");
        let name = name.clone();
        let fault = match HeaderName::try_from(&name) {
            Err(_) => Fault::HeaderName { name },
            Ok(known) if TAKEN.contains(&known.as_str()) => Fault::HeaderTaken { name },
            Ok(_) if !value.is_ascii() || HeaderValue::from_str(value).is_err() => {
                Fault::HeaderValue { name }
            }
            Ok(_) => continue,
        };
        let line = problems.line(&path);
        let key = path.split('[').next().unwrap_or_default();
        problems.note(line, &format!("{key}.headers"), fault);
    }
}
