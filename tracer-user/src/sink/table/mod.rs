//! The live table on a terminal. It takes its numbers from the model when it draws; of the events it
//! keeps only findings and losses.

mod columns;
mod draw;
mod faults;
mod gauges;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_php;
mod input;
mod keys;
mod log;
mod pages;
mod pools;
mod processes;
mod quantity;
mod read;
mod requests;
mod screen;
mod state;
mod status;
mod theme;
mod top;
mod view;

use std::time::{Duration, Instant};

use ratatui::crossterm::event::Event as TerminalEvent;
use tokio::sync::mpsc;

use self::input::Input;
use self::keys::Reaction;
use self::log::Log;
use self::pages::Pages;
use self::screen::Screen;
use self::state::State;
use self::theme::Theme;
use self::view::View;
use super::filter::Filter;
use super::{Sink, SinkError};
use crate::event::{Event, Stamped};
use crate::model::Model;
use crate::run::Control;

/// Events alone cause no more than four drawings a second; a key is answered at once.
const DRAW_EVERY: Duration = Duration::from_millis(250);
const DRAW_EVERY_NS: u64 = 250_000_000;

/// Shows the model as a table until the user quits.
pub struct TableSink {
    screen: Screen,
    input: Input,
    control: mpsc::Sender<Control>,
    theme: Theme,
    pages: Pages,
    state: State,
    view: View,
    log: Log,
    log_on_screen: Log,
    dirty: bool,
    pressed: bool,
    quitting: bool,
    drawn: Option<Instant>,
    draw_from_ns: u64,
}

impl TableSink {
    /// Takes the terminal at standard output. The loop that drives the table must answer
    /// `control`. Without `colour` (NO_COLOR) weight and reversal take its place.
    pub fn open(
        filter: Filter,
        control: mpsc::Sender<Control>,
        colour: bool,
    ) -> std::io::Result<Self> {
        let screen = Screen::enter()?;
        Ok(Self {
            screen,
            input: Input::spawn(control.clone())?,
            control,
            theme: Theme { colour },
            pages: Pages::new(filter),
            state: State::default(),
            view: View::default(),
            log: Log::default(),
            log_on_screen: Log::default(),
            dirty: true,
            pressed: true,
            quitting: false,
            drawn: None,
            draw_from_ns: 0,
        })
    }

    /// Takes in keys, and draws when it is time.
    fn show(&mut self, model: &Model) -> Result<(), SinkError> {
        self.take_input();
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY);
        let changed = self.pressed || (self.dirty && due);
        if !changed || !self.screen.is_ready().map_err(terminal_error)? {
            return Ok(());
        }
        self.draw(model).map_err(terminal_error)?;
        self.dirty = false;
        self.pressed = false;
        self.drawn = Some(Instant::now());
        self.draw_from_ns = model.now_ns().saturating_add(DRAW_EVERY_NS);
        Ok(())
    }

    fn take_input(&mut self) {
        while let Some(event) = self.input.next() {
            self.pressed |= match event {
                TerminalEvent::Key(key) => match keys::press(&mut self.state, key) {
                    Reaction::Ignored => false,
                    Reaction::Changed => true,
                    Reaction::Quit => {
                        self.quitting = true;
                        false
                    }
                },
                TerminalEvent::Resize(..) => true,
                _ => false,
            };
        }
        if self.quitting {
            // A full channel holds another wake-up, which comes back here.
            let _ = self.control.try_send(Control::Quit("quit"));
        }
    }

    fn draw(&mut self, model: &Model) -> std::io::Result<()> {
        self.state.page = draw::rows_that_fit(self.screen.size()?, self.state.subject);
        if !self.state.paused {
            self.log_on_screen.clone_from(&self.log);
        }
        self.pages.turn(model, &self.state, &mut self.view);
        self.state.offset = self.view.page.first;
        self.log_on_screen.lost = self.log.lost;
        let Self { screen, view, state, log_on_screen, theme, .. } = self;
        screen.draw(|frame| draw::draw(frame, view, state, log_on_screen, *theme))
    }
}

impl Sink for TableSink {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            Event::Finding(finding) => {
                self.log.push(finding, at.wall_ns);
                self.draw_from_ns = 0;
            }
            Event::Lost(lost) => self.log.lost = self.log.lost.saturating_add(lost.records),
            _ => {}
        }
        self.dirty |= !self.state.paused;
        // The time of the event spares a look at the clock for most of a million events a second.
        if at.t_ns < self.draw_from_ns {
            return Ok(());
        }
        self.show(model)
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        self.show(model)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.screen.leave();
        Ok(())
    }
}

fn terminal_error(error: std::io::Error) -> SinkError {
    SinkError::writing("the terminal", error)
}
