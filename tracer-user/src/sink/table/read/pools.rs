//! PHP pools with their workers under them, as lines. The work is that of looking at the workers of
//! pools, not at all processes; only lines of the screen are formatted.

use std::cmp::Ordering;

use super::super::view::contains;
use super::Limits;
pub use super::pool::PoolRow;
pub use super::worker::WorkerRow;
use crate::model::{Model, Process};
use crate::sink::filter::Filter;

/// A line: a pool, or one of its workers.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolLine {
    /// A pool.
    Pool(PoolRow),
    /// A worker of the pool above.
    Worker(WorkerRow),
}

/// A pool before it is known which of its lines are on the screen.
struct Block<'a> {
    row: PoolRow,
    workers: Vec<&'a Process>,
}

/// Lines `first .. first + count` of those that match, the place of the first, and how many match:
/// the pools with most private memory first, under each its workers, the largest first. When there
/// are fewer, the last page is given.
pub fn lines<'a>(
    model: &'a Model,
    limits: &mut Limits<'a>,
    filter: &Filter,
    name: &str,
    first: usize,
    count: usize,
) -> (Vec<PoolLine>, usize, usize) {
    let needle = name.to_lowercase();
    let mut blocks: Vec<Block<'_>> = model
        .pools()
        .filter_map(|pool| {
            let workers: Vec<&Process> =
                pool.workers().filter(|worker| filter.matches_process(worker)).collect();
            let row = PoolRow::new(pool.name, pool.master_tgid, &workers, limits)?;
            Block { row, workers }.matching(&needle, model.now_ns())
        })
        .collect();
    blocks.sort_unstable_by(|a, b| {
        let name = |row: &PoolRow| (row.name.clone(), row.master_tgid);
        let larger = b.row.private_bytes.cmp(&a.row.private_bytes);
        larger.then_with(|| name(&a.row).cmp(&name(&b.row)))
    });
    let total = blocks.iter().map(|block| 1 + block.workers.len()).sum::<usize>();
    let first = first.min(total.saturating_sub(count));
    let mut lines = Vec::with_capacity(count.min(total));
    let mut skip = first;
    for block in blocks {
        let length = 1 + block.workers.len();
        if lines.len() == count {
            break;
        }
        if skip < length {
            block.print(model, skip, count, &mut lines);
        }
        skip = skip.saturating_sub(length);
    }
    (lines, first, total)
}

/// The same of lines that were read before.
pub fn page(
    lines: &[PoolLine],
    name: &str,
    first: usize,
    count: usize,
) -> (Vec<PoolLine>, usize, usize) {
    let needle = name.to_lowercase();
    let mut matching: Vec<&PoolLine> = Vec::new();
    for block in lines.chunk_by(|_, next| matches!(next, PoolLine::Worker(_))) {
        let [PoolLine::Pool(pool), workers @ ..] = block else { continue };
        let all = contains(&pool.name, &needle);
        let before = matching.len();
        matching.push(&block[0]);
        matching.extend(workers.iter().filter(|line| match line {
            PoolLine::Worker(worker) => all || worker.matches(&needle),
            PoolLine::Pool(_) => false,
        }));
        if !all && matching.len() == before + 1 {
            matching.truncate(before);
        }
    }
    let first = first.min(matching.len().saturating_sub(count));
    let lines = matching.iter().skip(first).take(count).map(|line| (*line).clone()).collect();
    (lines, first, matching.len())
}

impl Block<'_> {
    /// The pool with those workers that match, all of them where its own name does.
    fn matching(mut self, needle: &str, now_ns: u64) -> Option<Self> {
        if contains(&self.row.name, needle) {
            return Some(self);
        }
        self.workers.retain(|worker| WorkerRow::new(worker, None, now_ns).matches(needle));
        (!self.workers.is_empty()).then_some(self)
    }

    /// Its lines from `skip` on, as far as there is room for `count` lines.
    fn print(mut self, model: &Model, skip: usize, count: usize, lines: &mut Vec<PoolLine>) {
        let end = (skip + count - lines.len()).saturating_sub(1).min(self.workers.len());
        let start = skip.saturating_sub(1);
        let largest = |a: &&Process, b: &&Process| -> Ordering {
            b.private_bytes().cmp(&a.private_bytes()).then(a.key.cmp(&b.key))
        };
        if end < self.workers.len() {
            self.workers.select_nth_unstable_by(end, largest);
        }
        self.workers[..end].sort_unstable_by(largest);
        if skip == 0 {
            lines.push(PoolLine::Pool(self.row));
        }
        lines.extend(self.workers.iter().take(end).skip(start).map(|worker| {
            let limit = model.memory_limit(worker);
            PoolLine::Worker(WorkerRow::new(worker, limit.as_ref(), model.now_ns()))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Filters;
    use crate::event::look::Activity;
    use crate::model::script::{MIB, Script};

    /// `www` with three workers, `api` with two that are smaller together.
    fn script() -> Script {
        let mut script = Script::new();
        script.cgroup("/www", 100.0, 1000.0, None);
        for (tgid, pool, mib) in [
            (4, "www", 10.0),
            (5, "www", 90.0),
            (6, "www", 20.0),
            (7, "api", 60.0),
            (8, "api", 5.0),
        ] {
            script.worker(tgid, pool, &format!("/{pool}"));
            script.size(tgid, mib);
        }
        script.look(4, |look| look.activity = Activity::Idle);
        script.look_in_request(5, "/orders/17", 1.0, 7);
        script
    }

    fn read(
        script: &Script,
        filter: &Filter,
        name: &str,
        first: usize,
        count: usize,
    ) -> (Vec<String>, usize, usize) {
        let mut limits = Limits::of(&script.model);
        let (lines, first, total) = lines(&script.model, &mut limits, filter, name, first, count);
        let names = lines.iter().map(|line| match line {
            PoolLine::Pool(pool) => pool.name.clone(),
            PoolLine::Worker(worker) => worker.tgid.to_string(),
        });
        (names.collect(), first, total)
    }

    #[test]
    fn the_largest_come_first_and_any_part_can_be_shown() {
        let script = script();
        let all = ["www", "5", "6", "4", "api", "7", "8"];
        assert_eq!(
            read(&script, &Filter::default(), "", 0, 99),
            (all.map(str::to_owned).into(), 0, 7)
        );
        for first in 0..9 {
            for count in 0..9 {
                let (names, at, total) = read(&script, &Filter::default(), "", first, count);
                assert_eq!((at, total), (first.min(7usize.saturating_sub(count)), 7));
                assert_eq!(names, all[at..(at + count).min(7)], "{count} from {first}");
            }
        }
    }

    #[test]
    fn filters_leave_out_workers_and_pools_without_any() {
        let script = script();
        let only = Filters { tgid: vec![4, 6], ..Filters::default() };
        let only = Filter::new(&only).unwrap();
        assert_eq!(read(&script, &only, "", 0, 9).0, ["www", "6", "4"]);
        let (lines, ..) = lines(&script.model, &mut Limits::of(&script.model), &only, "", 0, 1);
        let [PoolLine::Pool(pool)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((pool.workers, pool.private_bytes), (2, 30 * MIB));
        assert_eq!(read(&script, &only, "orders", 0, 9).0, [""; 0]);
        assert_eq!(read(&script, &Filter::default(), "orders", 0, 9).0, ["www", "5"]);
        assert_eq!(read(&script, &Filter::default(), "API", 0, 9).0, ["api", "7", "8"]);
    }
}
