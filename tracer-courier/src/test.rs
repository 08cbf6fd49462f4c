//! What the unit tests of this crate share.

use std::sync::Arc;

use rampage::event::{Finding, FindingState, Severity};
use rampage::outbox::protocol::Alert;
use tokio::time::Instant;

use crate::receiver::{About, Told};

/// A finding about a worker of the pool www.
pub fn finding(id: u64, severity: Severity, state: FindingState) -> Finding {
    let text = include_str!("../../tracer-user/src/outbox/finding.json");
    Finding { id, severity, state, ..serde_json::from_str(text).unwrap() }
}

/// It on its way out, from the host web-3.
pub fn told(finding: Finding) -> Told {
    Told {
        about: Arc::new(About {
            host: "web-3".to_owned(),
            version: "1.2.3".to_owned(),
            boot_id: "b00t".to_owned(),
        }),
        alert: Alert { t_ns: 1_000, wall_ns: 1_700_000_000_000_000_000, finding },
        since: Instant::now(),
    }
}
