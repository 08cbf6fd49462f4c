//! The one pipeline: event → model → detectors → sinks.

use crate::detect::{self, Detector, Ledger};
use crate::event::{Config, End, Event, Stamped};
use crate::model::Model;
use crate::sink::{Sink, SinkError};

/// Model, detectors and sinks behind any source.
pub struct Pipeline<'a> {
    model: Model,
    detectors: Vec<Box<dyn Detector>>,
    sinks: Vec<&'a mut dyn Sink>,
    ledger: Ledger,
    events: u64,
    lost: u64,
    last: (u64, i64),
}

impl<'a> Pipeline<'a> {
    /// A pipeline that ends in `sinks`. Settings are taken from the header, the first event.
    pub fn new(sinks: Vec<&'a mut dyn Sink>) -> Self {
        let config = Config::default();
        Self {
            model: Model::new(&config),
            detectors: detect::all(&config),
            sinks,
            ledger: Ledger::default(),
            events: 0,
            lost: 0,
            last: (0, 0),
        }
    }

    /// What is known now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Time of the last event: CLOCK_BOOTTIME ns, and ns since 1970.
    pub fn last(&self) -> (u64, i64) {
        self.last
    }

    /// Takes one event through the whole pipeline.
    pub fn feed(&mut self, at: &Stamped) -> Result<(), SinkError> {
        match &at.event {
            // Findings of a recorded run must come again by themselves; its end is not ours.
            Event::Finding(_) | Event::End(_) | Event::Unknown => return Ok(()),
            Event::Header(header) => {
                self.model = Model::new(&header.config);
                self.detectors = detect::all(&header.config);
                self.ledger = Ledger::default();
            }
            Event::Lost(lost) => self.lost = self.lost.saturating_add(lost.records),
            _ => {}
        }
        self.last = (at.t_ns, at.wall_ns);
        self.model.apply(at);
        self.emit(at)?;
        for detector in &mut self.detectors {
            detector.observe(&self.model, at, &mut self.ledger);
        }
        for finding in self.ledger.take_news() {
            self.emit(&Stamped {
                t_ns: at.t_ns,
                wall_ns: at.wall_ns,
                event: Event::Finding(Box::new(finding)),
            })?;
        }
        if matches!(at.event, Event::Tick(_)) {
            self.collect_losses(at.t_ns, at.wall_ns)?;
        }
        Ok(())
    }

    /// Changes the settings of the run, at the time of its last event.
    pub fn configure(&mut self, config: Box<Config>) -> Result<(), SinkError> {
        let (t_ns, wall_ns) = self.last;
        self.feed(&Stamped { t_ns, wall_ns, event: Event::Config(config) })
    }

    /// Lets the sinks flush and redraw, without an event.
    pub fn pulse(&mut self) -> Result<(), SinkError> {
        self.sinks.iter_mut().try_for_each(|sink| sink.pulse(&self.model))
    }

    /// Ends the run: last losses, the `end` event, and the sinks' own endings.
    pub fn finish(&mut self, reason: &str) -> Result<(), SinkError> {
        let (t_ns, wall_ns) = self.last;
        self.collect_losses(t_ns, wall_ns)?;
        let end = End { reason: reason.to_owned(), events: self.events, lost: self.lost };
        self.emit(&Stamped { t_ns, wall_ns, event: Event::End(end) })?;
        for sink in &mut self.sinks {
            sink.finish()?;
        }
        Ok(())
    }

    fn collect_losses(&mut self, t_ns: u64, wall_ns: i64) -> Result<(), SinkError> {
        for at in 0..self.sinks.len() {
            if let Some(lost) = self.sinks[at].take_lost() {
                self.lost = self.lost.saturating_add(lost.records);
                self.emit(&Stamped { t_ns, wall_ns, event: Event::Lost(lost) })?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, at: &Stamped) -> Result<(), SinkError> {
        self.events += 1;
        for sink in &mut self.sinks {
            sink.event(&self.model, at)?;
        }
        Ok(())
    }
}
