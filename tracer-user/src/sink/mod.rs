//! Where events and findings go: the terminal ([`plain`], [`table`]), JSON Lines ([`json`]), trace files
//! ([`trace_file`]); and, of the service, the flight recorder ([`recorder`]) and the metrics ([`metrics`]).

mod append;
mod block;
pub mod filter;
pub mod json;
pub mod metrics;
mod next_victim;
pub mod plain;
pub mod recorder;
mod requests;
mod snapshot;
pub mod table;
pub mod trace_file;

use crate::event::Stamped;
use crate::model::Model;

/// Takes every event of the pipeline, findings among them, in order.
pub trait Sink {
    /// Called after `model` has taken in `at`. An error ends the run; losses that can be lived
    /// with are counted and said instead. A reader that went away (EPIPE) is [`SinkError::Closed`].
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError>;

    /// Called about once a second of real time while the run waits for events, and whenever a
    /// redraw is asked for: what is buffered goes out, what is drawn may be drawn anew.
    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        let _ = model;
        Ok(())
    }

    /// Called once, after the `end` event.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Losses of the sink itself since the last call, to become a `lost` event.
    fn take_lost(&mut self) -> Option<crate::event::Lost> {
        None
    }
}

/// Why a sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The reader of the output went away: a success, as for any filter.
    #[error("the reader of the output went away")]
    Closed,
    /// Writing failed.
    #[error("cannot write {path}: {source}")]
    Write {
        /// What was written to.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl SinkError {
    /// Wraps an error of writing to `path`; a broken pipe becomes [`SinkError::Closed`].
    pub fn writing(path: &str, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Write { path: path.to_owned(), source }
        }
    }
}
