//! Draws the view: gauges, rows, findings, status. ASCII and box drawing only, whatever fits.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::columns::{self, Column};
use super::keys::HELP;
use super::log::Log;
use super::quantity::{bytes, percent, rate, seconds, tail};
use super::read::{CgroupGauge, HostGauge};
use super::view::{Row, State, View};
use crate::event::Severity;

/// Smaller terminals show one line.
const LEAST: (u16, u16) = (40, 8);
/// Times left that are marked, s.
const CRITICAL_S: f64 = 10.0;
const WARNING_S: f64 = 60.0;

/// Whether colour may be used; without it, weight and reversal say the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub colour: bool,
}

impl Theme {
    fn severity(self, severity: Severity) -> Style {
        match (severity, self.colour) {
            (Severity::Info, _) => Style::new(),
            (Severity::Warning, true) => Style::new().fg(Color::Yellow),
            (Severity::Warning, false) => Style::new().add_modifier(Modifier::BOLD),
            (Severity::Critical, true) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            (Severity::Critical, false) => {
                Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED)
            }
        }
    }

    fn left(self, left_s: Option<f64>) -> Style {
        match left_s {
            Some(left) if left < CRITICAL_S => self.severity(Severity::Critical),
            Some(left) if left < WARNING_S => self.severity(Severity::Warning),
            _ => Style::new(),
        }
    }

    fn used(self, share: f64) -> Style {
        match share {
            share if share >= 0.95 => self.severity(Severity::Critical),
            share if share >= 0.8 => self.severity(Severity::Warning),
            _ => Style::new(),
        }
    }
}

/// How many rows a terminal of this height has room for.
pub(super) fn rows_that_fit(area: Rect) -> usize {
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return 1;
    }
    // Two gauges, the titles, the line above the findings, the status.
    usize::from(area.height - 5 - findings_that_fit(area.height))
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
        let style = theme.left(view.rows.first().and_then(|row| row.standing.left_s));
        put(buffer, area, 0, &one_line(view, log), style);
        return;
    }
    host_gauge(buffer, area, &view.host, theme);
    cgroup_gauge(buffer, area, view.worst.as_ref(), theme);
    let findings = findings_that_fit(area.height);
    table(buffer, area, view, state, theme);
    let top = area.height - 2 - findings;
    let title = format!("\u{2500} Findings ({}) ", log.findings);
    put(buffer, area, top, &"\u{2500}".repeat(area.width.into()), Style::new());
    put(buffer, area, top, &title, Style::new());
    for (line, y) in log.last(findings.into()).zip(top + 1..) {
        put(buffer, area, y, &line.text, theme.severity(line.severity));
    }
    status(buffer, area, view, state, log, theme);
    if state.help {
        help(buffer, area);
    }
}

fn put(buffer: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) {
    if y < area.height {
        buffer.set_stringn(area.x, area.y + y, text, area.width.into(), style);
    }
}

/// `Host   [####------]  40%`, then the parts that fit.
fn gauge(
    buffer: &mut Buffer,
    area: Rect,
    y: u16,
    label: &str,
    share: f64,
    theme: Theme,
    parts: &[(String, Style)],
) {
    let bar = usize::from((area.width / 6).clamp(6, 30));
    let full = ((share * bar as f64).round() as usize).min(bar);
    let text = format!(
        "{label:<6} [{}{}] {:>4}",
        "#".repeat(full),
        "-".repeat(bar - full),
        percent(share)
    );
    put(buffer, area, y, &text, theme.used(share));
    let mut x = text.len() + 2;
    for (part, style) in parts {
        let end = x + part.chars().count();
        if end > area.width.into() {
            continue;
        }
        buffer.set_stringn(area.x + x as u16, area.y + y, part, part.len(), *style);
        x = end + 2;
    }
}

fn host_gauge(buffer: &mut Buffer, area: Rect, host: &HostGauge, theme: Theme) {
    let share = share(host.used_bytes, host.total_bytes);
    let swap = if host.swap_total_bytes == 0 {
        "no swap".to_owned()
    } else {
        format!("swap {}/{}", bytes(host.swap_used_bytes), bytes(host.swap_total_bytes))
    };
    let parts = [
        format!("{}/{}", bytes(host.used_bytes), bytes(host.total_bytes)),
        format!("avail {}", bytes(host.available_bytes)),
        swap,
        psi(host.psi),
    ];
    gauge(buffer, area, 0, "Host", share, theme, &parts.map(|part| (part, Style::new())));
}

fn cgroup_gauge(buffer: &mut Buffer, area: Rect, worst: Option<&CgroupGauge>, theme: Theme) {
    let Some(worst) = worst else {
        put(buffer, area, 1, "Cgroup no memory cgroup with a limit is known", Style::new());
        return;
    };
    let used = worst.limit_bytes.saturating_sub(worst.headroom_bytes);
    let left = worst.left_s.map(seconds).filter(|left| left != "-");
    let left = left.map_or_else(|| "steady".to_owned(), |left| format!("full in {left}"));
    let parts = [
        (format!("{}/{}", bytes(worst.used_bytes), bytes(worst.limit_bytes)), Style::new()),
        (left, theme.left(worst.left_s)),
        (psi(worst.psi), Style::new()),
    ];
    // The path takes what the other parts leave, and some of it is always shown.
    let taken: usize = parts.iter().map(|(part, _)| part.len() + 2).sum();
    let bar = usize::from((area.width / 6).clamp(6, 30)) + 16;
    let room = usize::from(area.width).saturating_sub(bar + taken);
    let path = (tail(&worst.path, room.max(12)), Style::new());
    let [amount, left, psi] = parts;
    let parts = if room >= 12 { [amount, left, psi, path] } else { [left, path, amount, psi] };
    gauge(buffer, area, 1, "Cgroup", share(used, worst.limit_bytes), theme, &parts);
}

fn psi(psi: Option<(f64, f64)>) -> String {
    psi.map_or_else(|| "no PSI".to_owned(), |(some, full)| format!("PSI {some:.0}/{full:.0}%"))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn table(buffer: &mut Buffer, area: Rect, view: &View, state: &State, theme: Theme) {
    let columns = columns::place(area.width);
    let title = Style::new().add_modifier(Modifier::REVERSED);
    put(buffer, area, 2, &" ".repeat(area.width.into()), title);
    for placed in &columns {
        let sorted = placed.column.sort() == Some(state.sort);
        let style = if sorted { title.add_modifier(Modifier::BOLD) } else { title };
        cell(buffer, area, 2, *placed, placed.column.title(), style);
    }
    if view.rows.is_empty() {
        let text = if state.filter.is_empty() { "no process yet" } else { "no name matches" };
        put(buffer, area, 3, text, Style::new());
    }
    for (row, y) in view.rows.iter().take(rows_that_fit(area)).zip(3..) {
        for placed in &columns {
            let style = match placed.column {
                Column::Left | Column::Rate => theme.left(row.standing.left_s),
                Column::LimitUsed => theme.used(row.standing.used_share.unwrap_or(0.0)),
                _ => Style::new(),
            };
            cell(buffer, area, y, *placed, &placed.column.cell(row, placed.width), style);
        }
    }
}

fn cell(buffer: &mut Buffer, area: Rect, y: u16, at: columns::Placed, text: &str, style: Style) {
    let width = usize::from(at.width);
    let indent = if at.column.is_text() { 0 } else { width.saturating_sub(text.len()) };
    let x = area.x + at.x + indent as u16;
    buffer.set_stringn(x, area.y + y, text, width - indent, style);
}

fn status(buffer: &mut Buffer, area: Rect, view: &View, state: &State, log: &Log, theme: Theme) {
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
    let reversed = if state.reversed { " reversed" } else { "" };
    parts.push((format!("sort {}{reversed}", state.sort.name()), Style::new()));
    let last = view.first + view.rows.len();
    let first = if view.rows.is_empty() { 0 } else { view.first + 1 };
    parts.push((format!("{first}-{last} of {}", view.matching), Style::new()));
    let mut x = 0;
    for (part, style) in parts {
        let room = area.width.saturating_sub(x);
        x = buffer.set_stringn(area.x + x, area.y + y, part, room.into(), style).0 - area.x + 2;
    }
    let room = area.width.saturating_sub(x);
    let keys = ["s sort  r reverse  / filter  p pause  ? help  q quit", "? help  q quit", "? q"];
    if let Some(keys) = keys.iter().find(|keys| keys.len() <= room.into()) {
        let x = area.right() - keys.len() as u16;
        buffer.set_stringn(x, area.y + y, keys, room.into(), Style::new());
    }
}

fn help(buffer: &mut Buffer, area: Rect) {
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

/// What matters most, for a terminal without room.
fn one_line(view: &View, log: &Log) -> String {
    let lost = if log.lost == 0 { String::new() } else { format!(" lost {}", log.lost) };
    let used = percent(share(view.host.used_bytes, view.host.total_bytes));
    match view.rows.first() {
        Some(Row { key, name, rate_bytes_per_s, standing, .. }) => {
            let left = standing.left_s.map(|left| format!("{} left: ", seconds(left)));
            let left = left.unwrap_or_default();
            format!("{left}{} {name} {}{lost} host {used}", key.tgid, rate(*rate_bytes_per_s))
        }
        None => format!("host {used}{lost}"),
    }
}
