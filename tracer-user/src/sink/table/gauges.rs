//! Draws the gauges: the host and the memory cgroup that is worst off.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::draw::put;
use super::quantity::{bytes, percent, seconds, tail};
use super::read::gauges::{CgroupGauge, HostGauge};
use super::theme::Theme;

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

/// The host, on the first line.
pub(super) fn host_gauge(buffer: &mut Buffer, area: Rect, host: &HostGauge, theme: Theme) {
    if host.total_bytes == 0 {
        put(buffer, area, 0, "Host   not looked at yet", Style::new());
        return;
    }
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

/// The memory cgroup that is worst off, on the second line.
pub(super) fn cgroup_gauge(
    buffer: &mut Buffer,
    area: Rect,
    worst: Option<&CgroupGauge>,
    theme: Theme,
) {
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

/// A part of a whole, 0 to 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
