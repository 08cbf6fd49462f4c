//! How urgency is marked: with colour, or without.

use ratatui::style::{Color, Modifier, Style};

use crate::event::Severity;

/// Times left that are marked, s.
const CRITICAL_S: f64 = 10.0;
const WARNING_S: f64 = 60.0;

/// Whether colour may be used; without it, weight and reversal say the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub colour: bool,
}

impl Theme {
    /// How a finding is marked.
    pub(super) fn severity(self, severity: Severity) -> Style {
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

    /// How a time left is marked, s.
    pub(super) fn left(self, left_s: Option<f64>) -> Style {
        match left_s {
            Some(left) if left < CRITICAL_S => self.severity(Severity::Critical),
            Some(left) if left < WARNING_S => self.severity(Severity::Warning),
            _ => Style::new(),
        }
    }

    /// How a used share of a limit is marked.
    pub(super) fn used(self, share: f64) -> Style {
        match share {
            share if share >= 0.95 => self.severity(Severity::Critical),
            share if share >= 0.8 => self.severity(Severity::Warning),
            _ => Style::new(),
        }
    }
}
