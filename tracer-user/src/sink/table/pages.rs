//! The page of rows that is on the screen: of what is known now, or, while the view is paused, of
//! what was known when the pause began.

use super::faults::MajorFaults;
use super::quantity::clean;
use super::read::pools::{self, PoolLine};
use super::read::requests::Requests;
use super::read::{Limits, candidates, gauges};
use super::state::{State, Subject};
use super::view::{PAUSED_ROWS, Page, Row, Rows, View, choose};
use crate::model::Model;
use crate::sink::filter::Filter;
use crate::sink::next_victim;

/// Fills the view.
#[derive(Debug, Default)]
pub(super) struct Pages {
    filter: Filter,
    faults: MajorFaults,
    kept: Option<Kept>,
}

/// What was known when the pause began: the first rows of each view.
#[derive(Debug)]
struct Kept {
    processes: Vec<Row>,
    requests: Requests,
    pools: Vec<PoolLine>,
}

impl Pages {
    /// `filter` of the command line.
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Makes `view` what `state` asks for.
    pub(super) fn turn(&mut self, model: &Model, state: &State, view: &mut View) {
        if !state.paused {
            self.kept = None;
            view.page = self.now(model, state, state.offset, state.page);
            view.host = gauges::host(model);
            view.worst = gauges::worst_cgroup(model);
            view.next_victim = next_victim::words(model, &self.filter, clean);
            return;
        }
        let kept = self.kept.take().unwrap_or_else(|| self.keep(model, state));
        view.page = kept.page(state);
        self.kept = Some(kept);
    }

    fn now(&mut self, model: &Model, state: &State, first: usize, count: usize) -> Page {
        match state.subject {
            Subject::Processes => {
                let (rows, first, matching) = self.processes(model, state, first, count);
                Page { rows: Rows::Processes(rows), first, matching }
            }
            Subject::Requests => {
                requests_page(&Requests::read(model, &self.filter), state, first, count)
            }
            Subject::Pools => {
                let (lines, first, matching) = self.pools(model, state, first, count);
                Page { rows: Rows::Pools(lines), first, matching }
            }
        }
    }

    fn keep(&mut self, model: &Model, state: &State) -> Kept {
        Kept {
            processes: self.processes(model, state, 0, PAUSED_ROWS).0,
            requests: Requests::read(model, &self.filter),
            pools: self.pools(model, state, 0, PAUSED_ROWS).0,
        }
    }

    fn processes(
        &mut self,
        model: &Model,
        state: &State,
        first: usize,
        count: usize,
    ) -> (Vec<Row>, usize, usize) {
        let mut limits = Limits::of(model);
        let shown = candidates(model).filter(|candidate| candidate.passes(&self.filter));
        let (mut rows, first, matching) =
            choose(shown, |candidate| limits.standing(candidate), state, first, count);
        self.faults.rate(&mut rows, model.now_ns());
        (rows, first, matching)
    }

    fn pools(
        &self,
        model: &Model,
        state: &State,
        first: usize,
        count: usize,
    ) -> (Vec<PoolLine>, usize, usize) {
        pools::lines(model, &mut Limits::of(model), &self.filter, &state.filter, first, count)
    }
}

impl Kept {
    fn page(&self, state: &State) -> Page {
        let (first, count) = (state.offset, state.page);
        match state.subject {
            Subject::Processes => {
                let rows = self.processes.iter().map(Row::candidate);
                let (rows, first, matching) =
                    choose(rows, |row| row.standing.unwrap_or_default(), state, first, count);
                Page { rows: Rows::Processes(rows), first, matching }
            }
            Subject::Requests => requests_page(&self.requests, state, first, count),
            Subject::Pools => {
                let (lines, first, matching) =
                    pools::page(&self.pools, &state.filter, first, count);
                Page { rows: Rows::Pools(lines), first, matching }
            }
        }
    }
}

fn requests_page(requests: &Requests, state: &State, first: usize, count: usize) -> Page {
    let (rows, first, matching) = requests.page(&state.filter, first, count);
    let Requests { unattributed_bytes, looks, .. } = *requests;
    Page { rows: Rows::Requests { rows, unattributed_bytes, looks }, first, matching }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::look::Activity;
    use crate::model::script::Script;

    const ALL: [Subject; 3] = [Subject::Processes, Subject::Requests, Subject::Pools];

    fn script() -> Script {
        let mut script = Script::new();
        for tgid in [4, 5] {
            script.worker(tgid, "www", "/web");
            script.size(tgid, 10.0);
            script.look(tgid, |look| look.activity = Activity::Idle);
        }
        grow(&mut script, 4, "/a/1");
        script
    }

    fn grow(script: &mut Script, tgid: u32, uri: &str) {
        script.wait(1.0).size(tgid, 40.0);
        script.look_in_request(tgid, uri, 0.5, 7);
    }

    fn turn(pages: &mut Pages, script: &Script, state: &State) -> View {
        let mut view = View::default();
        pages.turn(&script.model, state, &mut view);
        view
    }

    #[test]
    fn each_view_has_its_rows() {
        let script = script();
        let mut pages = Pages::default();
        for (subject, rows) in ALL.into_iter().zip([2, 1, 3]) {
            let state = State { subject, page: 9, ..State::default() };
            let page = turn(&mut pages, &script, &state).page;
            assert_eq!((page.rows.len(), page.matching), (rows, rows), "{subject:?}");
            let state = State { offset: usize::MAX / 4, page: 1, ..state };
            let page = turn(&mut pages, &script, &state).page;
            assert_eq!((page.rows.len(), page.first), (1, rows - 1), "{subject:?}");
        }
    }

    #[test]
    fn a_paused_view_stays_and_the_others_are_of_the_same_moment() {
        let mut script = script();
        let mut pages = Pages::default();
        let state = |subject, paused| State { subject, paused, page: 9, ..State::default() };
        let before = ALL.map(|subject| turn(&mut pages, &script, &state(subject, false)).page);
        let paused = turn(&mut pages, &script, &state(Subject::Pools, true)).page;
        assert_eq!(paused, before[2]);
        grow(&mut script, 5, "/b");
        script.worker(6, "api", "/web");
        script.size(6, 90.0);
        for (subject, before) in ALL.into_iter().zip(&before) {
            assert_eq!(turn(&mut pages, &script, &state(subject, true)).page, *before);
        }
        for (subject, before) in ALL.into_iter().zip(&before) {
            assert_ne!(turn(&mut pages, &script, &state(subject, false)).page, *before);
        }
    }

    #[test]
    fn names_and_requests_are_searched_paused_or_not() {
        let script = script();
        for paused in [false, true] {
            let mut pages = Pages::default();
            let state = State { subject: Subject::Pools, paused, page: 9, ..State::default() };
            assert_eq!(turn(&mut pages, &script, &state).page.matching, 3);
            let mut matching = |subject, filter: &str| {
                let state = State { subject, filter: filter.to_owned(), ..state.clone() };
                turn(&mut pages, &script, &state).page.matching
            };
            assert_eq!(matching(Subject::Pools, "WWW"), 3, "a pool with all its workers");
            assert_eq!(matching(Subject::Pools, "/a/"), 2, "a worker and its pool");
            assert_eq!(matching(Subject::Pools, "idle"), 2);
            assert_eq!(matching(Subject::Pools, "nothing"), 0);
            assert_eq!(matching(Subject::Requests, "GET /a"), 1);
            assert_eq!(matching(Subject::Requests, "nothing"), 0);
            assert_eq!(matching(Subject::Processes, "FPM"), 2);
        }
    }
}
