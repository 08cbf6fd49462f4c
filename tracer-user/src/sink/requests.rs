//! Growth by kind of request, as outputs show it: which kinds the filters show, in which order, and
//! the lines that sum it up. Owns no layout of the table.

use rustc_hash::{FxHashMap, FxHashSet};

use super::filter::Filter;
use crate::event::look::Activity;
use crate::model::{Insight, Model, RequestGrowth, RequestKind};
use crate::text::{self, fit, printable};

/// So many kinds are named at the end of a run.
const NAMED: usize = 5;
/// Widest request or path of a line, columns.
const TEXT_COLUMNS: usize = 100;

/// A kind of request that was seen growing. The filters choose which kinds are shown; the numbers
/// are of all processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind<'a> {
    pub kind: &'a RequestKind,
    pub growth: &'a RequestGrowth,
    /// Processes that were in such a request when they were last looked into.
    pub now: usize,
}

/// The kinds that are shown, most grown first.
pub(super) fn shown<'a>(model: &'a Model, filter: &Filter) -> Vec<Kind<'a>> {
    let mut now: FxHashMap<&RequestKind, usize> = FxHashMap::default();
    let mut of_shown: FxHashSet<&RequestKind> = FxHashSet::default();
    let all = filter.shows_all_php();
    for process in model.processes() {
        let Some(kind) = process.insight.as_ref().and_then(|insight| current(insight)) else {
            continue;
        };
        *now.entry(kind).or_default() += 1;
        if !all && filter.matches_process(process) {
            of_shown.insert(kind);
        }
    }
    let pools: FxHashSet<&str> = model
        .pools()
        .filter(|pool| !all && pool.workers().any(|worker| filter.matches_process(worker)))
        .map(|pool| &**pool.name)
        .collect();
    let is_shown = |kind: &RequestKind, growth: &RequestGrowth| {
        let largest = || growth.largest.and_then(|key| model.living_or_exited(&key));
        all || of_shown.contains(kind)
            || pools.contains(&*kind.pool)
            || largest().is_some_and(|process| filter.matches_process(process))
    };
    let mut kinds: Vec<Kind<'_>> = model
        .requests()
        .filter(|(kind, growth)| is_shown(kind, growth))
        .map(|(kind, growth)| Kind { kind, growth, now: now.get(kind).copied().unwrap_or(0) })
        .collect();
    kinds.sort_unstable_by(|a, b| {
        b.growth.grown_bytes.cmp(&a.growth.grown_bytes).then_with(|| a.kind.cmp(b.kind))
    });
    kinds
}

/// Growth of PHP processes that counts towards no kind, bytes. It is of all of them: nothing where
/// a filter shows only some.
pub(super) fn unattributed_bytes(model: &Model, filter: &Filter) -> u64 {
    if filter.shows_all_php() { model.unattributed_bytes() } else { 0 }
}

/// `GET /orders/{n}/export`, or the script; raw.
pub(super) fn what(kind: &RequestKind) -> String {
    match (&*kind.method, &*kind.template, &*kind.script) {
        ("", "", "") => "?".to_owned(),
        ("", "", script) => script.to_owned(),
        (method, "", script) => format!("{method} {script}"),
        ("", template, _) => template.to_owned(),
        (method, template, _) => format!("{method} {template}"),
    }
}

/// Sentences at the end of a run: the kinds that grew most, and what no look could give to one.
pub(super) fn summary(model: &Model, filter: &Filter) -> Vec<String> {
    let kinds = shown(model, filter);
    let mut lines: Vec<String> = kinds.iter().take(NAMED).map(line).collect();
    let unattributed = unattributed_bytes(model, filter);
    if unattributed > 0 {
        let bytes = text::bytes(unattributed);
        lines.push(format!("{bytes} by PHP that no look could give to a request"));
    }
    lines
}

/// `1.2 GiB in 14 requests (the largest 310 MiB): GET /orders/{n}/export, pool www, /srv/index.php`.
fn line(Kind { kind, growth, .. }: &Kind<'_>) -> String {
    let short = |text: &str| fit(&printable(text), TEXT_COLUMNS).into_owned();
    let is_command = kind.method.is_empty() && kind.template.is_empty() && kind.pool.is_empty();
    let noun = if is_command { "run" } else { "request" };
    let count = match growth.requests {
        1 => format!("1 {noun}"),
        many => {
            let largest = text::bytes(growth.largest_bytes);
            format!("{many} {noun}s (the largest {largest})")
        }
    };
    let what = what(kind);
    let mut line = format!("{} in {count}: {}", text::bytes(growth.grown_bytes), short(&what));
    if !kind.pool.is_empty() {
        line.push_str(", pool ");
        line.push_str(&short(&kind.pool));
    }
    if !kind.script.is_empty() && !kind.template.is_empty() {
        line.push_str(", ");
        line.push_str(&short(&kind.script));
    }
    line
}

/// The kind of request that a process was in when it was last looked into.
fn current(insight: &Insight) -> Option<&RequestKind> {
    match insight.activity {
        Activity::Request | Activity::Finishing => insight.kind(),
        Activity::Idle | Activity::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Filters;
    use crate::event::look::Request;
    use crate::model::script::{MIB, Script};

    /// Two requests of one kind in `www`, the second one under way, and one of another kind in
    /// `api`, which has ended.
    fn script() -> Script {
        let mut script = Script::new();
        for (tgid, pool) in [(4, "www"), (5, "www"), (6, "api")] {
            script.worker(tgid, pool, &format!("/{pool}"));
            script.size(tgid, 10.0);
            script.look(tgid, |look| look.activity = Activity::Idle);
        }
        script.wait(1.0).size(4, 40.0);
        script.look_in_request(4, "/orders/17/export", 0.5, 7);
        script.size(5, 80.0);
        script.look_in_request(5, "/orders/18/export", 0.5, 7);
        script.size(6, 15.0);
        script.look(6, |look| {
            crate::model::script::in_request(look, "/ping", 0.5, 7);
            look.pool = Some("api".into());
        });
        script.wait(1.0).look(4, |look| look.activity = Activity::Idle);
        script.look(6, |look| look.activity = Activity::Idle);
        script
    }

    fn filter(filters: &Filters) -> Filter {
        Filter::new(filters).unwrap()
    }

    #[test]
    fn the_most_grown_comes_first_with_those_that_are_in_it_now() {
        let script = script();
        let kinds = shown(&script.model, &Filter::default());
        let found: Vec<(String, u64, usize)> = kinds
            .iter()
            .map(|kind| (what(kind.kind), kind.growth.grown_bytes / MIB, kind.now))
            .collect();
        let expected =
            [("GET /orders/{n}/export".to_owned(), 100, 1), ("GET /ping".to_owned(), 5, 0)];
        assert_eq!(found, expected);
    }

    #[test]
    fn filters_choose_the_kinds_by_their_processes() {
        let script = script();
        let names = |filters: &Filters| -> Vec<String> {
            let kinds = shown(&script.model, &filter(filters));
            kinds.iter().map(|kind| what(kind.kind)).collect()
        };
        let below = |path: &str| Filters { cgroup: Some(path.to_owned()), ..Filters::default() };
        assert_eq!(names(&below("/api")), ["GET /ping"]);
        assert_eq!(names(&below("/www")), ["GET /orders/{n}/export"]);
        assert!(names(&below("/db")).is_empty());
        assert_eq!(names(&Filters { php: true, ..Filters::default() }).len(), 2);
        let one = Filters { tgid: vec![6], ..Filters::default() };
        assert_eq!(names(&one), ["GET /ping"]);
    }

    #[test]
    fn the_end_names_the_kinds_and_what_belongs_to_none() {
        let mut script = script();
        assert_eq!(
            summary(&script.model, &Filter::default()),
            [
                "100 MiB in 2 requests (the largest 70.0 MiB): GET /orders/{n}/export, pool www, \
                 /srv/index.php",
                "5.0 MiB in 1 request: GET /ping, pool api, /srv/index.php",
            ]
        );
        // Its end was seen by no look.
        script.wait(1.0).size(6, 35.0);
        script.look(6, |_| {});
        let lines = summary(&script.model, &Filter::default());
        assert_eq!(lines[2..], ["20.0 MiB by PHP that no look could give to a request"]);
        let one = filter(&Filters { tgid: vec![6], ..Filters::default() });
        assert_eq!(summary(&script.model, &one).len(), 1, "that number is of all processes");
    }

    #[test]
    fn at_most_five_are_named_and_commands_run() {
        let mut script = Script::new();
        script.worker(4, "www", "/web");
        script.size(4, 10.0);
        for run in 1..=7 {
            script.wait(1.0).look(4, |look| look.activity = Activity::Idle);
            script.size(4, 10.0 + 10.0 * f64::from(run));
            script.look(4, |look| {
                look.activity = Activity::Request;
                look.pool = None;
                look.request = Some(Request {
                    script: Some(format!("/srv/\x1bjob{run}.php").into()),
                    elapsed_ns: Some(500_000_000),
                    ..Request::default()
                });
            });
        }
        let lines = summary(&script.model, &Filter::default());
        assert_eq!(lines.len(), NAMED);
        assert_eq!(lines[0], "10.0 MiB in 1 run: /srv/\\x1bjob1.php");
        assert!(summary(&Script::new().model, &Filter::default()).is_empty());
    }
}
