//! What the snapshot tells of things that the pipeline does not see.

use crate::enrich::usage::Usage;
use crate::kernel::cost::ProgramCost;
use crate::outbox::protocol::Delivery;
use crate::sink::recorder::Totals;

/// What others know. What is left empty has no series.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// The first look at all processes is done, and the source is the one that is wanted.
    pub ready: bool,
    /// What rampage's own processes use: `tracer`, `courier`.
    pub usage: Vec<(&'static str, Usage)>,
    /// Memory of all BPF maps, bytes; None = there are none.
    pub bpf_map_bytes: Option<u64>,
    /// What the kernel programs cost when it was last measured.
    pub programs: Vec<ProgramCost>,
    /// The recorder, also one that could not begin; None = it is off.
    pub recorder: Option<Totals>,
    /// Times that the courier ended by itself; None = there is no way out.
    pub courier_ends: Option<u64>,
    /// What became of alerts, each receiver once.
    pub deliveries: Vec<Delivery>,
    /// Whether the settings could be read at the last attempt; None = there is no file.
    pub settings_ok: Option<bool>,
}
