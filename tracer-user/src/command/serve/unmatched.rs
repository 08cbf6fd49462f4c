//! Rules of the settings for PHP pools that match none: said once, when there was time to see them all.

use std::rc::Rc;

use super::reload::InForce;
use crate::event::Stamped;
use crate::model::Model;
use crate::sink::{Sink, SinkError};

/// Seconds after the start or a change of the settings.
const PATIENCE: u32 = 60;

/// Looks at the pools that are known.
#[derive(Debug)]
pub struct Unmatched {
    in_force: Rc<InForce>,
    generation: u64,
    pulses: u32,
}

impl Unmatched {
    /// For these settings.
    pub fn new(in_force: Rc<InForce>) -> Self {
        Self { generation: in_force.generation(), in_force, pulses: 0 }
    }
}

impl Sink for Unmatched {
    fn event(&mut self, _: &Model, _: &Stamped) -> Result<(), SinkError> {
        Ok(())
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        let generation = self.in_force.generation();
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.pulses = 0;
        }
        if self.pulses > PATIENCE {
            return Ok(());
        }
        self.pulses += 1;
        if self.pulses > PATIENCE {
            let loaded = self.in_force.loaded();
            for warning in loaded.unmatched_pools(model.pools().map(|pool| &**pool.name)) {
                tracing::warn!("{warning}");
            }
        }
        Ok(())
    }
}
