//! Draws the last line (what is shown, and the keys) and the help.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::draw::put;
use super::keys::HELP;
use super::log::Log;
use super::state::State;
use super::theme::Theme;
use super::view::{Page, Rows};
use crate::event::Severity;

/// The keys that do something, longest form first.
const KEYS: [&str; 3] =
    ["v view  / filter  p pause  ? help  q quit", "v view  ? help  q quit", "v ? q"];
/// The same where rows can be sorted.
const SORTING_KEYS: &str = "v view  s sort  r reverse  / filter  p pause  ? help  q quit";

/// Losses, pause, filter, view, order; to the right the keys.
pub(super) fn status(
    buffer: &mut Buffer,
    area: Rect,
    page: &Page,
    state: &State,
    log: &Log,
    theme: Theme,
) {
    let y = area.height - 1;
    if state.typing {
        let text = format!("filter: {}_   Enter keeps, Esc clears", state.filter);
        put(buffer, area, y, &text, Style::new());
        return;
    }
    let lost = if log.lost == 0 { Style::new() } else { theme.severity(Severity::Critical) };
    let mut parts = vec![(format!("lost {}", log.lost), lost)];
    if state.paused {
        parts.push(("PAUSED".to_owned(), theme.severity(Severity::Warning)));
    }
    if !state.filter.is_empty() {
        parts.push((format!("filter {}", state.filter), theme.severity(Severity::Warning)));
    }
    parts.push((place(page), Style::new()));
    let sorts = matches!(page.rows, Rows::Processes(_));
    if sorts {
        let reversed = if state.reversed { " reversed" } else { "" };
        let order = format!("sort {}{reversed}", state.sort.name());
        // The titles show it too: it leaves room for the keys.
        let taken: usize = parts.iter().map(|(part, _)| part.chars().count() + 2).sum();
        if taken + order.len() + 2 + KEYS[KEYS.len() - 1].len() <= area.width.into() {
            parts.push((order, Style::new()));
        }
    }
    let mut x = 0;
    for (part, style) in parts {
        let room = area.width.saturating_sub(x);
        x = buffer.set_stringn(area.x + x, area.y + y, part, room.into(), style).0 - area.x + 2;
    }
    let room = area.width.saturating_sub(x);
    let all = sorts.then_some(SORTING_KEYS).into_iter().chain(KEYS);
    if let Some(keys) = all.into_iter().find(|keys| keys.len() <= room.into()) {
        let x = area.right() - keys.len() as u16;
        buffer.set_stringn(x, area.y + y, keys, room.into(), Style::new());
    }
}

/// `processes 1-15 of 44`.
fn place(page: &Page) -> String {
    let name = match page.rows {
        Rows::Processes(_) => "processes",
        Rows::Requests { .. } => "requests",
        // A worker has a line too.
        Rows::Pools(_) => "pools, lines",
    };
    let first = if page.rows.len() == 0 { 0 } else { page.first + 1 };
    format!("{name} {first}-{} of {}", page.first + page.rows.len(), page.matching)
}

/// The keys, in a box over everything else.
pub(super) fn help(buffer: &mut Buffer, area: Rect) {
    let inner = usize::from(area.width - 4).min(72);
    let left = area.x + (area.width - inner as u16 - 2) / 2;
    let border = "\u{2500}".repeat(inner);
    let mut lines = vec![format!("\u{250c}{border}\u{2510}")];
    lines.extend(HELP.iter().take(usize::from(area.height) - 2).map(|(keys, effect)| {
        let text: String = format!(" {keys:<10} {effect}").chars().take(inner).collect();
        format!("\u{2502}{text:<inner$}\u{2502}")
    }));
    lines.push(format!("\u{2514}{border}\u{2518}"));
    let top = area.y + (area.height - (lines.len() as u16).min(area.height)) / 2;
    for (line, y) in lines.iter().zip(top..area.bottom()) {
        buffer.set_stringn(left, y, line, inner + 2, Style::new());
    }
}
