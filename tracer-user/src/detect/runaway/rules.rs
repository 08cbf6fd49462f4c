//! What must hold for a process to be named a runaway.

use crate::detect::rule::{Needs, Rule};
use crate::model::{Forecast, Model, Rise};

/// Growth up to this is warm-up: a PHP worker that meets the application's code for the first time
/// takes 5 to 10 MiB.
const WARM_UP_BYTES: u64 = 16 << 20;
/// Growth that has lasted d is expected to last this times d more: it has then used a fifth of the
/// room that it found.
const OUTLASTS: f64 = 4.0;
const _: () = assert!(OUTLASTS == 4.0, "the rule's words say 4 times");
/// Growth that is over sooner was one large allocation; nobody could act on it in time either, s.
const SUSTAINED_S: f64 = 0.1;
/// The driver holds at least this share of the growth towards its limit.
const SHARE: f64 = 0.5;
/// A limit that is reached sooner is critical, s.
const CRITICAL_S: f64 = 10.0;
/// An episode without growth for this long is over, ns.
const STILL_NS: u64 = 10_000_000_000;
/// A PHP worker that uses less of its memory_limit than this is far from it.
const MEMORY_LIMIT_SHARE: f64 = 0.5;

/// Growth that is more than warm-up, more than one allocation, and goes on.
pub(super) fn growth(model: &Model, rise: &Rise<'_>) -> [Rule; 3] {
    [
        Rule::bytes(
            "grown beyond earlier peaks",
            rise.novel_bytes(),
            Needs::AtLeast,
            WARM_UP_BYTES,
        ),
        Rule::seconds("time that it grew", rise.growing_s(), Needs::AtLeast, SUSTAINED_S),
        fresh(model, rise),
    ]
}

/// Whether so much may have been grown by a runaway.
pub(super) fn is_more_than_warm_up(bytes: u64) -> bool {
    bytes >= WARM_UP_BYTES
}

/// It grew lately.
pub(super) fn fresh(model: &Model, rise: &Rise<'_>) -> Rule {
    let still_ns = model.now_ns().saturating_sub(rise.last_growth_ns());
    Rule::seconds("since its last growth", seconds(still_ns), Needs::AtMost, seconds(STILL_NS))
}

/// The limit is near enough, and the growth has lasted long enough to last until there.
pub(super) fn time(eta_s: f64, horizon_s: f64, rise: &Rise<'_>) -> [Rule; 2] {
    [
        Rule::seconds("time left, against the horizon", eta_s, Needs::LessThan, horizon_s),
        Rule::seconds(
            "time left, against 4 times the time that it grew",
            eta_s,
            Needs::AtMost,
            OUTLASTS * rise.growing_s(),
        ),
    ]
}

/// Nobody else drives the limit as much.
pub(super) fn share(share: f64) -> Rule {
    Rule::share("share of all growth towards the limit", share, Needs::AtLeast, SHARE)
}

/// There is hardly time to act.
pub(super) fn critical(eta_s: f64) -> Rule {
    Rule::seconds("time left, to be critical", eta_s, Needs::LessThan, CRITICAL_S)
}

/// A PHP worker is near its memory_limit.
pub(super) fn memory_limit(limit: &Forecast) -> Rule {
    let used = limit.limit_bytes.saturating_sub(limit.headroom_bytes);
    let share = used as f64 / limit.limit_bytes as f64;
    Rule::share("used of its memory_limit", share, Needs::AtLeast, MEMORY_LIMIT_SHARE)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
