//! Events from the kernel programs.

use super::{Flow, Source};
use crate::event::{Config, Stamped};
use crate::kernel::Unsupported;

/// Settings of the live source.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Settings of the trace.
    pub config: Config,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u64,
    /// Mechanisms that must not be used.
    pub forbid: Vec<String>,
    /// 0 = quiet, 1 = debug lines of the kernel programs.
    pub verbose: u8,
}

/// Events from the kernel programs.
pub struct LiveSource {}

impl LiveSource {
    /// Loads and attaches the kernel programs.
    pub fn open(options: &LiveOptions) -> Result<Self, Unsupported> {
        let _ = options;
        Err(Unsupported { reason: "not built".to_owned(), remedy: String::new() })
    }
}

impl Source for LiveSource {
    async fn next(&mut self, _out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
        Ok(Flow::Ended("end"))
    }
}
