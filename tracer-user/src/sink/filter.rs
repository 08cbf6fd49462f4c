//! What `--comm`, `--tgid`, `--cgroup` and `--php` show. Filters concern the output only: model
//! and detectors see everything, so that a culprit outside is still named.

use regex::Regex;
use rustc_hash::FxHashSet;

use crate::event::{Config, Event, Filters, ProcessKey, Stamped};
use crate::model::Model;

/// Largest compiled form of a `--comm` expression, bytes.
const REGEX_BYTES: usize = 1 << 20;

/// Filters, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    comm: Option<Regex>,
    tgid: Vec<u32>,
    cgroup: Option<String>,
    php: bool,
    shown: FxHashSet<ProcessKey>,
}

/// Compiles a `--comm` expression, with bounded memory.
pub fn comm_regex(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).build()
}

/// Why an expression is none, on one line: the error draws it on lines of its own.
pub fn reason(error: &regex::Error) -> String {
    let drawn = error.to_string();
    drawn.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl Filter {
    /// Fails on a bad regular expression.
    pub fn new(filters: &Filters) -> Result<Self, regex::Error> {
        Ok(Self {
            comm: filters.comm.as_deref().map(comm_regex).transpose()?,
            tgid: filters.tgid.clone(),
            cgroup: filters.cgroup.clone(),
            php: filters.php,
            shown: FxHashSet::default(),
        })
    }

    /// That of a trace. An expression that cannot be compiled (in the header of a foreign trace)
    /// filters nothing.
    pub fn of(config: &Config) -> Self {
        Self::new(&config.filters).unwrap_or_default()
    }

    /// Whether everything is shown.
    pub fn is_empty(&self) -> bool {
        self.shows_all_php() && !self.php
    }

    /// Whether every PHP process is shown.
    pub fn shows_all_php(&self) -> bool {
        self.comm.is_none() && self.tgid.is_empty() && self.cgroup.is_none()
    }

    /// Whether a process with these properties is shown.
    pub fn matches(&self, tgid: u32, comm: &str, cgroup: Option<&str>, php: bool) -> bool {
        (self.tgid.is_empty() || self.tgid.contains(&tgid))
            && (!self.php || php)
            && self.matches_cgroup(cgroup)
            && self.comm.as_ref().is_none_or(|regex| regex.is_match(comm))
    }

    /// Whether this process of the model is shown.
    pub fn matches_process(&self, process: &crate::model::Process) -> bool {
        let cgroup = process.cgroup.as_deref();
        self.matches(process.key.tgid, &process.comm, cgroup, process.php.is_some())
    }

    /// Whether an event is shown. An event about a process is when the process is, one about two
    /// when either is; findings, losses and the host's state always are. To be asked about each
    /// event, in order.
    pub fn shows(&mut self, model: &Model, at: &Stamped) -> bool {
        if self.is_empty() {
            return true;
        }
        match &at.event {
            Event::Process(p) => {
                let shown = self.matches(p.tgid, &p.comm, p.cgroup.as_deref(), p.php.is_some());
                self.note(p.key(), shown)
            }
            Event::CgroupMove(moved) => {
                let key = moved.key();
                let before = self.shown.contains(&key);
                let now = model.process(&key).is_some_and(|p| {
                    self.matches(key.tgid, &p.comm, Some(&moved.to), p.php.is_some())
                });
                self.note(key, now) || before
            }
            Event::Exit(exit) => self.shown.remove(&exit.key()),
            Event::Growth(growth) => self.shown.contains(&growth.key()),
            Event::Request(edge) => self.shown.contains(&edge.key()),
            Event::Php(look) => self.shows_key(look.tgid, look.start_ns),
            Event::PhpGrowth(growth) => self.shows_key(growth.tgid, growth.start_ns),
            Event::Stall(stall) => self.shows_key(stall.tgid, stall.start_ns),
            Event::Signal(signal) => [&signal.sender, &signal.target]
                .into_iter()
                .any(|party| self.shows_key(party.tgid, party.start_ns)),
            Event::Oom(oom) => {
                self.shows_key(oom.trigger.tgid, oom.trigger.start_ns)
                    || oom.victims.iter().any(|victim| self.shown.contains(&victim.key()))
            }
            Event::Cgroup(cgroup) => self.matches_cgroup(Some(&cgroup.path)),
            Event::CgroupGone(gone) => self.matches_cgroup(Some(&gone.path)),
            Event::Pressure(pressure) => {
                &*pressure.scope == "host" || self.matches_cgroup(Some(&pressure.scope))
            }
            _ => true,
        }
    }

    /// Whether a memory cgroup is at or below the one that is asked for.
    pub fn matches_cgroup(&self, path: Option<&str>) -> bool {
        let Some(wanted) = &self.cgroup else { return true };
        let below = |path: &str| {
            path.strip_prefix(wanted.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.is_some_and(below)
    }

    fn shows_key(&self, tgid: u32, start_ns: u64) -> bool {
        self.shown.contains(&ProcessKey { tgid, start_ns })
    }

    fn note(&mut self, key: ProcessKey, shown: bool) -> bool {
        if shown {
            self.shown.insert(key);
        } else {
            self.shown.remove(&key);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        Config, Exit, Growth, Process, ProcessCause, RequestEdge, RequestPhase, Tick,
    };

    fn process(tgid: u32, comm: &str, cgroup: &str) -> Event {
        Event::Process(Process {
            tgid,
            start_ns: 0,
            ppid: 1,
            comm: comm.into(),
            cmdline: None,
            exe: None,
            uid: 0,
            cgroup: Some(cgroup.into()),
            php: None,
            cause: ProcessCause::Found,
        })
    }

    fn shown(filters: &Filters, events: &[Event]) -> Vec<bool> {
        let model = Model::new(&Config::default());
        let mut filter = Filter::new(filters).unwrap();
        let at = |event: &Event| Stamped { t_ns: 0, wall_ns: 0, event: event.clone() };
        events.iter().map(|event| filter.shows(&model, &at(event))).collect()
    }

    #[test]
    fn an_event_is_shown_with_its_process_until_it_ends() {
        let growth = |tgid| Event::Growth(Growth { tgid, ..Growth::default() });
        let request = |tgid| {
            Event::Request(RequestEdge {
                tgid,
                start_ns: 0,
                phase: RequestPhase::Begin,
                anon_bytes: 0,
                file_bytes: 0,
                shmem_bytes: 0,
                swap_bytes: 0,
            })
        };
        let exit = Exit { tgid: 1, start_ns: 0, code: Some(0), signal: None, peak_bytes: None };
        let events = [
            growth(1),
            process(1, "php-fpm", "/a"),
            process(2, "mysqld", "/a"),
            growth(1),
            growth(2),
            request(1),
            request(2),
            Event::Exit(exit),
            growth(1),
            Event::Tick(Tick {}),
        ];
        let filters = Filters { comm: Some("^php".to_owned()), ..Filters::default() };
        let expected = [false, true, false, true, false, true, false, true, false, true];
        assert_eq!(shown(&filters, &events), expected);
        assert_eq!(shown(&Filters::default(), &events), [true; 10]);
    }

    #[test]
    fn a_cgroup_includes_what_is_below_it_only() {
        let events = ["/a", "/a/b", "/ab", "/"].map(|cgroup| process(1, "x", cgroup));
        let below = |path: &str| Filters { cgroup: Some(path.to_owned()), ..Filters::default() };
        assert_eq!(shown(&below("/a"), &events), [true, true, false, false]);
        assert_eq!(shown(&below("/"), &events), [true; 4]);
    }

    #[test]
    fn several_filters_must_all_match() {
        let filters =
            Filters { tgid: vec![1, 2], comm: Some("a".to_owned()), ..Filters::default() };
        let events = [process(1, "a", "/"), process(2, "b", "/"), process(3, "a", "/")];
        assert_eq!(shown(&filters, &events), [true, false, false]);
    }

    #[test]
    fn an_expression_that_would_fill_the_memory_is_refused() {
        assert!(comm_regex("(").is_err());
        assert!(comm_regex(r"(\w{1000}){1000}").is_err());
    }
}
