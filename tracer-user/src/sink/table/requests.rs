//! The columns of growth by request: what they are called, and what a row shows in each.

use ratatui::style::Style;

use super::quantity::{bytes, head, tail};
use super::read::requests::RequestRow;
use super::theme::Theme;

/// A column, in the order of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Grown,
    Seen,
    Largest,
    LargestPid,
    Now,
    Pool,
    Request,
    Script,
}

impl super::columns::Column for Column {
    type Row = RequestRow;

    const BY_IMPORTANCE: &'static [Self] = &[
        Self::Grown,
        Self::Request,
        Self::Largest,
        Self::Seen,
        Self::Now,
        Self::Pool,
        Self::Script,
        Self::LargestPid,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Grown => "GROWN",
            Self::Seen => "SEEN",
            Self::Largest => "LARGEST",
            Self::LargestPid => "BY PID",
            Self::Now => "NOW",
            Self::Pool => "POOL",
            Self::Request => "REQUEST",
            Self::Script => "SCRIPT",
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Pool | Self::Request | Self::Script)
    }

    fn least(self) -> u16 {
        match self {
            Self::Grown | Self::Seen => 5,
            Self::Largest | Self::LargestPid => 7,
            Self::Now => 3,
            Self::Pool => 8,
            Self::Request => 14,
            Self::Script => 10,
        }
    }

    fn extra(self, room: u16) -> u16 {
        match self {
            Self::Pool => room.min(4),
            Self::Request if room > 6 => room - room / 3,
            Self::Request | Self::Script => room,
            _ => 0,
        }
    }

    fn cell(self, row: &RequestRow, width: u16) -> String {
        let width = usize::from(width);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        match self {
            Self::Grown => bytes(row.grown_bytes),
            Self::Seen => row.seen.to_string(),
            Self::Largest => bytes(row.largest_bytes),
            Self::LargestPid => or_dash(row.largest_tgid.map(|tgid| tgid.to_string())),
            Self::Now => row.now.to_string(),
            Self::Pool => or_dash(row.pool.as_deref().map(|pool| head(pool, width))),
            // A script by itself says most at its end.
            Self::Request if row.what.starts_with('/') => tail(&row.what, width),
            Self::Request => head(&row.what, width),
            Self::Script => or_dash(row.script.as_deref().map(|script| tail(script, width))),
        }
    }

    fn style(self, _: &RequestRow, _: Theme) -> Style {
        Style::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Column as _, place};
    use super::*;

    #[test]
    fn narrow_terminals_keep_the_request_and_its_growth() {
        let columns =
            |width| place::<Column>(width).iter().map(|placed| placed.column).collect::<Vec<_>>();
        assert_eq!(columns(80).len(), 8);
        let least = [Column::Grown, Column::Seen, Column::Largest, Column::Now, Column::Request];
        assert_eq!(columns(40), least);
        assert_eq!(columns(20), [Column::Grown, Column::Request]);
    }

    #[test]
    fn long_texts_are_cut_where_they_say_least() {
        let row = RequestRow {
            what: "GET /orders/{n}/export".to_owned(),
            script: Some("/srv/app/public/index.php".to_owned()),
            ..RequestRow::default()
        };
        assert_eq!(Column::Request.cell(&row, 14), "GET /orders/..");
        assert_eq!(Column::Script.cell(&row, 14), "../index.php");
        assert_eq!(Column::LargestPid.cell(&row, 7), "-");
        let command = RequestRow { what: "/srv/app/bin/console".to_owned(), ..row };
        assert_eq!(Column::Request.cell(&command, 14), "../bin/console");
    }
}
