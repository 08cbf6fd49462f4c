//! procfs.

use super::{Flow, Source};
use crate::event::{Config, Stamped};

/// Events from polling.
pub struct ProcfsSource {}

impl ProcfsSource {
    /// Opens /proc.
    pub fn open(_config: &Config) -> anyhow::Result<Self> {
        Ok(Self {})
    }
}

impl Source for ProcfsSource {
    async fn next(&mut self, _out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
        Ok(Flow::Ended("end"))
    }
}
