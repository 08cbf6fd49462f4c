//! Detectors turn the model's state into findings. They are pure: no clock, no I/O; time comes with
//! the events, so that a replayed trace gives the same findings. A detector is one file here and
//! one line in [`all`].

mod account;
mod attribution;
mod cascade;
mod killed;
mod leak;
mod ledger;
mod oom_verdict;
mod pool;
mod pressure;
mod rule;
mod runaway;
mod sentence;
#[cfg(test)]
mod tests;
mod work;

use crate::event::{Config, Stamped};
use crate::model::Model;

pub use account::{Account, Number, of as account};
pub use ledger::{Ledger, Topic};
pub use rule::{Needs, Rule, Unit};

/// Judges after each event.
pub trait Detector {
    /// Called after `model` has taken in `at`; tells the ledger what holds, and what is over.
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger);

    /// Called when the settings change while running: what is raised from now on goes by them, what
    /// is known and open stays. Horizons and rules for pools are asked of the model each time.
    fn configure(&mut self, config: &Config) {
        let _ = config;
    }
}

/// Every detector, for the settings of this trace.
pub fn all(config: &Config) -> Vec<Box<dyn Detector>> {
    vec![
        // Before those that close their findings at an exit: it asks whom they are about.
        Box::new(killed::KilledDetector::new(config)),
        Box::new(runaway::RunawayDetector::new(config)),
        Box::new(leak::LeakDetector::new(config)),
        Box::new(oom_verdict::OomVerdict::default()),
        Box::new(pool::PoolDetector::new(config)),
        Box::new(pressure::PressureDetector::new(config)),
    ]
}
