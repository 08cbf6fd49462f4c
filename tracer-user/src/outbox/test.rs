//! What the tests of this folder share.

use crate::event::Finding;

/// A finding about a PHP worker in /php/www, with this id.
pub fn finding(id: u64) -> Finding {
    let json = r#"{
        "id": 0, "state": "raised", "kind": "pressure", "severity": "warning",
        "subject": {"tgid": 7, "start_ns": 1, "comm": "php-fpm", "pool": "www", "cgroup": "/php/www"},
        "summary": "processes wait for memory",
        "evidence": {
            "form": "stalled",
            "limit": {"kind": "host", "path": null, "bytes": 2, "headroom_bytes": 1},
            "stall_share": 1.5, "some_avg10": null, "full_avg10": null,
            "growers": [], "waiters": [], "largest": null
        }
    }"#;
    let mut finding: Finding = serde_json::from_str(json).unwrap();
    finding.id = id;
    finding
}
