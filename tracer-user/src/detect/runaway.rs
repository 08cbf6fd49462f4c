//! `runaway`.
use super::Detector;
use crate::event::{Config, Finding, Stamped};
use crate::model::Model;

/// Finds runaways.
pub struct RunawayDetector {}

impl RunawayDetector {
    /// For these settings.
    pub fn new(_config: &Config) -> Self {
        Self {}
    }
}

impl Detector for RunawayDetector {
    fn observe(&mut self, _model: &Model, _at: &Stamped, _findings: &mut Vec<Finding>) {}
}
