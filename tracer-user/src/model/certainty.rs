//! How far the figures can be believed: since when there is anything to see, what was lost, and where
//! time passed without events.

use std::collections::VecDeque;

/// Moments with losses that are told apart; older ones are summed up.
const MOMENTS: usize = 128;
/// So many intervals without any event are a gap: the host was suspended, the tracer stopped, or a
/// clock stepped …
const GAP_INTERVALS: u64 = 5;
/// … and not fewer than this: a tracer that is short of memory itself is slow, ns.
const GAP_NS: u64 = 10_000_000_000;
/// After so many intervals every process and limit was reported once.
const SETTLE_INTERVALS: u64 = 2;

/// What is known of what is not known.
#[derive(Debug, Default)]
pub(super) struct Certainty {
    began_ns: Option<u64>,
    last_ns: u64,
    /// Until then sizes are taken as they are, after a gap.
    settled_ns: u64,
    growth: Losses,
    waiting: Losses,
}

/// Losses of one kind, the oldest first.
type Losses = VecDeque<Loss>;

/// Records that were lost up to a time.
#[derive(Clone, Copy, Debug)]
struct Loss {
    t_ns: u64,
    records: u64,
}

/// Which figures a loss makes uncertain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affected {
    /// Sizes, and who lives.
    Growth,
    /// Times of waiting.
    Waiting,
}

impl Certainty {
    /// An event came.
    pub fn event(&mut self, t_ns: u64, interval_ns: u64) {
        if self.began_ns.is_none() {
            (self.began_ns, self.last_ns) = (Some(t_ns), t_ns);
        }
        let gap_ns = GAP_NS.max(interval_ns.saturating_mul(GAP_INTERVALS));
        if t_ns.saturating_sub(self.last_ns) > gap_ns {
            self.settled_ns = t_ns.saturating_add(interval_ns.saturating_mul(SETTLE_INTERVALS));
        }
        self.last_ns = self.last_ns.max(t_ns);
    }

    /// Time of the first event, ns.
    pub fn began_ns(&self) -> u64 {
        self.began_ns.unwrap_or(0)
    }

    /// Growth before this time, if any, is of a gap: no rate is taken over it, ns.
    pub fn settled_ns(&self) -> u64 {
        self.settled_ns
    }

    /// Records were lost since the last time that this was told.
    pub fn lost(&mut self, t_ns: u64, source: &str, records: u64) {
        let losses = match affected(source) {
            Some(Affected::Growth) => &mut self.growth,
            Some(Affected::Waiting) => &mut self.waiting,
            None => return,
        };
        if let Some(last) = losses.back_mut().filter(|last| last.t_ns >= t_ns) {
            last.records = last.records.saturating_add(records);
            return;
        }
        if losses.len() >= MOMENTS
            && let Some(oldest) = losses.pop_front()
            && let Some(next) = losses.front_mut()
        {
            next.records = next.records.saturating_add(oldest.records);
        }
        losses.push_back(Loss { t_ns, records });
    }

    /// Records that were lost since a time.
    pub fn lost_since(&self, since_ns: u64, of: Affected) -> u64 {
        let losses = match of {
            Affected::Growth => &self.growth,
            Affected::Waiting => &self.waiting,
        };
        let counts = |loss: &&Loss| loss.t_ns >= since_ns;
        losses.iter().filter(counts).map(|loss| loss.records).fold(0, u64::saturating_add)
    }
}

/// None = samples of PHP, requests and counts of faults: nothing is judged by how many there are; and
/// alerts, which are lost behind the judgement.
fn affected(source: &str) -> Option<Affected> {
    let is_one_of = |starts: &[&str]| starts.iter().any(|start| source.starts_with(start));
    let of_stalls = ["ring:stall", "missed:memcg_", "missed:direct_"];
    let of_php = ["ring:request_", "ring:php_", "missed:request_", "php:", "map:suspects"];
    match source {
        _ if is_one_of(&of_stalls) => Some(Affected::Waiting),
        "kernel:threads" | "alerts" => None,
        _ if source.starts_with("alert:") => None,
        _ if is_one_of(&of_php) => None,
        _ => Some(Affected::Growth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn losses_are_counted_since_a_time() {
        let mut certainty = Certainty::default();
        certainty.lost(10 * S, "ring:growth", 5);
        certainty.lost(10 * S, "map:procs", 2);
        certainty.lost(20 * S, "enrich:queue", 1);
        certainty.lost(20 * S, "ring:php_stack", 100);
        certainty.lost(20 * S, "alerts", 100);
        certainty.lost(20 * S, "alert:webhook:ops", 100);
        certainty.lost(20 * S, "ring:stall", 7);
        certainty.lost(20 * S, "missed:memcg_end", 3);
        assert_eq!(certainty.lost_since(0, Affected::Growth), 8);
        assert_eq!(certainty.lost_since(11 * S, Affected::Growth), 1);
        assert_eq!(certainty.lost_since(21 * S, Affected::Growth), 0);
        assert_eq!(certainty.lost_since(0, Affected::Waiting), 10);
    }

    #[test]
    fn losses_are_bounded_and_none_is_forgotten() {
        let mut certainty = Certainty::default();
        for s in 0..10_000 {
            let source = if s % 3 == 0 { "ring:stall" } else { "ring:fork" };
            certainty.lost(s * S, source, 1);
        }
        certainty.lost(10_000 * S, "ring:fork", u64::MAX);
        assert!(certainty.growth.len().max(certainty.waiting.len()) <= MOMENTS);
        assert_eq!(certainty.lost_since(0, Affected::Waiting), 3334);
        assert_eq!(certainty.lost_since(9_990 * S, Affected::Waiting), 4);
        assert_eq!(certainty.lost_since(0, Affected::Growth), u64::MAX);
    }

    #[test]
    fn a_rare_loss_is_not_forgotten_for_many_others() {
        let mut certainty = Certainty::default();
        certainty.lost(S, "ring:stall", 5);
        for s in 2..1000 {
            certainty.lost(s * S, "ring:fork", 1);
        }
        assert_eq!(certainty.lost_since(0, Affected::Waiting), 5);
        assert_eq!(certainty.lost_since(0, Affected::Growth), 998);
    }

    #[test]
    fn time_without_events_is_a_gap_and_waiting_for_a_tick_is_none() {
        let mut certainty = Certainty::default();
        for t_ns in [1000 * S, 1001 * S, 1010 * S, 1005 * S, 1020 * S] {
            certainty.event(t_ns, S);
            assert_eq!(certainty.settled_ns(), 0);
        }
        certainty.event(4000 * S, S);
        assert_eq!((certainty.began_ns(), certainty.settled_ns()), (1000 * S, 4002 * S));
        certainty.event(u64::MAX, S);
        assert_eq!(certainty.settled_ns(), u64::MAX);
        let mut slow = Certainty::default();
        for t_ns in [0, 60 * S, 300 * S] {
            slow.event(t_ns, 60 * S);
        }
        assert_eq!(slow.settled_ns(), 0);
    }
}
