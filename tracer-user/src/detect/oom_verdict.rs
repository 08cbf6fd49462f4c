//! `oom_verdict`.
use super::Detector;
use crate::event::{Finding, Stamped};
use crate::model::Model;

/// Judges kills.
#[derive(Default)]
pub struct OomVerdict {}

impl Detector for OomVerdict {
    fn observe(&mut self, _model: &Model, _at: &Stamped, _findings: &mut Vec<Finding>) {}
}
