//! Growth by kind of request, as rows.

use super::super::quantity::clean;
use super::super::view::{PATH_CHARS, contains};
use crate::model::Model;
use crate::sink::filter::Filter;
use crate::sink::requests::{self, Kind};

/// Longest name of a pool that is kept, characters.
const POOL_CHARS: usize = 64;

/// One kind of request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestRow {
    pub grown_bytes: u64,
    /// Requests that were seen growing.
    pub seen: u64,
    pub largest_bytes: u64,
    /// The process of the largest one.
    pub largest_tgid: Option<u32>,
    /// Processes in such a request when they were last looked into.
    pub now: usize,
    pub pool: Option<String>,
    /// `GET /orders/{n}/export`, or the script.
    pub what: String,
    pub script: Option<String>,
}

/// All kinds that are kept, and the growth that belongs to none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    /// Most grown first; the model keeps at most 256.
    pub rows: Vec<RequestRow>,
    pub unattributed_bytes: u64,
    /// PHP processes are looked into.
    pub looks: bool,
}

impl Requests {
    /// What is known now, under the filters of the command line.
    pub fn read(model: &Model, filter: &Filter) -> Self {
        Self {
            rows: requests::shown(model, filter).iter().map(RequestRow::new).collect(),
            unattributed_bytes: requests::unattributed_bytes(model, filter),
            looks: model.takes_looks(),
        }
    }

    /// Rows `first .. first + count` of those that match, the place of the first, and how many
    /// match. When fewer match, the last page is given.
    pub fn page(
        &self,
        filter: &str,
        first: usize,
        count: usize,
    ) -> (Vec<RequestRow>, usize, usize) {
        let needle = filter.to_lowercase();
        let matching: Vec<&RequestRow> =
            self.rows.iter().filter(|row| row.matches(&needle)).collect();
        let first = first.min(matching.len().saturating_sub(count));
        let rows = matching.iter().skip(first).take(count).map(|row| (*row).clone()).collect();
        (rows, first, matching.len())
    }
}

impl RequestRow {
    fn new(Kind { kind, growth, now }: &Kind<'_>) -> Self {
        let known = |text: &str, chars| (!text.is_empty()).then(|| clean(text, chars));
        Self {
            grown_bytes: growth.grown_bytes,
            seen: growth.requests,
            largest_bytes: growth.largest_bytes,
            largest_tgid: growth.largest.map(|key| key.tgid),
            now: *now,
            pool: known(&kind.pool, POOL_CHARS),
            what: clean(&requests::what(kind), PATH_CHARS),
            script: known(&kind.script, PATH_CHARS),
        }
    }

    fn matches(&self, needle: &str) -> bool {
        needle.is_empty()
            || [Some(&self.what), self.pool.as_ref(), self.script.as_ref()]
                .into_iter()
                .flatten()
                .any(|text| contains(text, needle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::look::Activity;
    use crate::model::script::Script;

    #[test]
    fn rows_are_read_searched_and_scrolled() {
        let mut script = Script::new();
        for (tgid, uri) in [(4, "/a/1"), (5, "/b\x1b[2J"), (6, "/Search?q=…")] {
            script.worker(tgid, "www", "/web");
            script.size(tgid, 10.0);
            script.look(tgid, |look| look.activity = Activity::Idle);
            script.wait(1.0).size(tgid, 10.0 * f64::from(tgid));
            script.look_in_request(tgid, uri, 0.5, 7);
        }
        let all = Requests::read(&script.model, &Filter::default());
        assert!(all.looks);
        assert_eq!(all.unattributed_bytes, 0);
        let pids = |filter: &str, first, count| {
            let (rows, first, matching) = all.page(filter, first, count);
            let pids: Vec<_> = rows.iter().filter_map(|row| row.largest_tgid).collect();
            (pids, first, matching)
        };
        assert_eq!(pids("", 0, 2), (vec![6, 5], 0, 3));
        assert_eq!(pids("", usize::MAX / 4, 2), (vec![5, 4], 1, 3));
        assert_eq!(pids("search", 0, 9), (vec![6], 0, 1));
        assert_eq!(pids("INDEX.php", 0, 9).2, 3, "scripts too");
        assert_eq!(pids("nothing", 3, 9), (vec![], 0, 0));
        let hostile = &all.page("/b", 0, 1).0[0];
        assert!(!hostile.what.contains('\x1b'), "{:?}", hostile.what);
        assert_eq!((hostile.seen, hostile.now, hostile.pool.as_deref()), (1, 1, Some("www")));
        assert_eq!(hostile.script.as_deref(), Some("/srv/index.php"));
    }
}
