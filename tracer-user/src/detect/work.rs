//! What a PHP process does, as findings say it: the request, and the code that grows.

use crate::event::look::{Frame, Memory, Missing, Request};
use crate::event::{Runaway, Spot};
use crate::model::Process;

use super::sentence::name;

/// So many functions are shown.
const SHOWN: usize = 5;
/// A function is named with its share from so many samples on …
pub(super) const LEAST_SAMPLES: u64 = 5;
/// … when it holds this much of the growth. Of few samples (with huge pages each stands for 2 MiB) …
const LEAST_SHARE: f64 = 0.3;
/// … no number is told, only that it is the most.
const NUMBER_SAMPLES: f64 = 20.0;
const MOST_SHARE: f64 = 0.5;

/// What is known of the work of a process; all empty for one that is no PHP.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub request: Option<Request>,
    pub stack: Vec<Frame>,
    pub memory: Option<Memory>,
    pub growth: Vec<Spot>,
    pub missing: Vec<Missing>,
}

/// Takes it from the model.
pub(super) fn of(process: &Process) -> Work {
    let Some(insight) = &process.insight else { return Work::default() };
    let mut growth = insight.spots();
    growth.truncate(SHOWN);
    Work {
        request: insight.request().cloned(),
        stack: insight.stack.clone(),
        memory: insight.memory(),
        growth,
        missing: insight.missing.clone(),
    }
}

/// `; it serves GET /orders/17/export, about 82 % of its growth in App\Import::load (Import.php:214)`;
/// empty when nothing is known.
pub(super) fn sentence(runaway: &Runaway) -> String {
    let mut out = match runaway.request.as_ref().map(request) {
        Some(request) => format!("; it serves {request}"),
        None => String::new(),
    };
    if let Some(code) = code(runaway) {
        out.push_str(if out.is_empty() { "; " } else { ", " });
        out.push_str(&code);
    }
    out
}

/// `GET /orders/17/export`, or the script.
pub(super) fn request(request: &Request) -> String {
    match (&request.uri, &request.script) {
        (Some(uri), _) => {
            let method = request.method.as_deref().unwrap_or("");
            format!("{} {}", name(method), name(uri)).trim_start_matches("? ").to_owned()
        }
        (None, Some(script)) => name(script),
        (None, None) => "a request that could not be read".to_owned(),
    }
}

/// `about 82 % of its growth in App\Import::load, line 214 of Import.php`; None = too few samples.
pub(super) fn spot(spot: &Spot) -> Option<String> {
    if spot.samples < LEAST_SAMPLES || spot.share < LEAST_SHARE {
        return None;
    }
    // All samples of the request.
    let share = match spot.samples as f64 / spot.share >= NUMBER_SAMPLES {
        true => format!("about {:.0} %", spot.share * 100.0),
        false if spot.share >= MOST_SHARE => "most".to_owned(),
        false => "much".to_owned(),
    };
    let place = place(spot.function.as_deref(), spot.file.as_deref()?, spot.line);
    Some(format!("{share} of its growth in {place}"))
}

fn code(runaway: &Runaway) -> Option<String> {
    if let Some(code) = runaway.php_growth.first().and_then(spot) {
        return Some(code);
    }
    let frame = runaway.php_stack.iter().find(|frame| frame.file.is_some())?;
    let function = frame.name();
    Some(format!("now in {}", place(function.as_deref(), frame.file.as_deref()?, frame.line)))
}

/// `App\Import::load, line 214 of Import.php`.
fn place(function: Option<&str>, file: &str, line: Option<u32>) -> String {
    let file = name(file.rsplit('/').next().unwrap_or(file));
    let at = line.map_or_else(|| file.clone(), |line| format!("line {line} of {file}"));
    match function {
        Some(function) => format!("{}, {at}", name(function)),
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_requests_are_named_harmlessly() {
        assert_eq!(
            place(Some("App\\Import::load"), "/srv/Import.php", Some(214)),
            "App\\Import::load, line 214 of Import.php"
        );
        assert_eq!(place(None, "a\x1b.php", None), "a\\x1b.php");
        let asked = |method: Option<&str>, uri: Option<&str>, script: Option<&str>| {
            request(&Request {
                method: method.map(Into::into),
                uri: uri.map(Into::into),
                script: script.map(Into::into),
                ..Request::default()
            })
        };
        assert_eq!(asked(Some("GET"), Some("/a\n?q=…"), None), "GET /a\\n?q=…");
        assert_eq!(asked(None, Some("/a"), None), "/a");
        assert_eq!(asked(None, None, Some("/srv/artisan")), "/srv/artisan");
        assert!(asked(Some("GET"), Some(&"/x".repeat(5000)), None).chars().count() < 80);
    }
}
