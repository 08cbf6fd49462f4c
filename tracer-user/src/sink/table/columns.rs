//! The columns: what they are called, which of them a width has room for, what a row shows in each.

use super::quantity::{bytes, percent, rate, seconds, tail};
use super::view::{Row, Sort};

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

/// Most important first: the last ones go when the terminal is narrow.
const BY_IMPORTANCE: [Column; 10] = [
    Column::Pid,
    Column::Name,
    Column::Rate,
    Column::Left,
    Column::Anon,
    Column::LimitUsed,
    Column::Pool,
    Column::Cgroup,
    Column::Swap,
    Column::MajorFaults,
];

/// A column and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub column: Column,
    pub x: u16,
    pub width: u16,
}

impl Column {
    pub(super) fn title(self) -> &'static str {
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

    /// The order that this column stands for.
    pub(super) fn sort(self) -> Option<Sort> {
        match self {
            Self::Pid => Some(Sort::Pid),
            Self::Anon => Some(Sort::Anon),
            Self::Swap => Some(Sort::Swap),
            Self::Rate => Some(Sort::Rate),
            Self::Left => Some(Sort::Left),
            _ => None,
        }
    }

    pub(super) fn is_text(self) -> bool {
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

    /// What a row shows here, at most `width` characters where it is a path.
    pub(super) fn cell(self, row: &Row, width: u16) -> String {
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
}

/// The columns that `width` has room for, one blank between two; what is over goes to the texts.
pub(super) fn place(width: u16) -> Vec<Placed> {
    let mut room = width;
    let mut chosen = Vec::with_capacity(BY_IMPORTANCE.len());
    for column in BY_IMPORTANCE {
        let wanted = column.least() + u16::from(!chosen.is_empty());
        if wanted > room {
            break;
        }
        room -= wanted;
        chosen.push(column);
    }
    chosen.sort_unstable();
    let mut x = 0;
    let mut placed = Vec::with_capacity(chosen.len());
    for column in &chosen {
        let extra = match column {
            // A comm has 15 bytes, a pool's name seldom more than 16.
            Column::Name => room.min(2),
            Column::Pool => room.min(8),
            Column::Cgroup => room,
            _ => 0,
        };
        room -= extra;
        let width = column.least() + extra;
        placed.push(Placed { column: *column, x, width });
        x += width + 1;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_terminals_drop_the_least_important() {
        let columns = |width| place(width).iter().map(|placed| placed.column).collect::<Vec<_>>();
        assert_eq!(columns(120).len(), 10);
        assert!(!columns(80).contains(&Column::MajorFaults));
        assert_eq!(columns(80).len(), 9);
        assert_eq!(columns(40), [Column::Pid, Column::Name, Column::Rate, Column::Left]);
        assert_eq!(columns(3), []);
    }

    #[test]
    fn columns_never_overlap_or_leave_the_screen() {
        for width in 0..300 {
            let mut free = 0;
            for placed in place(width) {
                assert!(placed.x >= free, "width {width}");
                free = placed.x + placed.width + 1;
                assert!(placed.x + placed.width <= width, "width {width}");
            }
        }
    }
}
