//! The columns of the processes: what they are called, and what a row shows in each.

use ratatui::style::Style;

use super::quantity::{bytes, percent, rate, seconds, tail};
use super::state::Sort;
use super::theme::Theme;
use super::view::Row;

/// A column, in the order of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Pid,
    Name,
    Pool,
    Anon,
    Swap,
    Rate,
    LimitUsed,
    Left,
    MajorFaults,
    Cgroup,
}

impl super::columns::Column for Column {
    type Row = Row;

    const BY_IMPORTANCE: &'static [Self] = &[
        Self::Pid,
        Self::Name,
        Self::Rate,
        Self::Left,
        Self::Anon,
        Self::LimitUsed,
        Self::Pool,
        Self::Cgroup,
        Self::Swap,
        Self::MajorFaults,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::Name => "NAME",
            Self::Pool => "POOL",
            Self::Anon => "ANON",
            Self::Swap => "SWAP",
            Self::Rate => "RATE",
            Self::LimitUsed => "LIMIT%",
            Self::Left => "LEFT",
            Self::MajorFaults => "MAJFLT/s",
            Self::Cgroup => "CGROUP",
        }
    }

    fn sort(self) -> Option<Sort> {
        match self {
            Self::Pid => Some(Sort::Pid),
            Self::Anon => Some(Sort::Anon),
            Self::Swap => Some(Sort::Swap),
            Self::Rate => Some(Sort::Rate),
            Self::Left => Some(Sort::Left),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::Pool | Self::Cgroup)
    }

    fn least(self) -> u16 {
        match self {
            Self::Pid => 7,
            Self::Name => 13,
            Self::Rate | Self::Pool | Self::MajorFaults => 8,
            Self::Anon | Self::Swap | Self::LimitUsed => 6,
            Self::Left => 5,
            Self::Cgroup => 10,
        }
    }

    fn extra(self, room: u16) -> u16 {
        match self {
            // A comm has 15 bytes, a pool's name seldom more than 16.
            Self::Name => room.min(2),
            Self::Pool => room.min(8),
            Self::Cgroup => room,
            _ => 0,
        }
    }

    fn cell(self, row: &Row, width: u16) -> String {
        let standing = &row.standing;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        match self {
            Self::Pid => row.key.tgid.to_string(),
            Self::Name => row.name.clone(),
            Self::Pool => or_dash(row.pool.clone()),
            Self::Anon => bytes(row.anon_bytes),
            Self::Swap => bytes(row.swap_bytes),
            Self::Rate => rate(row.rate_bytes_per_s),
            Self::LimitUsed => or_dash(standing.used_share.map(percent)),
            Self::Left => or_dash(standing.left_s.map(seconds)),
            Self::MajorFaults => or_dash(standing.major_per_s.map(|rate| format!("{rate:.0}"))),
            Self::Cgroup => or_dash(row.cgroup.as_deref().map(|path| tail(path, width.into()))),
        }
    }
    fn style(self, row: &Row, theme: Theme) -> Style {
        match self {
            Self::Left | Self::Rate => theme.left(row.standing.left_s),
            Self::LimitUsed => theme.used(row.standing.used_share.unwrap_or(0.0)),
            _ => Style::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::place;
    use super::*;

    #[test]
    fn narrow_terminals_drop_the_least_important() {
        let columns =
            |width| place::<Column>(width).iter().map(|placed| placed.column).collect::<Vec<_>>();
        assert_eq!(columns(120).len(), 10);
        assert!(!columns(80).contains(&Column::MajorFaults));
        assert_eq!(columns(80).len(), 9);
        assert_eq!(columns(40), [Column::Pid, Column::Name, Column::Rate, Column::Left]);
        assert_eq!(columns(3), []);
    }
}
