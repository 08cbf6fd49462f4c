//! What is on the screen, as plain data, and how processes are chosen for it.

use std::cmp::Ordering;

use super::read::gauges::{CgroupGauge, HostGauge};
use super::read::pools::PoolLine;
use super::read::requests::RequestRow;
use super::read::{Candidate, Standing};
use super::state::{Sort, State};
use super::top::Top;
use crate::event::ProcessKey;

/// Longest name kept for a row, characters.
const NAME_CHARS: usize = 64;
/// Longest cgroup path kept, characters.
pub(super) const PATH_CHARS: usize = 512;
/// Rows that a paused view keeps to scroll, sort and filter in.
pub(super) const PAUSED_ROWS: usize = 500;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub key: ProcessKey,
    pub name: String,
    pub pool: Option<String>,
    pub php: bool,
    pub anon_bytes: u64,
    pub swap_bytes: u64,
    pub rate_bytes_per_s: f64,
    pub major_faults: u64,
    pub cgroup: Option<String>,
    pub standing: Standing,
}

impl Row {
    fn new(candidate: &Candidate<'_>, standing: Standing) -> Self {
        use super::quantity::clean;
        Self {
            key: candidate.key,
            name: clean(candidate.comm, NAME_CHARS),
            pool: candidate.pool.map(|pool| clean(pool, NAME_CHARS)),
            php: candidate.php,
            anon_bytes: candidate.anon_bytes,
            swap_bytes: candidate.swap_bytes,
            rate_bytes_per_s: candidate.rate_bytes_per_s,
            major_faults: candidate.major_faults,
            cgroup: candidate.cgroup.map(|path| clean(path, PATH_CHARS)),
            standing,
        }
    }

    /// The row as what it was chosen from, for a paused view.
    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            key: self.key,
            comm: &self.name,
            pool: self.pool.as_deref(),
            php: self.php,
            anon_bytes: self.anon_bytes,
            swap_bytes: self.swap_bytes,
            rate_bytes_per_s: self.rate_bytes_per_s,
            major_faults: self.major_faults,
            cgroup: self.cgroup.as_deref(),
            standing: Some(self.standing),
        }
    }
}

/// Everything that is drawn, apart from findings and losses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    pub host: HostGauge,
    pub worst: Option<CgroupGauge>,
    /// Whom the OOM killer would choose next, in words; None = not known.
    pub next_victim: Option<String>,
    pub page: Page,
}

/// The rows on the screen, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Page {
    pub rows: Rows,
    /// Place of the first of them among all that match.
    pub first: usize,
    /// How many match the filter.
    pub matching: usize,
}

/// Rows of what is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rows {
    Processes(Vec<Row>),
    Requests {
        rows: Vec<RequestRow>,
        /// Growth of PHP that no look could give to a request.
        unattributed_bytes: u64,
        /// PHP processes are looked into.
        looks: bool,
    },
    Pools(Vec<PoolLine>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Processes(Vec::new())
    }
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Processes(rows) => rows.len(),
            Self::Requests { rows, .. } => rows.len(),
            Self::Pools(lines) => lines.len(),
        }
    }
}

/// Rows `first .. first + count` of those that match, in the order of `state`, and how many match.
/// When fewer match, the last page is given. Only these rows are formatted.
pub(super) fn choose<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    mut standing: impl FnMut(&Candidate<'a>) -> Standing,
    state: &State,
    first: usize,
    count: usize,
) -> (Vec<Row>, usize, usize) {
    let needle = state.filter.to_lowercase();
    let mut matching = 0usize;
    let mut top = Top::new(first.saturating_add(count), order);
    for candidate in candidates {
        if !needle.is_empty() && !contains(candidate.comm, &needle) {
            continue;
        }
        matching += 1;
        let mut value = match state.sort {
            Sort::Rate => Some(candidate.rate_bytes_per_s),
            Sort::Anon => Some(candidate.anon_bytes as f64),
            Sort::Swap => Some(candidate.swap_bytes as f64),
            // Few processes grow: the others are not judged.
            Sort::Left if candidate.rate_bytes_per_s > 0.0 => {
                known_or(&candidate, &mut standing).left_s.map(|left| -left)
            }
            Sort::Left => None,
            Sort::Pid => Some(-f64::from(candidate.key.tgid)),
        };
        if state.reversed {
            value = value.map(|value| -value);
        }
        top.offer((value.unwrap_or(f64::NEG_INFINITY), candidate));
    }
    let first = first.min(matching.saturating_sub(count));
    let rows = top
        .into_sorted()
        .into_iter()
        .skip(first)
        .take(count)
        .map(|(_, candidate)| Row::new(&candidate, known_or(&candidate, &mut standing)))
        .collect();
    (rows, first, matching)
}

fn known_or<'a>(
    candidate: &Candidate<'a>,
    mut ask: impl FnMut(&Candidate<'a>) -> Standing,
) -> Standing {
    candidate.standing.unwrap_or_else(|| ask(candidate))
}

/// The larger value first, then the larger process, then the lower id: no two rows swap places
/// while nothing changes.
fn order(a: &(f64, Candidate<'_>), b: &(f64, Candidate<'_>)) -> Ordering {
    let (a_value, a) = a;
    let (b_value, b) = b;
    (b_value + 0.0)
        .total_cmp(&(a_value + 0.0))
        .then(b.anon_bytes.cmp(&a.anon_bytes))
        .then(a.key.cmp(&b.key))
}

/// Whether a name contains `needle`, which is in lower case.
pub(super) fn contains(name: &str, needle: &str) -> bool {
    name.contains(needle) || name.to_lowercase().contains(needle)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sink::table) fn candidate(tgid: u32, comm: &str) -> Candidate<'_> {
        Candidate {
            key: ProcessKey { tgid, start_ns: 0 },
            comm,
            pool: None,
            php: false,
            anon_bytes: u64::from(tgid) << 20,
            swap_bytes: 0,
            rate_bytes_per_s: 0.0,
            major_faults: 0,
            cgroup: None,
            standing: None,
        }
    }

    fn pids(state: &State, first: usize, count: usize) -> (Vec<u32>, usize, usize) {
        let left = |c: &Candidate<'_>| Standing {
            left_s: (c.rate_bytes_per_s > 0.0).then_some(f64::from(c.key.tgid)),
            ..Standing::default()
        };
        let many = ["php-fpm", "mysqld", "PHP", "bash", "php-cli"].into_iter().zip(1..);
        let many = many.map(|(comm, tgid)| Candidate {
            rate_bytes_per_s: if tgid % 2 == 0 { f64::from(tgid) * 1000.0 } else { 0.0 },
            swap_bytes: u64::from(tgid == 3),
            ..candidate(tgid, comm)
        });
        let (rows, first, matching) = choose(many, left, state, first, count);
        (rows.iter().map(|row| row.key.tgid).collect(), first, matching)
    }

    #[test]
    fn each_order_and_its_reverse() {
        let by = |sort, reversed| pids(&State { sort, reversed, ..State::default() }, 0, 9).0;
        assert_eq!(by(Sort::Rate, false), [4, 2, 5, 3, 1]);
        assert_eq!(by(Sort::Anon, false), [5, 4, 3, 2, 1]);
        assert_eq!(by(Sort::Anon, true), [1, 2, 3, 4, 5]);
        assert_eq!(by(Sort::Swap, false), [3, 5, 4, 2, 1]);
        assert_eq!(by(Sort::Left, false), [2, 4, 5, 3, 1]);
        assert_eq!(by(Sort::Left, true), [4, 2, 5, 3, 1], "no time left stays last");
        assert_eq!(by(Sort::Pid, false), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_page_of_what_matches() {
        let state = State { sort: Sort::Pid, filter: "PHP".to_owned(), ..State::default() };
        assert_eq!(pids(&state, 0, 2), (vec![1, 3], 0, 3));
        assert_eq!(pids(&state, 1, 2), (vec![3, 5], 1, 3));
        assert_eq!(pids(&state, 99, 2), (vec![3, 5], 1, 3), "past the end is the last page");
        assert_eq!(pids(&state, 0, 0), (vec![], 0, 3));
        let nobody = State { filter: "nginx".to_owned(), ..State::default() };
        assert_eq!(pids(&nobody, 3, 2), (vec![], 0, 0));
    }

    #[test]
    fn a_row_gives_back_what_it_was_made_from() {
        let standing = Standing { used_share: Some(0.5), left_s: Some(2.0), major_per_s: None };
        let hostile = Candidate { pool: Some("w\x1bw"), ..candidate(4, "a\nb") };
        let row = Row::new(&hostile, standing);
        assert_eq!((row.name.as_str(), row.pool.as_deref()), (r"a\nb", Some(r"w\x1bw")));
        assert_eq!(Row::new(&row.candidate(), standing), row);
        assert_eq!(row.candidate().standing, Some(standing));
    }
}
