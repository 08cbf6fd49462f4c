//! What the unit tests of this crate share.

use std::sync::Arc;

use rampage::event::Finding;
use rampage::outbox::protocol::Alert;
use tokio::time::Instant;

use crate::receiver::{About, Told};

/// A finding about a worker of the pool www.
pub fn finding(id: u64, severity: &str, state: &str) -> Finding {
    let json = serde_json::json!({
        "id": id, "state": state, "kind": "pressure", "severity": severity,
        "subject": {"tgid": 7, "start_ns": 1, "comm": "php-fpm", "pool": "www", "cgroup": "/php"},
        "summary": "processes wait for memory",
        "evidence": {
            "form": "stalled",
            "limit": {"kind": "host", "path": null, "bytes": 2, "headroom_bytes": 1},
            "stall_share": 1.5, "some_avg10": null, "full_avg10": null,
            "growers": [], "waiters": [], "largest": null
        }
    });
    serde_json::from_value(json).unwrap()
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
