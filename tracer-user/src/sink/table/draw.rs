//! Draws the view: gauges, rows, findings, status. ASCII and box drawing only, whatever fits.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::columns::{Column, Placed, place};
use super::gauges::{cgroup_gauge, host_gauge, share};
use super::log::Log;
use super::quantity::{bytes, percent, rate, seconds};
use super::read::pools::PoolLine;
use super::state::{State, Subject};
use super::status::{help, status};
use super::theme::Theme;
use super::view::{Rows, View};
use super::{pools, processes, requests};

/// Smaller terminals show one line.
const LEAST: (u16, u16) = (40, 8);
/// From this height on there is a line for the next victim.
const ROOMY: u16 = 20;

/// Gauges, the next victim where there is room for it, and titles are above the first row.
fn first_row(area: Rect) -> u16 {
    if area.height < ROOMY { 3 } else { 4 }
}

/// How many rows of a view a terminal of this size has room for.
pub(super) fn rows_that_fit(area: Rect, subject: Subject) -> usize {
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return 1;
    }
    // Below them the line above the findings, the findings, the status.
    let rows = usize::from(area.height - first_row(area) - 2 - findings_that_fit(area.height));
    match subject {
        Subject::Processes | Subject::Pools => rows,
        // One line is for growth that belongs to no request.
        Subject::Requests => rows - 1,
    }
}

fn findings_that_fit(height: u16) -> u16 {
    (height / 6).clamp(1, 6)
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, state: &State, log: &Log, theme: Theme) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.is_empty() {
        return;
    }
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let (text, left_s) = one_line(view, log);
        put(buffer, area, 0, &text, theme.left(left_s));
        return;
    }
    host_gauge(buffer, area, &view.host, theme);
    cgroup_gauge(buffer, area, view.worst.as_ref(), theme);
    if area.height >= ROOMY {
        let words = view.next_victim.as_deref().unwrap_or("next to be killed: not known");
        put(buffer, area, 2, words, Style::new());
    }
    let findings = findings_that_fit(area.height);
    rows(buffer, area, &view.page.rows, state, theme);
    let top = area.height - 2 - findings;
    let title = format!("\u{2500} Findings ({}) ", log.findings);
    put(buffer, area, top, &"\u{2500}".repeat(area.width.into()), Style::new());
    put(buffer, area, top, &title, Style::new());
    for (line, y) in log.last(findings.into()).zip(top + 1..) {
        put(buffer, area, y, &line.text, theme.severity(line.severity));
    }
    status(buffer, area, &view.page, state, log, theme);
    if state.help {
        help(buffer, area);
    }
}

/// Writes a line, as far as there is room.
pub(super) fn put(buffer: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) {
    if y < area.height {
        buffer.set_stringn(area.x, area.y + y, text, area.width.into(), style);
    }
}

fn rows(buffer: &mut Buffer, area: Rect, rows: &Rows, state: &State, theme: Theme) {
    let empty = match rows {
        Rows::Processes(rows) => {
            table::<processes::Column>(buffer, area, rows, state, theme);
            "no process yet"
        }
        Rows::Requests { rows, unattributed_bytes, looks } => {
            table::<requests::Column>(buffer, area, rows, state, theme);
            if *unattributed_bytes > 0 {
                let y = first_row(area) + rows_that_fit(area, Subject::Requests) as u16;
                let bytes = bytes(*unattributed_bytes);
                let text = format!("{bytes:>5} by PHP, seen in no request");
                put(buffer, area, y, &text, Style::new());
            }
            if *looks { "no request was seen growing yet" } else { "no PHP was looked into yet" }
        }
        Rows::Pools(lines) => {
            table::<pools::Column>(buffer, area, lines, state, theme);
            "no PHP pool yet"
        }
    };
    if rows.len() == 0 {
        let text = if state.filter.is_empty() { empty } else { "no name matches" };
        put(buffer, area, first_row(area), text, Style::new());
    }
}

fn table<C: Column>(buffer: &mut Buffer, area: Rect, rows: &[C::Row], state: &State, theme: Theme) {
    let columns = place::<C>(area.width);
    let first_row = first_row(area);
    let title = Style::new().add_modifier(Modifier::REVERSED);
    put(buffer, area, first_row - 1, &" ".repeat(area.width.into()), title);
    for placed in &columns {
        let sorted = placed.column.sort() == Some(state.sort);
        let style = if sorted { title.add_modifier(Modifier::BOLD) } else { title };
        cell(buffer, area, first_row - 1, placed, placed.column.title(), style);
    }
    for (row, y) in rows.iter().take(rows_that_fit(area, state.subject)).zip(first_row..) {
        for placed in &columns {
            let text = placed.column.cell(row, placed.width);
            cell(buffer, area, y, placed, &text, placed.column.style(row, theme));
        }
    }
}

fn cell<C: Column>(
    buffer: &mut Buffer,
    area: Rect,
    y: u16,
    at: &Placed<C>,
    text: &str,
    style: Style,
) {
    let width = usize::from(at.width);
    let indent = if at.column.is_text() { 0 } else { width.saturating_sub(text.len()) };
    let x = area.x + at.x + indent as u16;
    buffer.set_stringn(x, area.y + y, text, width - indent, style);
}

/// What matters most, for a terminal without room, and the time left that marks it.
fn one_line(view: &View, log: &Log) -> (String, Option<f64>) {
    let lost = if log.lost == 0 { String::new() } else { format!(" lost {}", log.lost) };
    let used = percent(share(view.host.used_bytes, view.host.total_bytes));
    let left = |left_s: Option<f64>| {
        left_s.map(|left| format!("{} left: ", seconds(left))).unwrap_or_default()
    };
    let (text, left_s) = match &view.page.rows {
        Rows::Processes(rows) => rows.first().map(|row| {
            let left_s = row.standing.left_s;
            let (tgid, rate) = (row.key.tgid, rate(row.rate_bytes_per_s));
            (format!("{}{tgid} {} {rate}", left(left_s), row.name), left_s)
        }),
        Rows::Requests { rows, .. } => {
            rows.first().map(|row| (format!("{} in {}", bytes(row.grown_bytes), row.what), None))
        }
        Rows::Pools(lines) => match lines.first() {
            Some(PoolLine::Pool(pool)) => {
                let left_s = pool.standing.left_s;
                let (size, rate) = (bytes(pool.private_bytes), rate(pool.rate_bytes_per_s));
                Some((format!("{}pool {} {size} {rate}", left(left_s), pool.name), left_s))
            }
            Some(PoolLine::Worker(worker)) => {
                let left_s = worker.standing.left_s;
                let (tgid, rate) = (worker.tgid, rate(worker.rate_bytes_per_s));
                Some((format!("{}{tgid} {} {rate}", left(left_s), worker.does), left_s))
            }
            None => None,
        },
    }
    .unzip();
    match text {
        Some(text) => (format!("{text}{lost} host {used}"), left_s.flatten()),
        None => (format!("host {used}{lost}"), None),
    }
}
