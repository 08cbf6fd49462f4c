//! A worker of a pool, and what it does.

use super::super::quantity::clean;
use super::super::view::{PATH_CHARS, contains};
use super::{Standing, standing};
use crate::event::look::{Activity, Frame, Request};
use crate::model::{Forecast, Insight, Process};
use crate::text::seconds;

/// A look that is older says nothing certain of now: its age is shown, ns.
const FRESH_NS: u64 = 5_000_000_000;

/// One worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerRow {
    pub tgid: u32,
    pub private_bytes: u64,
    pub rate_bytes_per_s: f64,
    /// To its own memory_limit.
    pub standing: Standing,
    /// `GET /orders/17/export`, `idle`, or why it is not known.
    pub does: String,
    /// `12 s`, the time in the request; with the age of the look where it is old.
    pub time: Option<String>,
    /// `App\Import::load Import.php:214`.
    pub at: Option<String>,
}

impl WorkerRow {
    /// `limit` is its memory_limit.
    pub fn new(process: &Process, limit: Option<&Forecast>, now_ns: u64) -> Self {
        let insight = process.insight.as_deref();
        Self {
            tgid: process.key.tgid,
            private_bytes: process.private_bytes(),
            rate_bytes_per_s: process.rate_bytes_per_s,
            standing: limit
                .map_or_else(Standing::default, |limit| standing(process.rate_bytes_per_s, limit)),
            does: insight.map_or_else(|| "not looked into yet".to_owned(), does),
            time: insight.and_then(|insight| time(insight, now_ns)),
            at: insight.and_then(|insight| innermost(&insight.stack)),
        }
    }

    /// Whether what it does contains this.
    pub fn matches(&self, needle: &str) -> bool {
        contains(&self.does, needle) || self.at.as_ref().is_some_and(|at| contains(at, needle))
    }
}

fn does(insight: &Insight) -> String {
    let request = insight.request().map_or_else(|| "in a request".to_owned(), asked);
    match (insight.activity, insight.missing.first()) {
        (Activity::Idle, _) => "idle".to_owned(),
        (Activity::Request, _) => request,
        (Activity::Finishing, _) => format!("{request} (finishing)"),
        (Activity::Unknown, Some(missing)) => format!("? {}", clean(&missing.to_string(), 128)),
        (Activity::Unknown, None) => "?".to_owned(),
    }
}

fn asked(request: &Request) -> String {
    match (&request.uri, &request.script) {
        (Some(uri), _) => {
            let method = request.method.as_deref().map_or_else(String::new, |m| clean(m, 16));
            format!("{method} {}", clean(uri, PATH_CHARS)).trim_start().to_owned()
        }
        (None, Some(script)) => clean(script, PATH_CHARS),
        (None, None) => "in a request".to_owned(),
    }
}

fn time(insight: &Insight, now_ns: u64) -> Option<String> {
    if !matches!(insight.activity, Activity::Request | Activity::Finishing) {
        return None;
    }
    let shown = |ns: u64| seconds(ns as f64 / 1e9);
    let elapsed = insight.request().and_then(|request| request.elapsed_ns).map(shown);
    let age_ns = now_ns.saturating_sub(insight.looked_ns);
    let age = (age_ns > FRESH_NS).then(|| format!("(seen {} ago)", shown(age_ns)));
    match (elapsed, age) {
        (Some(elapsed), Some(age)) => Some(format!("{elapsed} {age}")),
        (elapsed, age) => elapsed.or(age),
    }
}

/// The PHP line that ran, and the function that it was in.
fn innermost(stack: &[Frame]) -> Option<String> {
    let frame = stack.iter().find(|frame| frame.file.is_some())?;
    let file = frame.file.as_deref()?;
    let file = clean(file.rsplit('/').next().unwrap_or(file), 64);
    let place = frame.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
    Some(match frame.name() {
        Some(name) => format!("{} {place}", clean(&name, 128)),
        None => place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::look::{Part, Reason};
    use crate::model::script::{Script, key};

    fn row(script: &Script) -> WorkerRow {
        let process = script.model.process(&key(4)).unwrap();
        WorkerRow::new(process, None, script.model.now_ns())
    }

    #[test]
    fn what_a_worker_does_and_since_when_that_is_known() {
        let mut script = Script::new();
        script.worker(4, "www", "/web");
        script.size(4, 10.0);
        assert_eq!(row(&script).does, "not looked into yet");
        script.look(4, |look| look.activity = Activity::Idle);
        assert_eq!((row(&script).does.as_str(), row(&script).time), ("idle", None));
        script.look_in_request(4, "/a\x1b?q=…", 12.0, 7);
        let busy = row(&script);
        assert_eq!(busy.does, "GET /a\\x1b?q=…");
        assert_eq!(busy.time.as_deref(), Some("12 s"));
        assert_eq!(busy.at.as_deref(), Some("App\\Import::load Import.php:7"));
        assert!(busy.matches("/a") && busy.matches("import.php") && !busy.matches("/b"));
        script.wait(60.0).tick();
        assert_eq!(row(&script).time.as_deref(), Some("12 s (seen 60 s ago)"));
        script.look(4, |look| look.miss(Part::All, Reason::Torn));
        let unknown = row(&script);
        assert_eq!(unknown.does, "? nothing of PHP: PHP moved on while it was read");
        assert_eq!((unknown.time, unknown.at), (None, None));
    }

    #[test]
    fn functions_of_php_itself_are_passed_over() {
        let internal = Frame { function: Some("str_repeat".into()), ..Frame::default() };
        let file = Frame { file: Some("/srv/a.php".into()), line: Some(3), ..Frame::default() };
        assert_eq!(innermost(&[internal.clone(), file]).as_deref(), Some("a.php:3"));
        assert_eq!(innermost(&[internal]), None);
    }
}
