//! What the tests of this folder share.

use crate::event::Finding;

/// A finding about a PHP worker in /php/www, with this id.
pub fn finding(id: u64) -> Finding {
    let finding = serde_json::from_str(include_str!("finding.json")).unwrap();
    Finding { id, ..finding }
}
