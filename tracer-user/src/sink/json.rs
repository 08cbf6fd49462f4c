//! Events and findings as JSON Lines on the standard output: the lines of a trace file, filtered.

use std::io::{self, Write};

use super::filter::Filter;
use super::{Sink, SinkError};
use crate::event::{Event, Stamped};
use crate::model::Model;
use crate::trace::lines::{Encoder, LineError};

/// Bytes after which lines are written without waiting for a tick.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints JSON Lines.
pub struct Json<W: Write> {
    output: W,
    filter: Filter,
    encoder: Encoder,
    buffer: Vec<u8>,
}

impl Json<io::StdoutLock<'static>> {
    /// To the standard output.
    pub fn stdout(filter: Filter) -> Self {
        Self::new(io::stdout().lock(), filter)
    }
}

impl<W: Write> Json<W> {
    /// To `output`.
    pub fn new(output: W, filter: Filter) -> Self {
        Self { output, filter, encoder: Encoder::default(), buffer: Vec::new() }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let written = self.output.write_all(&self.buffer).and_then(|()| self.output.flush());
        self.buffer.clear();
        written.map_err(|error| SinkError::writing("standard output", error))
    }
}

impl<W: Write> Sink for Json<W> {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        if self.filter.shows(model, at) {
            match self.encoder.encode(at, &mut self.buffer) {
                Ok(()) => {}
                Err(error @ LineError::TooLong) => tracing::warn!("an event was left out: {error}"),
                Err(error) => {
                    return Err(SinkError::writing("standard output", io::Error::other(error)));
                }
            }
        }
        let urgent = matches!(at.event, Event::Tick(_) | Event::Finding(_) | Event::End(_));
        if urgent || self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn pulse(&mut self, _model: &Model) -> Result<(), SinkError> {
        self.flush()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Config, Lost, Tick};
    use crate::trace::lines::decode;

    #[test]
    fn lines_are_those_of_a_trace_and_go_out_with_each_tick() {
        let model = Model::new(&Config::default());
        let mut written = Vec::new();
        let mut sink = Json::new(&mut written, Filter::default());
        let lost = Event::Lost(Lost { source: "a\"\x1b".into(), records: 1 });
        let events = [lost, Event::Tick(Tick {})];
        let events = events.map(|event| Stamped { t_ns: 1, wall_ns: 2, event });
        for at in &events {
            sink.event(&model, at).unwrap();
        }
        assert!(sink.buffer.is_empty());
        let lines =
            written.split_inclusive(|byte| *byte == b'\n').map(|line| decode(line).unwrap());
        assert_eq!(lines.collect::<Vec<_>>(), events);
    }

    #[test]
    fn looks_into_php_go_out_with_their_process() {
        let mut script = crate::model::script::Script::new();
        script.worker(4, "www", "/web");
        let mut look = crate::event::look::Look::new(4, crate::model::script::key(4).start_ns);
        crate::model::script::in_request(&mut look, "/a\x1b", 0.5, 7);
        let looked = Stamped { t_ns: 1, wall_ns: 2, event: Event::Php(Box::new(look)) };
        let found = Event::Process(crate::event::Process {
            tgid: 4,
            start_ns: crate::model::script::key(4).start_ns,
            ppid: 1,
            comm: "php-fpm".into(),
            cmdline: None,
            exe: None,
            uid: 33,
            cgroup: Some("/web".into()),
            php: None,
            cause: crate::event::ProcessCause::Found,
        });
        let found = Stamped { t_ns: 1, wall_ns: 2, event: found };
        for (tgid, lines) in [(4, 2), (5, 0)] {
            let only = crate::event::Filters { tgid: vec![tgid], ..Default::default() };
            let mut written = Vec::new();
            let mut sink = Json::new(&mut written, Filter::new(&only).unwrap());
            sink.event(&script.model, &found).unwrap();
            sink.event(&script.model, &looked).unwrap();
            sink.finish().unwrap();
            let written: Vec<_> = written
                .split_inclusive(|byte| *byte == b'\n')
                .map(|l| decode(l).unwrap())
                .collect();
            assert_eq!(written.len(), lines);
            assert!(written.last().is_none_or(|last| *last == looked));
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let model = Model::new(&Config::default());
        let at = Stamped { t_ns: 1, wall_ns: 2, event: Event::Tick(Tick {}) };
        let ended = Json::new(Gone, Filter::default()).event(&model, &at);
        assert!(matches!(ended, Err(SinkError::Closed)));
    }
}
