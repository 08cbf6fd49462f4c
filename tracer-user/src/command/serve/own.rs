//! What the metrics tell of the service itself: what it uses, what its recorder and its receivers do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::reload::InForce;
use crate::enrich::usage::Usage;
use crate::kernel::cost::Costs;
use crate::metrics::Snapshot;
use crate::model::Model;
use crate::outbox::Handle;
use crate::sink::metrics::{Extra, Metrics};
use crate::sink::recorder::RecorderHandle;
use crate::sink::{Sink, SinkError};

/// Makes the snapshots.
pub struct Own {
    /// What the pipeline counted.
    pub metrics: Metrics,
    /// None = nothing is recorded.
    pub recorder: Option<RecorderHandle>,
    /// Settings, and how they were changed.
    pub in_force: Rc<InForce>,
    /// Whether the first look at all processes is done, and nothing is lacking.
    pub ready: Rc<Cell<bool>>,
    /// What the kernel programs cost; None = there are none.
    pub costs: Option<Rc<RefCell<Costs>>>,
    /// Memory of all BPF maps, bytes; None = there are none.
    pub bpf_map_bytes: Option<u64>,
    /// The way out; empty until it is there.
    pub outbox: Rc<RefCell<Option<Handle>>>,
}

impl Own {
    /// All metrics now.
    pub fn snapshot(&self, model: &Model) -> Snapshot {
        let settings = self.in_force.settings();
        let outbox = self.outbox.borrow();
        let status = outbox.as_ref().map(Handle::status);
        let courier_ends = status.as_ref().map(|status| status.courier_deaths);
        let status = status.unwrap_or_default();
        let tracer = Usage::of_self().ok().map(|usage| ("tracer", usage));
        let courier = status.courier_tgid.and_then(|tgid| Usage::of(tgid).ok());
        let extra = Extra {
            ready: self.ready.get(),
            usage: tracer.into_iter().chain(courier.map(|usage| ("courier", usage))).collect(),
            bpf_map_bytes: self.bpf_map_bytes,
            programs: self
                .costs
                .as_ref()
                .map_or_else(Vec::new, |costs| costs.borrow().latest().to_vec()),
            recorder: self.recorder.as_ref().map(RecorderHandle::totals),
            courier_ends,
            deliveries: status.deliveries,
            settings_ok: Some(self.in_force.is_current()),
        };
        self.metrics.snapshot(model, &settings.metrics, &extra)
    }
}

/// Measures what the kernel programs cost.
pub struct Weighing(pub Rc<RefCell<Costs>>);

impl Sink for Weighing {
    fn event(&mut self, _: &Model, _: &crate::event::Stamped) -> Result<(), SinkError> {
        Ok(())
    }

    fn pulse(&mut self, _: &Model) -> Result<(), SinkError> {
        self.0.borrow_mut().step(Instant::now());
        Ok(())
    }
}
