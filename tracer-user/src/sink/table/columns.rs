//! Which columns of a view a width has room for, and where they stand.

use ratatui::style::Style;

use super::state::Sort;
use super::theme::Theme;

/// A column of a view, in the order of the screen.
pub(super) trait Column: Copy + Ord + 'static {
    /// What a row is made from.
    type Row;

    /// Most important first: the last ones go when the terminal is narrow.
    const BY_IMPORTANCE: &'static [Self];

    fn title(self) -> &'static str;

    /// The order that this column stands for.
    fn sort(self) -> Option<Sort> {
        None
    }

    /// Texts stand to the left, numbers to the right.
    fn is_text(self) -> bool;

    /// Width without which it is not shown.
    fn least(self) -> u16;

    /// What it takes of the room that is over.
    fn extra(self, room: u16) -> u16;

    /// What a row shows here in this width.
    fn cell(self, row: &Self::Row, width: u16) -> String;

    /// How it is marked.
    fn style(self, row: &Self::Row, theme: Theme) -> Style;
}

/// A column and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed<C> {
    pub column: C,
    pub x: u16,
    pub width: u16,
}

/// The columns that `width` has room for, one blank between two; what is over goes to the texts.
pub(super) fn place<C: Column>(width: u16) -> Vec<Placed<C>> {
    let mut room = width;
    let mut chosen = Vec::with_capacity(C::BY_IMPORTANCE.len());
    for column in C::BY_IMPORTANCE {
        let wanted = column.least() + u16::from(!chosen.is_empty());
        if wanted > room {
            break;
        }
        room -= wanted;
        chosen.push(*column);
    }
    chosen.sort_unstable();
    let mut x = 0;
    let mut placed = Vec::with_capacity(chosen.len());
    for column in chosen {
        let extra = column.extra(room).min(room);
        room -= extra;
        let width = column.least() + extra;
        placed.push(Placed { column, x, width });
        x += width + 1;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::super::{pools, processes, requests};
    use super::*;

    fn never_overlap_or_leave<C: Column>() {
        for width in 0..300 {
            let mut free = 0;
            for placed in place::<C>(width) {
                assert!(placed.x >= free, "width {width}");
                assert!(placed.width as usize >= placed.column.title().len(), "width {width}");
                free = placed.x + placed.width + 1;
                assert!(placed.x + placed.width <= width, "width {width}");
            }
        }
        assert_eq!(
            place::<C>(120).len(),
            C::BY_IMPORTANCE.len(),
            "all of them are shown somewhere"
        );
        assert!(place::<C>(3).is_empty());
    }

    #[test]
    fn columns_never_overlap_or_leave_the_screen() {
        never_overlap_or_leave::<processes::Column>();
        never_overlap_or_leave::<requests::Column>();
        never_overlap_or_leave::<pools::Column>();
    }
}
