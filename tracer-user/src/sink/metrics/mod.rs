//! The sink that counts, and what it knows as a [`Snapshot`] for whoever exposes it. It does no I/O;
//! what only others know (what rampage uses itself, recorder, receivers) is given to it as [`Extra`].

mod cgroups;
mod counts;
mod extra;
mod latency;
mod open;
mod pools;
mod processes;
mod series;
mod tell;

use std::cell::RefCell;
use std::rc::Rc;

pub use extra::Extra;

use super::{Sink, SinkError};
use crate::enrich::clock;
use crate::event::Stamped;
use crate::metrics::Snapshot;
use crate::model::Model;
use crate::settings;
use counts::Counts;

/// Counts every event.
#[derive(Debug)]
pub struct MetricsSink {
    counts: Rc<RefCell<Counts>>,
    clock: fn() -> u64,
}

/// What the sink has counted; outlives the pipeline's hold on the sink.
#[derive(Clone, Debug)]
pub struct Metrics {
    counts: Rc<RefCell<Counts>>,
    clock: fn() -> u64,
}

impl Default for MetricsSink {
    fn default() -> Self {
        Self::with_clock(clock::boot_ns)
    }
}

impl MetricsSink {
    /// A sink that measures latencies by this clock, CLOCK_BOOTTIME ns.
    fn with_clock(clock: fn() -> u64) -> Self {
        Self { counts: Rc::default(), clock }
    }

    /// What it counts.
    pub fn metrics(&self) -> Metrics {
        Metrics { counts: Rc::clone(&self.counts), clock: self.clock }
    }
}

impl Sink for MetricsSink {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        self.counts.borrow_mut().take(model, at, self.clock);
        Ok(())
    }
}

impl Metrics {
    /// All metrics now. Bounded by the settings, whatever the host has; looks at all processes and
    /// cgroups, so it is made when somebody asks, not for each event.
    pub fn snapshot(&self, model: &Model, settings: &settings::Metrics, extra: &Extra) -> Snapshot {
        let now_ns = (self.clock)();
        let mut counts = self.counts.borrow_mut();
        Snapshot {
            t_ns: now_ns,
            wall_ns: counts.wall_offset_ns.saturating_add_unsigned(now_ns),
            families: tell::families(&mut counts, model, settings, extra, now_ns),
        }
    }
}

#[cfg(test)]
mod tests;
