//! What the screen looks like at several sizes, against golden files. `RAMPAGE_BLESS=1` writes them
//! anew.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::draw::{draw, rows_that_fit};
use super::golden_php;
use super::log::{Log, tests::finding};
use super::read::gauges::{CgroupGauge, HostGauge};
use super::read::{Candidate, Standing};
use super::state::{Sort, State, Subject};
use super::theme::Theme;
use super::view::{Page, Rows, View, choose, tests::candidate};
use crate::event::Severity;

const SECOND: i64 = 1_000_000_000;

fn processes() -> Vec<Candidate<'static>> {
    let php = Candidate {
        php: true,
        cgroup: Some("/system.slice/php8.2-fpm.service"),
        ..candidate(0, "php-fpm8.2")
    };
    let mut all = vec![
        Candidate {
            key: candidate(4_194_303, "").key,
            pool: Some("www"),
            anon_bytes: 1900 << 20,
            swap_bytes: 64 << 20,
            rate_bytes_per_s: 20.4 * 1_048_576.0,
            standing: Some(Standing {
                used_share: Some(0.97),
                left_s: Some(3.2),
                major_per_s: Some(1250.0),
            }),
            ..php.clone()
        },
        Candidate {
            key: candidate(812, "").key,
            pool: Some("a-pool-with-a-long-name"),
            anon_bytes: 61 << 20,
            rate_bytes_per_s: 1.5 * 1_048_576.0,
            standing: Some(Standing {
                used_share: Some(0.83),
                left_s: Some(42.0),
                major_per_s: Some(0.0),
            }),
            ..php
        },
        Candidate {
            rate_bytes_per_s: -3e6,
            anon_bytes: 500 << 20,
            swap_bytes: 900 << 20,
            ..candidate(77, "evil\x1b[2J\u{202e}name")
        },
        Candidate {
            anon_bytes: 490 << 20,
            cgroup: Some("/名前"),
            ..candidate(78, "東京東京東京東京東京")
        },
    ];
    all.extend((100..140).map(|tgid| candidate(tgid, "bystander")));
    all
}

fn processes_page(state: &State) -> Page {
    let all = processes().into_iter();
    let (rows, first, matching) =
        choose(all, |_| Standing::default(), state, state.offset, state.page);
    Page { rows: Rows::Processes(rows), first, matching }
}

pub(super) struct Shot {
    pub width: u16,
    pub height: u16,
    pub state: State,
    pub colour: bool,
}

impl Shot {
    pub(super) fn of(width: u16, height: u16) -> Self {
        Self { width, height, state: State::default(), colour: false }
    }

    pub(super) fn take(mut self) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(self.width, self.height)).unwrap();
        let area = terminal.get_frame().area();
        self.state.page = rows_that_fit(area, self.state.subject);
        let page = match self.state.subject {
            Subject::Processes => processes_page(&self.state),
            Subject::Requests | Subject::Pools => golden_php::page(&self.state),
        };
        let view = View {
            host: HostGauge {
                used_bytes: 12 << 30,
                total_bytes: 24 << 30,
                available_bytes: 12 << 30,
                swap_used_bytes: 300 << 20,
                swap_total_bytes: 2 << 30,
                psi: Some((12.34, 1.0)),
            },
            worst: Some(CgroupGauge {
                path: "/system.slice/php8.2-fpm.service".to_owned(),
                used_bytes: 2030 << 20,
                limit_bytes: 2 << 30,
                headroom_bytes: 61 << 20,
                left_s: Some(3.2),
                psi: Some((40.0, 22.0)),
            }),
            next_victim: Some(
                "next to be killed: php-fpm8.2 (pid 4194303), by the limit of \
                 /system.slice/php8.2-fpm.service"
                    .to_owned(),
            ),
            page,
        };
        let mut log = Log::default();
        log.lost = 17;
        log.push(&finding(Severity::Info, "the first of three"), 0);
        log.push(
            &finding(
                Severity::Warning,
                "php-fpm8.2 (812, pool a-pool-with-a-long-name) grows by 1.5 MiB/s and drives /system.slice/php8.2-fpm.service",
            ),
            61 * SECOND,
        );
        log.push(&finding(Severity::Critical, "php-fpm8.2 \x1b]0;x\x07 was killed"), 62 * SECOND);
        let theme = Theme { colour: self.colour };
        terminal.draw(|frame| draw(frame, &view, &self.state, &log, theme)).unwrap();
        terminal.backend().buffer().clone()
    }
}

pub(super) fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            // The second half of a wide character is a cell of its own.
            if skip == 0 {
                line.push_str(symbol);
                skip = usize::from(symbol.chars().next().is_some_and(|c| c > '\u{2e80}'));
            } else {
                skip -= 1;
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[track_caller]
pub(super) fn assert_golden(name: &str, shot: Shot) {
    let drawn = text(&shot.take());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sink/table/golden").join(name);
    if std::env::var_os("RAMPAGE_BLESS").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(drawn == golden, "{} differs; drawn:\n{drawn}", path.display());
}

#[test]
fn usual_sizes() {
    assert_golden("80x24.txt", Shot::of(80, 24));
    assert_golden("120x40.txt", Shot::of(120, 40));
    assert_golden("40x10.txt", Shot::of(40, 10));
}

#[test]
fn a_tiny_terminal_shows_one_line() {
    assert_golden("39x7.txt", Shot::of(39, 7));
    assert_golden("80x2.txt", Shot::of(80, 2));
}

#[test]
fn filtered_paused_and_scrolled() {
    let state = State {
        filter: "BYST".to_owned(),
        paused: true,
        reversed: true,
        offset: 30,
        ..State::default()
    };
    assert_golden("filtered.txt", Shot { state, ..Shot::of(80, 24) });
}

#[test]
fn help_and_typing() {
    let help = State { help: true, ..State::default() };
    assert_golden("help.txt", Shot { state: help, ..Shot::of(80, 24) });
    let typing = State { typing: true, filter: "ng".to_owned(), ..State::default() };
    assert_golden("typing.txt", Shot { state: typing, ..Shot::of(80, 24) });
}

#[test]
fn every_size_can_be_drawn() {
    for width in 1..=130 {
        for height in [1, 2, 7, 8, 9, 12, 24, 50] {
            let state = State { help: true, ..State::default() };
            Shot { state, ..Shot::of(width, height) }.take();
        }
    }
}

#[test]
fn nothing_steers_the_terminal_and_nothing_is_fancy() {
    let by_swap = State { sort: Sort::Swap, ..State::default() };
    let screen = Shot { state: by_swap, ..Shot::of(120, 40) }.take();
    assert!(text(&screen).contains(r"evil\x1b[2J\u{2"));
    for cell in screen.content() {
        let steers = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!cell.symbol().contains(steers), "{:?}", cell.symbol());
        let known = |c: char| c.is_ascii() || "─東京名前".contains(c);
        assert!(cell.symbol().chars().all(known), "{:?}", cell.symbol());
    }
}

#[test]
fn colour_only_where_it_is_wanted() {
    let reset = |buffer: &Buffer| {
        buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    };
    let plain = Shot::of(80, 24).take();
    assert!(reset(&plain));
    let bold = |cell: &ratatui::buffer::Cell| cell.modifier.contains(Modifier::BOLD);
    assert!(plain.content().iter().any(bold), "urgency shows without colour too");
    let coloured = Shot { colour: true, ..Shot::of(80, 24) }.take();
    assert!(!reset(&coloured));
    assert_eq!(text(&plain), text(&coloured));
}
