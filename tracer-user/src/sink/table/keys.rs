//! What each key does to the state of the view.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{State, Subject};

/// Longest filter that can be typed, characters.
const FILTER_CHARS: usize = 40;

/// The keys, as the help shows them.
pub(super) const HELP: [(&str, &str); 9] = [
    ("v Tab", "next view: processes, growth by request, pools"),
    ("s", "processes: next order: rate, anon, swap, left, pid"),
    ("r", "processes: reverse the order"),
    ("/", "show names, requests with ... (Enter keeps, Esc clears)"),
    ("p", "pause the view; tracing goes on"),
    ("Up Down", "scroll by a line"),
    ("PgUp PgDn", "scroll by a page; Home, End"),
    ("?", "this help"),
    ("q Esc ^C", "quit"),
];

/// What a key led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing.
    Ignored,
    /// The view is another one.
    Changed,
    /// The user wants to leave.
    Quit,
}

/// Takes one key.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Reaction {
    if key.kind == KeyEventKind::Release {
        return Reaction::Ignored;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Reaction::Quit,
            _ => Reaction::Ignored,
        };
    }
    if state.typing {
        return type_filter(state, key.code);
    }
    if state.help {
        state.help = false;
        return if key.code == KeyCode::Char('q') { Reaction::Quit } else { Reaction::Changed };
    }
    let page = state.page.max(1);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Reaction::Quit,
        KeyCode::Char('v') | KeyCode::Tab => {
            state.subject = state.subject.next();
            state.offset = 0;
        }
        // The other views have one order only.
        KeyCode::Char('s' | 'r') if state.subject != Subject::Processes => {
            return Reaction::Ignored;
        }
        KeyCode::Char('s') => {
            state.sort = state.sort.next();
            state.offset = 0;
        }
        KeyCode::Char('r') => state.reversed = !state.reversed,
        KeyCode::Char('p' | ' ') => state.paused = !state.paused,
        KeyCode::Char('?' | 'h') => state.help = true,
        KeyCode::Char('/') => {
            state.typing = true;
            state.filter.clear();
            state.offset = 0;
        }
        KeyCode::Up | KeyCode::Char('k') => state.offset = state.offset.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => state.offset = state.offset.saturating_add(1),
        KeyCode::PageUp => state.offset = state.offset.saturating_sub(page),
        KeyCode::PageDown => state.offset = state.offset.saturating_add(page),
        KeyCode::Home => state.offset = 0,
        KeyCode::End => state.offset = usize::MAX / 4,
        _ => return Reaction::Ignored,
    }
    Reaction::Changed
}

fn type_filter(state: &mut State, code: KeyCode) -> Reaction {
    match code {
        KeyCode::Enter => state.typing = false,
        KeyCode::Esc => {
            state.typing = false;
            state.filter.clear();
        }
        KeyCode::Backspace => drop(state.filter.pop()),
        KeyCode::Char(c) if !c.is_control() && state.filter.chars().count() < FILTER_CHARS => {
            state.filter.push(c);
        }
        _ => return Reaction::Ignored,
    }
    state.offset = 0;
    Reaction::Changed
}

#[cfg(test)]
mod tests {
    use super::super::state::Sort;
    use super::*;

    fn after(state: &mut State, keys: &[KeyCode]) -> Reaction {
        let mut last = Reaction::Ignored;
        for code in keys {
            last = press(state, KeyEvent::new(*code, KeyModifiers::NONE));
        }
        last
    }

    #[test]
    fn the_order_goes_round() {
        let mut state = State::default();
        let orders: Vec<Sort> = std::iter::repeat_with(|| {
            after(&mut state, &[KeyCode::Char('s')]);
            state.sort
        })
        .take(5)
        .collect();
        assert_eq!(orders, [Sort::Anon, Sort::Swap, Sort::Left, Sort::Pid, Sort::Rate]);
    }

    #[test]
    fn the_view_goes_round_and_only_processes_are_sorted() {
        let mut state = State { offset: 7, ..State::default() };
        after(&mut state, &[KeyCode::Char('v')]);
        assert_eq!((state.subject, state.offset), (Subject::Requests, 0));
        let before = state.clone();
        for key in ['s', 'r'] {
            assert_eq!(after(&mut state, &[KeyCode::Char(key)]), Reaction::Ignored);
        }
        assert_eq!(state, before);
        after(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.subject, Subject::Pools);
        after(&mut state, &[KeyCode::Char('v')]);
        assert_eq!(state.subject, Subject::Processes);
        after(&mut state, &[KeyCode::Char('/'), KeyCode::Char('v'), KeyCode::Tab]);
        assert_eq!((state.filter.as_str(), state.subject), ("v", Subject::Processes));
    }

    #[test]
    fn a_filter_is_typed_and_kept_or_cleared() {
        let mut state = State { offset: 7, ..State::default() };
        let typed = "/pq\u{7}".chars().map(KeyCode::Char).collect::<Vec<_>>();
        assert_eq!(after(&mut state, &typed), Reaction::Ignored, "a control character");
        assert_eq!((state.filter.as_str(), state.typing, state.offset), ("pq", true, 0));
        after(&mut state, &[KeyCode::Backspace, KeyCode::Char('?'), KeyCode::Enter]);
        assert_eq!((state.filter.as_str(), state.typing, state.help), ("p?", false, false));
        after(&mut state, &[KeyCode::Char('/'), KeyCode::Char('x'), KeyCode::Esc]);
        assert_eq!((state.filter.as_str(), state.typing), ("", false));
        after(&mut state, &[KeyCode::Char('/')]);
        after(&mut state, &[KeyCode::Char('a'); 100]);
        assert_eq!(state.filter.len(), FILTER_CHARS);
    }

    #[test]
    fn leaving() {
        let quits = |code, modifiers, state: &mut State| {
            press(state, KeyEvent::new(code, modifiers)) == Reaction::Quit
        };
        let mut state = State::default();
        assert!(quits(KeyCode::Char('q'), KeyModifiers::NONE, &mut state));
        assert!(quits(KeyCode::Esc, KeyModifiers::NONE, &mut state));
        let mut typing = State { typing: true, ..State::default() };
        assert!(!quits(KeyCode::Char('q'), KeyModifiers::NONE, &mut typing));
        assert!(quits(KeyCode::Char('c'), KeyModifiers::CONTROL, &mut typing));
        let mut help = State { help: true, ..State::default() };
        assert!(!quits(KeyCode::Esc, KeyModifiers::NONE, &mut help));
        assert!(!help.help);
    }

    #[test]
    fn scrolling_stays_in_range() {
        let mut state = State { page: 10, ..State::default() };
        after(&mut state, &[KeyCode::Up, KeyCode::PageUp]);
        assert_eq!(state.offset, 0);
        after(&mut state, &[KeyCode::PageDown, KeyCode::Down]);
        assert_eq!(state.offset, 11);
        after(&mut state, &[KeyCode::End, KeyCode::PageDown, KeyCode::Home, KeyCode::Down]);
        assert_eq!(state.offset, 1);
    }
}
