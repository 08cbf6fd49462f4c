//! What the snapshot tells of things that the pipeline does not see.

use crate::enrich::usage::Usage;
use crate::kernel::cost::ProgramCost;
use crate::outbox::protocol::Delivery;
use crate::sink::recorder::Totals;

/// What others know. What is left empty has no series.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Everything is attached and the first look at all processes is done.
    pub ready: bool,
    /// What rampage's own processes use: `tracer`, `courier`.
    pub usage: Vec<(&'static str, Usage)>,
    /// Memory of all BPF maps, bytes; None = there are none.
    pub bpf_map_bytes: Option<u64>,
    /// What the kernel programs cost when it was last measured.
    pub programs: Vec<ProgramCost>,
    /// The recorder; None = it is off.
    pub recorder: Option<RecorderTotals>,
    /// What became of alerts, each receiver once.
    pub deliveries: Vec<Delivery>,
    /// Whether the settings could be read at the last attempt; None = there is no file.
    pub settings_ok: Option<bool>,
}

/// What the recorder did since its start, and what it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecorderTotals {
    /// Events written.
    pub events: u64,
    /// Bytes written, compressed.
    pub bytes: u64,
    /// Events that could not be written.
    pub lost: u64,
    /// Segments that are kept.
    pub segments: u64,
    /// What they take on the disk, bytes.
    pub segment_bytes: u64,
    /// Incidents that are kept.
    pub incidents: u64,
    /// Age of the oldest event that is not known to be on the disk, s; 0 = all are.
    pub unsynced_s: f64,
    /// It cannot write now.
    pub is_failing: bool,
}

impl From<&Totals> for RecorderTotals {
    fn from(totals: &Totals) -> Self {
        Self {
            events: totals.events,
            bytes: totals.bytes,
            lost: totals.lost,
            segments: totals.segments,
            segment_bytes: totals.segment_bytes,
            incidents: totals.incidents,
            unsynced_s: 0.0,
            is_failing: totals.failing.is_some(),
        }
    }
}
