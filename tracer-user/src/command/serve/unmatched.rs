//! Rules of the settings for PHP pools that match none: said once, when there was time to see them all.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::reload::InForce;
use crate::event::Stamped;
use crate::model::Model;
use crate::sink::{Sink, SinkError};

/// After the start or a change of the settings.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at the pools that are known.
#[derive(Debug)]
pub struct Unmatched {
    in_force: Rc<InForce>,
    generation: u64,
    /// When it is time to say so; None = it was said.
    due: Option<Instant>,
}

impl Unmatched {
    /// For these settings.
    pub fn new(in_force: Rc<InForce>) -> Self {
        Self { generation: in_force.generation(), in_force, due: Some(Instant::now() + PATIENCE) }
    }
}

impl Sink for Unmatched {
    fn event(&mut self, _: &Model, _: &Stamped) -> Result<(), SinkError> {
        Ok(())
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        let generation = self.in_force.generation();
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.due = Some(Instant::now() + PATIENCE);
        }
        if self.due.take_if(|due| Instant::now() >= *due).is_some() {
            let loaded = self.in_force.loaded();
            for warning in loaded.unmatched_pools(model.pools().map(|pool| &**pool.name)) {
                tracing::warn!("{warning}");
            }
        }
        Ok(())
    }
}
