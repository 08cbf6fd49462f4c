//! The columns of the pools: what they are called, and what a pool and a worker show in each.

use ratatui::style::Style;

use super::quantity::{bytes, head, percent, rate, seconds};
use super::read::Standing;
use super::read::pools::{PoolLine, PoolRow, WorkerRow};
use super::theme::Theme;
use crate::text::columns;

/// A column, in the order of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Name,
    Private,
    Rate,
    LimitUsed,
    Left,
    Does,
}

impl super::columns::Column for Column {
    type Row = PoolLine;

    const BY_IMPORTANCE: &'static [Self] =
        &[Self::Name, Self::Private, Self::Does, Self::Rate, Self::Left, Self::LimitUsed];

    fn title(self) -> &'static str {
        match self {
            Self::Name => "POOL, PID",
            Self::Private => "PRIVATE",
            Self::Rate => "RATE",
            Self::LimitUsed => "LIMIT%",
            Self::Left => "LEFT",
            Self::Does => "WHAT IT DOES",
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::Does)
    }

    fn least(self) -> u16 {
        match self {
            Self::Name => 10,
            Self::Private => 7,
            Self::Rate => 8,
            Self::LimitUsed => 6,
            Self::Left => 5,
            Self::Does => 12,
        }
    }

    fn extra(self, room: u16) -> u16 {
        match self {
            // A pool's name has seldom more than 16 characters.
            Self::Name => (room / 4).min(8),
            Self::Does => room,
            _ => 0,
        }
    }

    fn cell(self, line: &PoolLine, width: u16) -> String {
        let width = usize::from(width);
        let (private_bytes, rate_bytes_per_s, standing) = numbers(line);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        match (self, line) {
            (Self::Name, PoolLine::Pool(pool)) => head(&pool.name, width),
            (Self::Name, PoolLine::Worker(worker)) => format!("  {}", worker.tgid),
            (Self::Private, _) => bytes(private_bytes),
            (Self::Rate, _) => rate(rate_bytes_per_s),
            (Self::LimitUsed, _) => or_dash(standing.used_share.map(percent)),
            (Self::Left, _) => or_dash(standing.left_s.map(seconds)),
            (Self::Does, PoolLine::Pool(pool)) => workers(pool, width),
            (Self::Does, PoolLine::Worker(worker)) => does(worker, width),
        }
    }

    fn style(self, line: &PoolLine, theme: Theme) -> Style {
        let (.., standing) = numbers(line);
        match self {
            Self::Left | Self::Rate => theme.left(standing.left_s),
            Self::LimitUsed => theme.used(standing.used_share.unwrap_or(0.0)),
            _ => Style::new(),
        }
    }
}

fn numbers(line: &PoolLine) -> (u64, f64, Standing) {
    match line {
        PoolLine::Pool(pool) => (pool.private_bytes, pool.rate_bytes_per_s, pool.standing),
        PoolLine::Worker(worker) => {
            (worker.private_bytes, worker.rate_bytes_per_s, worker.standing)
        }
    }
}

/// `20 workers: 3 busy, 16 idle, 1 unknown`, and more or less of it.
fn workers(pool: &PoolRow, width: usize) -> String {
    let PoolRow { workers, busy, idle, unknown, .. } = pool;
    let s = if *workers == 1 { "" } else { "s" };
    let counts = format!("{busy} busy, {idle} idle, {unknown} unknown");
    let usual = format!("{workers} worker{s}: {counts}");
    let nearest = pool.nearest.map(|limit| format!("; nearest limit: {limit}")).unwrap_or_default();
    let master = pool.master_tgid.map(|tgid| format!("; master {tgid}")).unwrap_or_default();
    let forms = [
        format!("{usual}{nearest}{master}"),
        format!("{usual}{nearest}"),
        usual,
        format!("{workers}: {counts}"),
        format!("{busy} busy of {workers}"),
    ];
    forms.into_iter().find(|form| form.len() <= width).unwrap_or_else(|| workers.to_string())
}

/// `GET /orders/17/export 12 s  App\Import::load Import.php:7`, and more or less of it.
fn does(worker: &WorkerRow, width: usize) -> String {
    let time = worker.time.as_ref().map(|time| format!(" {time}")).unwrap_or_default();
    // The request keeps most of a narrow cell.
    let time = if columns(&time) * 3 > width { String::new() } else { time };
    let mut text = head(&worker.does, width - columns(&time));
    text.push_str(&time);
    if let Some(at) = &worker.at
        && columns(&text) + 2 + columns(at) <= width
    {
        text.push_str("  ");
        text.push_str(at);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::columns::place;
    use super::*;

    #[test]
    fn narrow_terminals_keep_what_workers_do() {
        let columns =
            |width| place::<Column>(width).iter().map(|placed| placed.column).collect::<Vec<_>>();
        assert_eq!(columns(80).len(), 6);
        let least = [Column::Name, Column::Private, Column::Rate, Column::Does];
        assert_eq!(columns(40), least);
    }

    #[test]
    fn a_pool_says_as_much_as_there_is_room_for() {
        let pool = PoolRow {
            workers: 20,
            busy: 3,
            idle: 16,
            unknown: 1,
            master_tgid: Some(900),
            nearest: Some("cgroup"),
            ..PoolRow::default()
        };
        let all = "20 workers: 3 busy, 16 idle, 1 unknown; nearest limit: cgroup; master 900";
        assert_eq!(workers(&pool, 99), all);
        assert_eq!(workers(&pool, 40), "20 workers: 3 busy, 16 idle, 1 unknown");
        assert_eq!(workers(&pool, 31), "20: 3 busy, 16 idle, 1 unknown");
        assert_eq!(workers(&pool, 12), "3 busy of 20");
        assert_eq!(workers(&pool, 11), "20");
    }

    #[test]
    fn a_worker_says_as_much_as_there_is_room_for() {
        let worker = WorkerRow {
            does: "GET /orders/17/export".to_owned(),
            time: Some("12 s".to_owned()),
            at: Some("load Import.php:7".to_owned()),
            ..WorkerRow::default()
        };
        assert_eq!(does(&worker, 45), "GET /orders/17/export 12 s  load Import.php:7");
        assert_eq!(does(&worker, 44), "GET /orders/17/export 12 s");
        assert_eq!(does(&worker, 20), "GET /orders/1.. 12 s");
        assert_eq!(does(&worker, 9), "GET /or..");
        assert_eq!(does(&worker, 0), "");
    }
}
